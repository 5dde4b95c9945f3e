"""What is wrong with a recipe, as far as it shows without weights, a GPU or the Hub: each problem with its mend."""

import json
import tempfile
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from huggingface_hub import try_to_load_from_cache
from peft import PeftConfig, get_peft_model
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

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
        OSError: If it is damaged.
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


def check_quantization(quantization: dict | None) -> list[str]:
    """Whether transformers takes the arguments of `BitsAndBytesConfig`."""
    try:
        BitsAndBytesConfig(**quantization or {})
    except (ValueError, TypeError, AttributeError) as error:
        return [f"bnb_4bit_*, dtype: {error}. Set dtype and bnb_4bit_quant_storage to names such as bfloat16"]
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
