"""What is wrong with an accelerate config, and with a recipe that is started with it: each problem with its fix."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from trl import ModelConfig

from ..config import accelerate_configs, find_accelerate_config
from ..options import UNPADDED_ATTENTION
from ..training.config import TrainingConfig

UNDIVIDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)
UNEQUAL_BATCHES = (
    "max_tokens_per_batch: processes would compute different numbers of batches, and FSDP and DeepSpeed would wait "
    "for ever. Remove it, or use multi_gpu"
)


class AccelerateConfig(NamedTuple):
    """An accelerate config that was read and checked by itself."""

    path: Path
    cluster: ClusterConfig | None  # what accelerate makes of it; None if it makes nothing of it
    problems: list[str]


def read_accelerate_configs(names: Sequence[str] = ()) -> list[AccelerateConfig]:
    """Read the accelerate configs with these names or paths, or all that are shipped if there are none."""
    paths = dict.fromkeys(map(find_accelerate_config, names or accelerate_configs()))
    return [AccelerateConfig(path, *read_accelerate_config(path)) for path in paths]


def read_accelerate_config(path: str | Path) -> tuple[ClusterConfig | None, list[str]]:
    """
    Read an accelerate config and check it by itself.

    Returns:
        `tuple[ClusterConfig | None, list[str]]`: What accelerate makes of it, or None; and the problems.
    """
    try:
        cluster = load_config_from_file(str(path))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        return None, [f"accelerate can't read it: {str(error).splitlines()[0]}. Fix it, or write a new one with "
                      "`accelerate config --config_file`"]  # fmt: skip
    if not isinstance(cluster, ClusterConfig):
        return None, ["compute_environment: expected LOCAL_MACHINE"]
    numbers = {key: getattr(cluster, key) for key in ("num_processes", "num_machines")}
    wrong = [key for key, number in numbers.items() if not isinstance(number, int) or number < 1]
    if wrong:
        return None, [f"{key}: found {numbers[key]!r}. Set it to a number, of all machines together" for key in wrong]
    return cluster, [*_check_sections(cluster), *_check_devices(cluster)]


def _check_sections(cluster: ClusterConfig) -> list[str]:
    problems, known = [], vars(launch_command_parser().parse_args(["script"]))
    for section, prefix, kind in (("fsdp_config", "fsdp_", "FSDP"), ("deepspeed_config", "", "DEEPSPEED")):
        if getattr(cluster, section) and cluster.distributed_type != kind:
            problems.append(f"{section}: accelerate ignores it. Set distributed_type: {kind}, or remove it")
        for key in getattr(cluster, section):  # accelerate takes any
            if key not in known and prefix + key not in known:
                nearest = get_close_matches(key, known, n=1)
                hint = f"Did you mean {nearest[0]}?" if nearest else "See accelerate launch --help"
                problems.append(f"{section}: unknown key {key}. {hint}")
    if cluster.distributed_type == DistributedType.FSDP:
        version = str(cluster.fsdp_config.get("fsdp_version", 1))
        default = "FULL_STATE_DICT" if version == "1" else "SHARDED_STATE_DICT"
        if cluster.fsdp_config.get("fsdp_state_dict_type", default) != "FULL_STATE_DICT":
            problems.append("fsdp_state_dict_type: no adapter would be saved. Set it to FULL_STATE_DICT")
    if "deepspeed_config_file" in cluster.deepspeed_config:
        problems.append("deepspeed_config_file: hides its zero_stage. Put the settings into deepspeed_config")
    return problems


def _check_devices(cluster: ClusterConfig) -> list[str]:
    """Whether there is one device for each process, and a machine for each."""
    kind, processes, machines = cluster.distributed_type.value, cluster.num_processes, cluster.num_machines
    ids = "all" if cluster.gpu_ids is None else cluster.gpu_ids
    problems = []
    if processes % machines:
        problems.append(f"num_processes: {processes} processes can't be distributed evenly over {machines} machines")
    if not isinstance(ids, str):
        return [*problems, f'gpu_ids: accelerate expects a text. Write "{ids}"']
    num_ids = None if ids == "all" else len(set(ids.split(",")))
    if kind == "NO":
        if processes > 1:
            problems.append(
                f"num_processes: {processes}, but accelerate starts one for distributed_type NO. Set MULTI_GPU (with "
                "use_cpu: true on a CPU as well)"
            )
        if not cluster.use_cpu and num_ids != 1:
            problems.append('gpu_ids: one process would take all GPUs. Set gpu_ids: "0", or MULTI_GPU')
    else:
        if not cluster.use_cpu and num_ids is not None and num_ids != processes // machines:
            problems.append(
                f"gpu_ids: {num_ids} GPUs for {processes // machines} processes on a machine. Name one for each"
            )
        if cluster.use_cpu and kind in ("FSDP", "DEEPSPEED"):
            problems.append(f"use_cpu: accelerate ignores {kind} on a CPU. Set distributed_type: MULTI_GPU")
    if machines > 1:
        for key in ("main_process_ip", "main_process_port"):
            if getattr(cluster, key) is None:
                problems.append(f"{key}: missing, with {machines} machines. Set that of the machine with rank 0")
    return problems


def find_compatible(
    model: ModelConfig, training: TrainingConfig, configs: Sequence[AccelerateConfig]
) -> tuple[list[AccelerateConfig], list[str]]:
    """
    The accelerate configs with which a recipe can be started.

    Returns:
        `tuple[list[AccelerateConfig], list[str]]`: These, and the problems of the recipe with the others.
    """
    compatible, problems = [], []
    for config in configs:
        found = [] if config.cluster is None else check_compatibility(model, training, config.cluster)
        problems += [f"with {config.path.name}, {problem}" for problem in found]
        if not found and not config.problems:
            compatible.append(config)
    return compatible, problems


def check_compatibility(model: ModelConfig, training: TrainingConfig, cluster: ClusterConfig) -> list[str]:
    """
    Whether a recipe can be started with an accelerate config.

    Args:
        model (`ModelConfig`), training (`TrainingConfig`): The recipe, as recipes/sft.py parses it.
        cluster (`ClusterConfig`): As from [`read_accelerate_config`].
    """
    problems, processes = [], cluster.num_processes
    fsdp = cluster.distributed_type == DistributedType.FSDP
    zero3 = cluster.distributed_type == DistributedType.DEEPSPEED and cluster.deepspeed_config.get("zero_stage") == 3
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
    if training.loraplus_lr_ratio != 1 and fsdp and str(cluster.fsdp_config.get("fsdp_version", 1)) == "1":
        problems.append("loraplus_lr_ratio: FSDP 1 joins A and B, so that both get one rate. Set fsdp_version: 2")
    if training.max_tokens_per_batch and cluster.distributed_type in UNDIVIDED:
        problems.append(UNEQUAL_BATCHES)
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
        found = cluster.deepspeed_config.get("gradient_accumulation_steps", "auto")
        if found not in ("auto", steps):
            problems.append(
                f"gradient_accumulation_steps: {found} in deepspeed_config, {steps} by the recipe. Remove it there"
            )
    if cluster.use_cpu and (model.attn_implementation or "").startswith(UNPADDED_ATTENTION):
        problems.append(f"attn_implementation: {model.attn_implementation} needs a GPU. Set eager or sdpa")
    return problems
