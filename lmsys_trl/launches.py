"""What is wrong with a configuration of accelerate, and with a recipe started with it: each problem with its mend."""

from difflib import get_close_matches
from pathlib import Path

import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from trl import ModelConfig, SFTConfig


def read_launch(path: str | Path) -> tuple[ClusterConfig | None, list[str]]:
    """
    Read a configuration file of accelerate and check it by itself.

    Returns:
        `tuple[ClusterConfig | None, list[str]]`: What accelerate makes of it, or None; and the problems.
    """
    try:
        launch = load_config_from_file(str(path))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        return None, [f"accelerate can't read it: {str(error).splitlines()[0]}. Mend it, or write it anew with "
                      "`accelerate config --config_file`"]  # fmt: skip
    if not isinstance(launch, ClusterConfig):
        return None, ["compute_environment: expected LOCAL_MACHINE"]
    numbers = {key: getattr(launch, key) for key in ("num_processes", "num_machines")}
    wrong = [key for key, number in numbers.items() if not isinstance(number, int) or number < 1]
    if wrong:
        return None, [f"{key}: found {numbers[key]!r}. Set it to a number, of all machines together" for key in wrong]
    return launch, [*_check_sections(launch), *_check_devices(launch)]


def _check_sections(launch: ClusterConfig) -> list[str]:
    problems, known = [], vars(launch_command_parser().parse_args(["script"]))
    for section, prefix, kind in (("fsdp_config", "fsdp_", "FSDP"), ("deepspeed_config", "", "DEEPSPEED")):
        if getattr(launch, section) and launch.distributed_type != kind:
            problems.append(f"{section}: accelerate ignores it. Set distributed_type: {kind}, or leave it out")
        for key in getattr(launch, section):  # accelerate takes any
            if key not in known and prefix + key not in known:
                nearest = get_close_matches(key, known, n=1)
                hint = f"Did you mean {nearest[0]}?" if nearest else "See accelerate launch --help"
                problems.append(f"{section}: unknown key {key}. {hint}")
    if launch.distributed_type == DistributedType.FSDP:
        version = str(launch.fsdp_config.get("fsdp_version", 1))
        default = "FULL_STATE_DICT" if version == "1" else "SHARDED_STATE_DICT"
        if launch.fsdp_config.get("fsdp_state_dict_type", default) != "FULL_STATE_DICT":
            problems.append("fsdp_state_dict_type: no adapter would be saved. Set it to FULL_STATE_DICT")
    if "deepspeed_config_file" in launch.deepspeed_config:
        problems.append("deepspeed_config_file: hides its zero_stage. Put the settings into deepspeed_config")
    return problems


def _check_devices(launch: ClusterConfig) -> list[str]:
    """One device a process, and a place for each process."""
    kind, processes, machines = launch.distributed_type.value, launch.num_processes, launch.num_machines
    ids, problems = "all" if launch.gpu_ids is None else launch.gpu_ids, []
    if processes % machines:
        problems.append(f"num_processes: {processes} processes can't be shared out evenly over {machines} machines")
    if not isinstance(ids, str):
        return [*problems, f'gpu_ids: accelerate wants a text. Write "{ids}"']
    num_ids = None if ids == "all" else len(set(ids.split(",")))
    if kind == "NO":
        if processes > 1:
            problems.append(
                f"num_processes: {processes}, but accelerate starts one for distributed_type NO. Set MULTI_GPU (with "
                "use_cpu: true on a CPU as well)"
            )
        if not launch.use_cpu and num_ids != 1:
            problems.append('gpu_ids: one process would take all GPUs. Set gpu_ids: "0", or MULTI_GPU')
    else:
        if not launch.use_cpu and num_ids is not None and num_ids != processes // machines:
            problems.append(
                f"gpu_ids: {num_ids} GPUs for {processes // machines} processes on a machine. Name one for each"
            )
        if launch.use_cpu and kind in ("FSDP", "DEEPSPEED"):
            problems.append(f"use_cpu: accelerate ignores {kind} on a CPU. Set distributed_type: MULTI_GPU")
    if machines > 1:
        for key in ("main_process_ip", "main_process_port"):
            if getattr(launch, key) is None:
                problems.append(f"{key}: missing, with {machines} machines. Set that of the machine with rank 0")
    return problems


def check_fit(model: ModelConfig, training: SFTConfig, launch: ClusterConfig) -> list[str]:
    """
    Whether a recipe can be started with a configuration of accelerate.

    Args:
        model (`ModelConfig`), training (`SFTConfig`): The recipe, as recipes/sft.py parses it.
        launch (`ClusterConfig`): As from [`read_launch`].
    """
    problems, processes = [], launch.num_processes
    fsdp = launch.distributed_type == DistributedType.FSDP
    zero3 = launch.distributed_type == DistributedType.DEEPSPEED and launch.deepspeed_config.get("zero_stage") == 3
    if model.load_in_4bit and fsdp and (model.bnb_4bit_quant_storage or "uint8") != model.dtype:
        problems.append(
            f"bnb_4bit_quant_storage: FSDP splits 4-bit weights only if they are stored as dtype, {model.dtype}, and "
            f"they are stored as {model.bnb_4bit_quant_storage or 'uint8'}. Set bnb_4bit_quant_storage: {model.dtype}"
        )
    if model.load_in_4bit and zero3:
        problems.append(
            "load_in_4bit: ZeRO-3 can't split 4-bit weights. Use fsdp.yaml or zero2.yaml, or load_in_4bit: false"
        )
    if model.load_in_8bit and (fsdp or zero3):
        problems.append("load_in_8bit: weights in 8 bits can't be split. Use multi_gpu.yaml or zero2.yaml, or 4 bits")
    at_once = training.per_device_train_batch_size * processes
    if training.battles_per_step and training.battles_per_step % at_once:
        problems.append(
            f"battles_per_step: {training.battles_per_step} is not a multiple of {at_once}, the "
            f"per_device_train_batch_size of {processes} processes. Change one of the three"
        )
    else:
        steps = training.gradient_accumulation_steps
        if training.battles_per_step:
            steps = training.battles_per_step // at_once
        told = launch.deepspeed_config.get("gradient_accumulation_steps", "auto")
        if told not in ("auto", steps):
            problems.append(
                f"gradient_accumulation_steps: {told} in deepspeed_config, {steps} by the recipe. Leave it out there"
            )
    if launch.use_cpu and "flash" in (model.attn_implementation or ""):
        problems.append(f"attn_implementation: {model.attn_implementation} needs a GPU. Set eager or sdpa")
    return problems
