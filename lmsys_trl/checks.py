"""What is wrong with a recipe, as far as it shows without weights, a GPU or the Hub: each problem with its mend."""

import json
import tempfile
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from huggingface_hub import try_to_load_from_cache
from peft import PeftConfig, get_peft_model
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from trl import ModelConfig, SFTConfig

from .config import parse_config
from .hub import download_repository
from .prompts import LETTERS
from .rows import encode_battle, letter_ids, load_tokenizer

FACTS = files(__package__) / "model_facts"
SMALLEST_BATTLE = {"prompt": ["a"], "response_a": ["a"], "response_b": ["a"], "winner": "tie"}


def parse_what_can_be(*classes: type, argv: list[str]) -> tuple[tuple | None, list[str]]:
    """
    [`parse_config`], but keys with mistakes are left out, so that the rest can be checked all the same.

    Returns:
        `tuple[tuple | None, list[str]]`: What [`parse_config`] returns, or None if a mistake belongs to no key; and
        the mistakes.
    """
    try:
        return parse_config(*classes, argv=argv), []
    except ValueError as error:
        first, *others = str(error).split("\n  ")
        mistakes = others if first.endswith(":") else [str(error)]
    wrong = {mistake.partition(":")[0] for mistake in mistakes}
    try:
        values = yaml.safe_load(Path(argv[0]).read_text(encoding="utf-8"))
        kept = {key: value for key, value in values.items() if key not in wrong}
    except (OSError, yaml.YAMLError, AttributeError):
        return None, mistakes
    options, keep = [], True
    for word in argv[1:]:
        if word.startswith("--"):
            keep = word[2:].partition("=")[0] not in wrong
        if keep:
            options.append(word)
    if len(kept) + len(options) == len(values) + len(argv[1:]):
        return None, mistakes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(yaml.safe_dump(kept), encoding="utf-8")
        configs, more = parse_what_can_be(*classes, argv=[str(path), *options])
    return configs, mistakes + more


def find_config(name: str, base_model_id: str | None, revision: str | None) -> tuple[PreTrainedConfig, str]:
    """
    The configuration of a base model, and where it was found: in its folder, among the facts shipped with this
    package, or on the Hub.

    Raises:
        ValueError: If it is nowhere.
    """
    if (Path(name) / "config.json").is_file():
        return AutoConfig.from_pretrained(name, trust_remote_code=False), "its folder"
    for model_id in filter(None, (name, base_model_id)):
        shipped = FACTS / f"{model_id.replace('/', '--')}.json"
        if shipped.is_file():
            return AutoConfig.for_model(**json.loads(shipped.read_text(encoding="utf-8"))), "the facts shipped"
    folder = download_repository(base_model_id or name, "model", revision, ["config.json"])
    return AutoConfig.from_pretrained(folder, trust_remote_code=False), "the Hub"


def find_tokenizer(name: str, revision: str | None) -> Path | None:
    """The folder of a base model's tokenizer, if it is on this machine."""
    if (Path(name) / "tokenizer.json").is_file():
        return Path(name)
    cached = None if Path(name).exists() else try_to_load_from_cache(name, "tokenizer.json", revision=revision)
    return Path(cached).parent if isinstance(cached, str) else None


