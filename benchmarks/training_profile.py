"""
What do our training steps spend their time on? The steps of training.py under the profiler of torch: the fraction of
each kind of work, by the time of its operators.

    python benchmarks/training_profile.py --quick --record
"""

import torch
from devices import CUDA
from results import markdown_table, record
from torch.autograd import DeviceType
from training import BenchmarkConfig, parse_benchmark, work

from lmsys_trl.terminal import run_recipe

KINDS = {  # operators of torch, as the profiler names them
    "matrix products of the layers and LoRA": ("mm", "addmm", "linear", "matmul", "mkldnn_convolution"),
    "attention: products and softmax": ("bmm", "baddbmm", "_softmax", "_softmax_backward_data"),
    "casts between float32 and bfloat16, copies": ("copy_", "_to_copy", "clone", "cat"),
    "elementwise: norms, activations, sums": (
        "mul", "add", "add_", "mul_", "neg", "silu", "silu_backward", "pow", "mean", "sum", "rsqrt", "div", "gelu",
        "tanh", "gelu_backward", "tanh_backward", "fill_", "masked_fill_", "sigmoid",
    ),
}  # fmt: skip


def main():
    config = parse_benchmark()
    tables = [show_profile(model, config) for model in config.models]
    if config.record:
        record("training_profile", *tables)


def show_profile(model: str, config: BenchmarkConfig) -> str:
    """The table of a model, which is printed."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if CUDA:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        work("ours", model, config, None)
    time_of = "self_device_time_total" if CUDA else "self_cpu_time_total"
    # A GPU's kernels are listed on their own too, and once more as the time of the operator that started them.
    events = [event for event in profiler.key_averages() if event.device_type == DeviceType.CPU]
    total = sum(getattr(event, time_of) for event in events)
    kinds = dict.fromkeys([*KINDS, "the optimizer", "all else"], 0.0)
    for event in events:
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in KINDS.items() if name in names), "all else")
        kinds["the optimizer" if "Optimizer" in name or "_foreach" in name else kind] += getattr(event, time_of)
    title = f"{model}, {config.steps + 1} steps and their preparation"
    rows = [[kind, f"{time / total:.1%}"] for kind, time in sorted(kinds.items(), key=lambda item: -item[1])]
    table = markdown_table([title, f"of {total / 1e6:.0f} seconds of all operators"], rows)
    print(f"\n{table}", flush=True)
    return table


if __name__ == "__main__":
    run_recipe(main)
