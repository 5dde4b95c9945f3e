"""What is wrong with a recipe, as far as it shows without weights, a GPU or the Hub: each problem with its fix."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

import torch
from peft import PeftConfig, get_peft_model
from transformers import (
    AutoConfig,
    BitsAndBytesConfig,
    PreTrainedConfig,
)
from trl import ModelConfig

from ..battle import WINNERS
from ..config import find_model_folder
from ..encoding.examples import encode_battle, letter_ids
from ..encoding.template import LETTERS
from ..encoding.tokenizer import load_tokenizer
from ..errors import UserError
from ..hub import download_repository, find_in_cache
from ..models.base import build_without_weights, check_lengths
from ..models.head import FROZEN, MODULE, install_head
from ..models.precision import quantization_of
from ..options import Attention, JudgeConfig
from ..training.config import TrainingConfig
from ..training.run import lora_config

BUNDLED_CONFIGS = Path(__file__).parent / "model_configs"
UNKNOWN_BASE = "model_name_or_path: its configuration is not bundled"
SMALLEST_BATTLE = {"prompt": ["a"], "response_a": ["a"], "response_b": ["a"], "vote": [0.0, 0.0, 1.0]}


def check_recipe(
    judge: JudgeConfig, model: ModelConfig, training: TrainingConfig, tokenizer: str | None = None
) -> tuple[list[str], list[str]]:
    """
    Check a recipe by itself.

    Args:
        judge (`JudgeConfig`), model (`ModelConfig`), training (`TrainingConfig`): The recipe, as recipes/sft.py parses
            it.
        tokenizer (`str`, *optional*): The tokenizer's folder. Default: the base model's, if it is on this machine.

    Returns:
        `tuple[list[str], list[str]]`: What the recipe comes to, a line each, and the problems.
    """
    if model.model_name_or_path is None:
        return [], ["model_name_or_path: missing. A folder with a base model, or its name on the Hub"]
    try:
        base, source = find_model_config(model.model_name_or_path, judge.base_model_id, model.model_revision)
    except (ValueError, OSError) as error:
        return [], [f"{UNKNOWN_BASE}, and not available: {error}. Nothing that depends on it could be checked"]
    notes = [f"model: {model.model_name_or_path}, built without weights from {source}"]
    max_lengths = {"max_length": training.max_length, "inference_max_length": judge.inference_max_length}
    lengths = {key: length for key, length in max_lengths.items() if length is not None}
    in_16_bits = bool(model.dtype != "float32" or training.bf16 or training.fp16)
    problems = check_attention(base, model.attn_implementation, in_16_bits) + check_lengths(base, lengths)
    problems += check_quantization(quantization_of(model))

    trained, found = check_lora(base, lora_config(judge, replace(model)), judge.head)
    notes.append(f"LoRA trains {trained or 'nothing'}")
    problems += found
    if judge.head != FROZEN and training.loss != "letters":
        problems.append(f"head: {judge.head} has rows for the letters only. Set loss: letters")
    if training.consistency_weight and judge.swap != "paired":
        problems.append("consistency_weight: compares both orders of the answers. Set swap: paired")

    folder = tokenizer or find_tokenizer(model.model_name_or_path, model.model_revision)
    if folder is None:
        notes.append("examples: not checked, there is no tokenizer on this machine. Name its folder with --tokenizer")
        return notes, problems
    example, found = check_examples(folder, judge.pad_token, base, lengths, judge.prompt_version)
    return [*notes, f"examples: {example or 'not checked, because of a problem below'}"], problems + found


def find_model_config(name: str, base_model_id: str | None, revision: str | None) -> tuple[PreTrainedConfig, str]:
    """
    The configuration of a base model, and where it was found: in its folder, among the bundled configs, or on the Hub.

    Raises:
        UserError: If there is none.
        OSError: If it is damaged.
    """
    local = find_model_folder(name)
    if local is not None and (local / "config.json").is_file():
        return AutoConfig.from_pretrained(local, trust_remote_code=False), "its folder"
    for model_id in filter(None, (name, base_model_id)):
        bundled = BUNDLED_CONFIGS / f"{model_id.replace('/', '--')}.json"
        if bundled.is_file():
            settings = json.loads(bundled.read_text(encoding="utf-8"))
            settings.pop("source", None)  # where the config.json was found
            return AutoConfig.for_model(**settings), "the bundled configs"
    folder = download_repository(base_model_id or name, "model", revision, ["config.json"])
    return AutoConfig.from_pretrained(folder, trust_remote_code=False), "the Hub"


def find_tokenizer(name: str, revision: str | None) -> Path | None:
    """The folder of a base model's tokenizer, if it is on this machine."""
    folder = find_model_folder(name)
    if folder is not None:
        return folder if (folder / "tokenizer.json").is_file() else None
    cached = find_in_cache(name, "tokenizer.json", revision)
    return cached and cached.parent