def build_without_weights(config: PreTrainedConfig, attn_implementation: str = "eager") -> PreTrainedModel:
    """The model on the meta device."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation)


def check_attention(config: PreTrainedConfig, name: str | None, computes_in_16_bits: bool) -> list[str]:
    """Whether a model may use an implementation of attention. That a package of kernels is there is not checked."""
    if name is None:
        return []
    known = ["eager", *AttentionInterface().valid_keys()]
    if name not in known and "/" not in name:  # with a slash it is a kernel on the Hub
        nearest = get_close_matches(name, known, n=1) or ["eager"]
        return [f"attn_implementation: transformers knows no {name}. Did you mean {nearest[0]}?"]
    if "flash" in name:
        if computes_in_16_bits:
            return []
        return [f"attn_implementation: {name} computes in 16 bits only. Set dtype: bfloat16 or bf16: true"]
    try:
        build_without_weights(config, name)
    except ValueError as error:
        if getattr(config, "attn_logit_softcapping", None):
            reason = f"{config.model_type} caps its attention logits, which {name} cannot"
        else:
            reason = f"{config.model_type} cannot use {name} ({str(error).split('. ')[0]})"
        return [f"attn_implementation: {reason}. Use eager, or flash_attention_2 on a GPU"]
    return []


def check_lengths(config: PreTrainedConfig, lengths: Mapping[str, int]) -> list[str]:
    """Whether a model has positions for rows of some lengths, given by the keys that set them."""
    most = config.max_position_embeddings
    return [
        f"{key}: {length} tokens, but the model has positions for {most}. Lower it to {most} at most"
        for key, length in lengths.items()
        if length > most
    ]


def check_lora(config: PreTrainedConfig, peft_config: PeftConfig) -> tuple[str, list[str]]:
    """
    Put an adapter on the model without weights.

    Returns:
        `tuple[str, list[str]]`: What is trained, in words, and the problems.
    """
    model, problems = build_without_weights(config), []
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    targets = peft_config.target_modules
    # PEFT leaves out what it does not find, unless it finds nothing.
    for target in targets if isinstance(targets, set) else ():
        if not any(name == target or name.endswith(f".{target}") for name in names):
            linear = dict.fromkeys(name.rpartition(".")[2] for name in names)
            nearest = (get_close_matches(target, linear, n=1) or [", ".join(linear)])[0]
            problems.append(f"lora_target_modules: the model has no {target}. Did you mean {nearest}?")
    layers = range(config.num_hidden_layers)
    outside = [layer for layer in peft_config.layers_to_transform or () if layer not in layers]
    if outside:
        told = ", ".join(map(str, outside))
        problems.append(f"lora_layers_to_transform: no layer {told} among {layers[0]} to {layers[-1]}. Leave it out")
    num_base = model.num_parameters()
    try:
        model = get_peft_model(model, peft_config, low_cpu_mem_usage=True)  # the adapter on the meta device too
    except (ValueError, TypeError) as error:
        return "", problems or [f"lora_*: PEFT refuses them: {error}"]
    trainable, _ = model.get_nb_trainable_parameters()
    modules = len(model.targeted_module_names)
    return f"{trainable:,} parameters in {modules} modules, {trainable / num_base:.2%} of {num_base:,}", problems


def check_rows(
    folder: str | Path, pad_token: str | None, config: PreTrainedConfig, lengths: Mapping[str, int]
) -> tuple[str, list[str]]:
    """
    Whether rows can be built with a tokenizer, for a model, at some lengths, given by the keys that set them.

    Returns:
        `tuple[str, list[str]]`: What stands in a row, in words, and the problems.
    """
    if not Path(folder).is_dir():
        return "", [f"tokenizer: there is no folder {folder}"]
    try:
        tokenizer = load_tokenizer(str(folder), pad_token)
    except (ValueError, OSError) as error:
        return "", [line for line in str(error).splitlines() if line.strip()]
    problems = []
    if len(tokenizer) > config.vocab_size:
        problems.append(
            f"tokenizer {folder}: has {len(tokenizer)} tokens and the model {config.vocab_size}. "
            "Take the base model's own tokenizer"
        )
    for key, length in lengths.items():
        try:
            encode_battle(SMALLEST_BATTLE, tokenizer, length)
        except ValueError as error:
            problems.append(f"{key}: {error}. Raise it")
    (row,) = encode_battle(SMALLEST_BATTLE, tokenizer, 10**6)
    letters = ", ".join(f"{LETTERS[winner]} is {token}" for winner, token in letter_ids(tokenizer).items())
    return (
        f"{letters}; ends with {tokenizer.eos_token}, pads with {tokenizer.pad_token}; "
        f"{len(row['input_ids']) - 3} tokens of a row with one round are fixed"
    ), problems


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
        return None, ["compute_environment: only LOCAL_MACHINE is known here"]
    return launch, [*_check_sections(launch), *_check_devices(launch)]


def _check_sections(launch: ClusterConfig) -> list[str]:
    problems, known = [], vars(launch_command_parser().parse_args(["script"]))
    for section, prefix in (("fsdp_config", "fsdp_"), ("deepspeed_config", "")):  # accelerate takes any key in these
        for key in getattr(launch, section):
            if key not in known and prefix + key not in known:
                nearest = get_close_matches(key, known, n=1)
                hint = f"Did you mean {nearest[0]}?" if nearest else "See accelerate launch --help"
                problems.append(f"{section}: unknown key {key}. {hint}")
    fsdp, deepspeed = launch.fsdp_config, launch.deepspeed_config
    if launch.distributed_type == DistributedType.FSDP:
        default = "FULL_STATE_DICT" if str(fsdp.get("fsdp_version", 1)) == "1" else "SHARDED_STATE_DICT"
        if fsdp.get("fsdp_state_dict_type", default) != "FULL_STATE_DICT":
            problems.append("fsdp_state_dict_type: no adapter would be saved. Set it to FULL_STATE_DICT")
    if launch.distributed_type == DistributedType.DEEPSPEED:
        if "deepspeed_config_file" in deepspeed:
            problems.append("deepspeed_config_file: hides its zero_stage. Put the settings into deepspeed_config")
        if deepspeed.get("zero_stage") == 3 and not deepspeed.get("zero3_save_16bit_model"):
            problems.append("zero3_save_16bit_model: no adapter would be saved. Set it to true")
    return problems


def _check_devices(launch: ClusterConfig) -> list[str]:
    """One device a process, and a place for each process."""
    kind, processes, machines = launch.distributed_type.value, launch.num_processes, launch.num_machines
    ids, problems = "all" if launch.gpu_ids is None else launch.gpu_ids, []
    if processes < 1:
        return ["num_processes: missing. Set it to the number of devices on all machines"]
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
