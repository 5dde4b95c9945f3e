"""A judge's folder and its base model -> all but the weights, each checked against the others."""

import warnings
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ..artifacts import file_fingerprint
from ..encoding.template import TEMPLATES
from ..encoding.tokenizer import load_tokenizer
from ..errors import UserError, raise_problems
from ..models.adapter import ADAPTER_CONFIG, resolve_adapter
from ..models.adapter_weights import read_lora_config, weights_file
from ..models.base import architecture, find_base_of, weights_fingerprint
from ..models.head import FROZEN, MODULE
from ..models.judge_file import JudgeFile, tokenizer_fingerprints


class JudgeParts(NamedTuple):
    """
    What belongs to a judge.

    Args:
        adapter (`Path`): Its folder.
        settings (`JudgeFile`): Its judge.json.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        base (`Path`): The folder of its base model.
        identity (`dict`): Fingerprints of `adapter`, `adapter_config` and `base`, and the `precision`.
    """

    adapter: Path
    settings: JudgeFile
    tokenizer: PreTrainedTokenizerBase
    base: Path
    identity: dict


def load_parts(adapter: str | Path, model_name_or_path: str | None, precision: dict | None) -> JudgeParts:
    """
    Find and check what belongs to a judge.

    Args:
        adapter, model_name_or_path, precision: As for [`Judge.from_pretrained`].

    Raises:
        UserError: If the folder is not a judge, or if base model, tokenizer or template are not those it learned with.
    """
    adapter = resolve_adapter(adapter)
    settings = JudgeFile.load(adapter)
    if settings.prompt_version not in TEMPLATES:
        raise UserError(
            f"{adapter}: trained with prompt version {settings.prompt_version}, and this lmsys-trl has "
            f"{' and '.join(TEMPLATES)}. Use the version of lmsys-trl that its judge.json names"
        )
    weights = weights_file(adapter)
    trains_head = MODULE in (read_lora_config(adapter).modules_to_save or ())
    if settings.head != FROZEN and not trains_head:
        raise UserError(
            f"{adapter}: judge.json says that its head was trained ({settings.head}), and its adapter has none. "
            "The judge was changed: fetch it again"
        )
    tokenizer = load_tokenizer(str(adapter))
    _refuse_other(f"the tokenizer in {adapter}", tokenizer_fingerprints(tokenizer), settings.tokenizer)
    raise_problems(
        [
            f"{adapter}: judge.json says that token {letter['id']} is {letter['letter']!r}, and in its tokenizer "
            f"it is {tokenizer.decode([letter['id']])!r}. The judge was changed: fetch it again"
            for letter in settings.letters.values()
            if letter["id"] >= len(tokenizer) or tokenizer.decode([letter["id"]]) != letter["letter"]
        ]
    )
    base = find_base_of(settings.base_model, model_name_or_path, adapter)
    _refuse_other(f"base model {base}", architecture(base), settings.base_model["architecture"])
    fingerprint = weights_fingerprint(base)
    if fingerprint != settings.base_model["fingerprint"]:
        warnings.warn(
            f"{adapter} was trained on other weights: {settings.base_model['id']} with fingerprint "
            f"{settings.base_model['fingerprint'][:12]}, and {base} has {fingerprint[:12]}",
            stacklevel=3,
        )
        if (base / "tokenizer.json").is_file():  # with the same weights its tokens are known to be the judge's
            own = load_tokenizer(str(base), pad_token=tokenizer.pad_token)
            _refuse_other(f"the tokenizer of base model {base}", tokenizer_fingerprints(own), settings.tokenizer)
    trained_with = settings.precision
    if trained_with["attn_implementation"] == "eager":
        trained_with = {**trained_with, "attn_implementation": None}
    if unknown := sorted((precision or {}).keys() - trained_with.keys()):
        raise UserError(f"precision: unknown {', '.join(unknown)}. It has {', '.join(sorted(trained_with))}")
    precision = {**trained_with, **(precision or {})}
    identity = {
        "adapter": file_fingerprint(weights),
        "adapter_config": file_fingerprint(adapter / ADAPTER_CONFIG),
        "base": fingerprint,
        "precision": precision,
    }
    return JudgeParts(adapter, settings, tokenizer, base, identity)


def _refuse_other(what: str, found: dict, expected: dict) -> None:
    keys = [key for key in expected if found.get(key) != expected[key]]
    differences = [f"{key} {found.get(key)} instead of {expected[key]}" for key in keys]
    raise_problems(differences, f"{what} is not the one that the judge was trained with:")