def check_attention(config: PreTrainedConfig, name: str | None, computes_in_16_bits: bool) -> list[str]:
    """Whether a model supports an implementation of attention. Whether its package is installed is not checked."""
    if name is None:
        return []
    known = get_args(Attention)
    if "/" in name:
        return [f"attn_implementation: {name} is code of a repository, which is never run. Use {', '.join(known)}"]
    if name not in known:
        nearest = get_close_matches(name, known, n=1) or ["eager"]
        return [f"attn_implementation: there is no {name}. Did you mean {nearest[0]}?"]
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


def check_quantization(quantization: dict | None) -> list[str]:
    """Whether transformers accepts the arguments of `BitsAndBytesConfig`."""
    try:
        BitsAndBytesConfig(**quantization or {})
    except (ValueError, TypeError, AttributeError) as error:
        return [f"bnb_4bit_*, dtype: {error}. Set dtype and bnb_4bit_quant_storage to names such as bfloat16"]
    return []


def check_lora(config: PreTrainedConfig, peft_config: PeftConfig, head: str = FROZEN) -> tuple[str, list[str]]:
    """
    Put an adapter and a judge's head on the model without weights.

    Returns:
        `tuple[str, list[str]]`: What is trained, in words, and the problems.
    """
    model, problems = build_without_weights(config), []
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    targets = peft_config.target_modules
    if isinstance(targets, str) and targets != "all-linear":  # trl's form of a list with one entry
        try:
            matched = any(re.fullmatch(targets, name) for name in names)
        except re.error:
            matched = False
        if not matched:
            problems.append(
                f"lora_target_modules: one entry alone is a pattern of complete names, and {targets} matches none. "
                "Write a name as .*q_proj, or give several"
            )
    # PEFT skips what it does not find, unless it finds nothing.
    for target in targets if isinstance(targets, set) else ():
        if not any(name == target or name.endswith(f".{target}") for name in names):
            linear = dict.fromkeys(name.rpartition(".")[2] for name in names if not name.endswith("lm_head"))
            nearest = (get_close_matches(target, linear, n=1) or [", ".join(linear)])[0]
            problems.append(f"lora_target_modules: the model has no {target}. Did you mean {nearest}?")
    layers = range(config.get_text_config().num_hidden_layers)
    chosen = peft_config.layers_to_transform or ()
    unknown = [layer for layer in chosen if layer not in layers]
    if unknown:
        peft_config.layers_to_transform = [layer for layer in chosen if layer in layers] or None
        listed = ", ".join(map(str, unknown))
        problems.append(f"lora_layers_to_transform: no layer {listed} among {layers[0]} to {layers[-1]}. Remove it")
    num_base = model.num_parameters()
    if head != FROZEN and not hasattr(model, MODULE):
        return "", [*problems, f"head: {config.model_type} has no {MODULE}. Use head: {FROZEN}"]
    install_head(model, head, list(range(len(WINNERS))))
    try:
        adapted = get_peft_model(model, peft_config, low_cpu_mem_usage=True)  # the adapter on the meta device too
    except (ValueError, TypeError, re.error) as error:
        return "", problems or [f"lora_*: PEFT refuses them: {error}"]
    trainable, _ = adapted.get_nb_trainable_parameters()
    modules = len(adapted.targeted_module_names)
    if any(name.endswith("lm_head") for name in adapted.targeted_module_names):
        problems.append("lora_target_modules: trl trains no adapter on lm_head. Remove it")
    return f"{trainable:,} parameters in {modules} modules, {trainable / num_base:.2%} of {num_base:,}", problems


def check_examples(
    folder: str | Path,
    pad_token: str | None,
    config: PreTrainedConfig,
    lengths: Mapping[str, int],
    prompt_version: str,
) -> tuple[str, list[str]]:
    """
    Whether examples can be built with a tokenizer, for a model, of some lengths, given by the keys that set them.

    Returns:
        `tuple[str, list[str]]`: What an example has, in words, and the problems.
    """
    if not Path(folder).is_dir():
        return "", [f"tokenizer: there is no folder {folder}"]
    try:
        tokenizer = load_tokenizer(str(folder), pad_token)
        (example,) = encode_battle(SMALLEST_BATTLE, tokenizer, 10**6, prompt_version)
    except UserError as error:
        return "", error.problems
    problems = []
    vocabulary = config.get_text_config().vocab_size
    if len(tokenizer) > vocabulary:
        problems.append(
            f"tokenizer {folder}: has {len(tokenizer)} tokens and the model {vocabulary}. "
            "Use the base model's own tokenizer"
        )
    for key, length in lengths.items():
        try:
            encode_battle(SMALLEST_BATTLE, tokenizer, length, prompt_version)
        except UserError as error:
            problems.append(f"{key}: {error}. Raise it")
    letters = ", ".join(f"{LETTERS[winner]} is {token}" for winner, token in letter_ids(tokenizer).items())
    return (
        f"{letters}; ends with {tokenizer.eos_token}, pads with {tokenizer.pad_token}; "
        f"{len(example['input_ids']) - 3} tokens of an example with one turn are fixed"
    ), problems
