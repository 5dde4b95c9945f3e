"""The device that benchmarks run on: the GPU if there is one, else the CPU. Its name, memory and clock."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
GIB = 2**30


def device_name() -> str:
    """What a table calls the device: numbers mean nothing without it."""
    if CUDA:
        return f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / GIB:.0f} GiB"
    return _processor()


def machine_name() -> str:
    """Processor and memory, and the GPU if there is one."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    processor = f"{_processor()}, {gib:.0f} GiB memory"
    return f"{device_name()}, {processor}" if CUDA else processor


def synchronize() -> None:
    """Wait for the GPU to finish what it was given."""
    if CUDA:
        torch.cuda.synchronize()


def timed(function: Callable[[], object]) -> float:
    """Seconds that a function takes, with all that it gives the GPU to do."""
    synchronize()
    began = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - began


def reset_peak_memory() -> float:
    """Measure the peak from here on. Returns the GiB in use now: by tensors on the GPU, or by this process."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / GIB
    Path("/proc/self/clear_refs").write_text("5")
    return _process_memory("VmRSS")


def peak_memory() -> float:
    """The most GiB in use since [`reset_peak_memory`]."""
    return torch.cuda.max_memory_allocated() / GIB if CUDA else _process_memory("VmHWM")


def _processor() -> str:
    processors = Path("/proc/cpuinfo")
    lines = processors.read_text(encoding="utf-8").splitlines() if processors.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _process_memory(name: str) -> float:
    """GiB of this process: `VmRSS` now, or `VmHWM` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20
