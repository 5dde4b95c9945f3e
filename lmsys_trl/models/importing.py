"""An adapter that was trained elsewhere -> a judge."""

import pickle
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..artifacts import provenance
from ..battle import WINNERS
from ..encoding.tokenizer import load_tokenizer
from ..encoding.tokens import prompt_ids
from ..errors import UserError, collect_problems, first_line, raise_problems
from ..outputs import new_folder
from .adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PICKLED_WEIGHTS, resolve_adapter
from .adapter_weights import fitting_weights, make_room, read_lora_config, read_weights
from .base import build_without_weights, check_lengths, hub_id, load_model_config, remember_base, resolve_base
from .head import FROZEN, MODULE, install_head
from .judge_file import JudgeFile


def import_adapter(
    adapter: str,
    model_name_or_path: str,
    output_dir: str,
    prompt_version: str,
    letters: list[str],
    max_length: int,
    temperature: float,
    pad_token: str | None,
    base_model_id: str | None,
    dtype: str,
    attn_implementation: str | None,
    given: dict,
) -> None:
    """
    Copy an adapter and its base model's tokenizer, and write the `judge.json` that says how to predict with it.

    Args:
        adapter (`str`): As for [`resolve_adapter`]. Its weights may be an `adapter_model.bin`.
        model_name_or_path (`str`): As for [`resolve_base`].
        output_dir (`str`): A new or empty folder.
        letters (`list[str]`): The tokens it answers with, in the order of `WINNERS`.
        prompt_version (`str`), max_length (`int`), temperature (`float`): As in [`JudgeFile`].
        pad_token (`str`, *optional*): As for [`load_tokenizer`].
        base_model_id (`str`, *optional*): The base model's name on the Hub, if `model_name_or_path` is a folder.
        dtype (`str`), attn_implementation (`str`, *optional*): As for [`load_base`].
        given (`dict`): The configuration, as returned by [`parse_config`].

    Raises:
        UserError: With all problems at once, also if the adapter does not fit the base model.
    """
    source, base, folder = resolve_adapter(adapter), resolve_base(model_name_or_path), Path(output_dir)
    tokenizer = load_tokenizer(str(base), pad_token)
    ids = [tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in letters]
    problems = []
    if folder.exists() and any(folder.iterdir()):
        problems.append(f"output_dir: {folder} is not empty")
    if any(len(tokens) != 1 for tokens in ids) or not len(ids) == len(WINNERS) == len({tokens[0] for tokens in ids}):
        problems.append(f"letters: expected three different tokens, found {' '.join(letters)}, which are {ids}")
    problems += check_lengths(load_model_config(base), {"max_length": max_length})
    with collect_problems(problems):
        prompt_ids(tokenizer, prompt_version)
        weights, head = _weights_for(base, source)
    raise_problems(problems)
    precision = {"dtype": dtype, "autocast": False, "attn_implementation": attn_implementation, "quantization": None}
    judge_file = JudgeFile.describe(
        tokenizer,
        base,
        base_model_id or hub_id(model_name_or_path),
        prompt_version,
        max_length,
        max_length,
        temperature,
        precision,
        head,
    )
    judge_file.letters = {
        winner: {"letter": letter, "id": token} for winner, letter, (token,) in zip(WINNERS, letters, ids, strict=True)
    }
    for key, value in provenance(given).items():
        setattr(judge_file, key, value)
    with new_folder(folder) as draft:
        shutil.copyfile(source / ADAPTER_CONFIG, draft / ADAPTER_CONFIG)
        save_file(weights, draft / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        tokenizer.save_pretrained(draft)
        judge_file.save(draft)
        remember_base(draft, base)


def _weights_for(base: Path, adapter: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The weights of an adapter, checked against its base model without loading that, and which head it has."""
    config = read_lora_config(adapter)
    is_pickled = (adapter / PICKLED_WEIGHTS).is_file() and not (adapter / ADAPTER_WEIGHTS).is_file()
    weights = _read_pickled(adapter) if is_pickled else read_weights(adapter)
    rows = [tensor for name, tensor in weights.items() if name.endswith(f"{MODULE}.weight")]
    head = "new" if rows and len(rows[0]) == len(WINNERS) else FROZEN  # three rows were trained, as by sft
    model = build_without_weights(load_model_config(base))
    install_head(model, head, list(range(len(WINNERS))))
    adapted = make_room(model, config, adapter, low_cpu_mem_usage=True)
    fitting = fitting_weights(adapted, weights, adapter)
    return {name: tensor.contiguous() for name, tensor in fitting.items()}, head


def _read_pickled(adapter: Path) -> dict[str, torch.Tensor]:
    """The tensors of an `adapter_model.bin`. torch reads tensors from it and runs none of its code."""
    try:
        weights = torch.load(adapter / PICKLED_WEIGHTS, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"adapter {adapter}: {PICKLED_WEIGHTS} is damaged, or holds more than tensors, which is never loaded: "
            f"{first_line(error)}"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise UserError(f"adapter {adapter}: {PICKLED_WEIGHTS} is not a table of tensors")
    return weights
