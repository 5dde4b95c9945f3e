"""Several adapters -> their average, or an adapter and its base model -> a model."""

import dataclasses
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from ..artifacts import provenance, strip_local_paths
from ..encoding.tokenizer import load_tokenizer
from ..errors import UserError, raise_problems
from ..outputs import new_folder
from .adapter import ADAPTER_WEIGHTS, lora_differences, resolve_adapter
from .adapter_weights import attach_adapter, not_finite, read_lora_config, read_weights
from .base import BASE_FOLDER, find_base_of, load_base, load_model_config
from .head import FROZEN, install_head, untie_head
from .judge_file import JudgeFile


def average_adapters(adapters: list[Path], method: str) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """
    The average of adapters of the same base and shape, such as those of the folds.

    Args:
        adapters (`list[Path]`): Folders with one each.
        method (`str`): "mean" averages the A and the B matrices, as the winners of the competition did: of the same
            size as each, and near the average of the products if the adapters have much in common. "cat" concatenates
            them: the exact average of the products, with the sum of their ranks.

    Returns:
        `tuple[LoraConfig, dict[str, Tensor]]`: The configuration and the weights of the average.

    Raises:
        UserError: If the adapters differ in what they must share.
    """
    weights = [read_weights(adapter) for adapter in adapters]
    _check_mergeable(adapters, weights)
    config = read_lora_config(adapters[0])
    if method == "mean":
        return config, {name: torch.stack([each[name] for each in weights]).mean(0) for name in weights[0]}
    if config.use_dora:
        raise UserError("method: cat has no meaning for DoRA, which scales the sum of base and adapter. Use mean")
    others = [name for name in weights[0] if "lora_A" not in name and "lora_B" not in name]
    if others:
        raise UserError(f"method: cat is for matrices A and B only, and these have {others[0]}. Use mean")
    # B A = sum of B_i A_i, and the scale, alpha / r or alpha / sqrt(r), must become that of one over their number.
    tensors = {
        name: torch.cat([each[name] for each in weights], dim=0 if "lora_A" in name else 1) for name in weights[0]
    }
    config.r *= len(adapters)
    if config.use_rslora:
        config.lora_alpha /= len(adapters) ** 0.5
    return config, tensors


def _check_mergeable(adapters: list[Path], weights: list[dict[str, torch.Tensor]]) -> None:
    """Raise a [`UserError`] with all that makes adapters differ from the first of them."""
    if len(adapters) < 2:
        raise UserError(f"adapter: expected two or more to average, found {len(adapters)}")
    first, first_lora = JudgeFile.load(adapters[0]), read_lora_config(adapters[0])
    problems = []
    for adapter, tensors in zip(adapters[1:], weights[1:], strict=True):
        differences = first.differences(JudgeFile.load(adapter))
        differences += lora_differences(first_lora, read_lora_config(adapter))
        problems += [f"{adapter}: {difference}" for difference in differences]
        if others := tensors.keys() ^ weights[0].keys():
            problems.append(f"{adapter}: {len(others)} tensors are in one of the two only")
    for adapter, tensors in zip(adapters, weights, strict=True):
        if not_finite(tensors):
            problems.append(f"{adapter}: its weights hold values that are no numbers")
    raise_problems(problems, f"adapter: these cannot be averaged, since they are not like {adapters[0]}:")


def save_average(adapters: list[str], method: str, folder: Path, given: dict) -> None:
    """
    Write the average of judges as a judge.

    Args:
        adapters (`list[str]`): Their names, as for [`resolve_adapter`].
        method (`str`): As for [`average_adapters`].
        folder (`Path`): A new folder.
        given (`dict`): The configuration, as returned by [`parse_config`].

    Raises:
        UserError: If the judges differ in what they must share.
    """
    folders = [resolve_adapter(adapter) for adapter in adapters]
    config, tensors = average_adapters(folders, method)
    judge_file = dataclasses.replace(
        JudgeFile.load(folders[0]),
        fold=None,
        merged=strip_local_paths(adapters),
        calibration={},  # was fitted on predictions of the first one alone
        **provenance(given),
    )
    with new_folder(folder) as draft:
        for path in folders[0].iterdir():
            if path.name.startswith("tokenizer") or path.suffix == ".jinja" or path.name == BASE_FOLDER:
                (draft / path.name).write_bytes(path.read_bytes())
        config.save_pretrained(draft)
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, draft / ADAPTER_WEIGHTS, {"format": "pt"}
        )
        judge_file.save(draft)


def merge_into_base(adapter: Path, model_name_or_path: str | None, folder: Path) -> None:
    """
    Add an adapter's products to the weights of its base, and save the model with the adapter's tokenizer.

    Args:
        adapter (`Path`): Its folder.
        model_name_or_path (`str`, *optional*): The base model, as for [`Judge.from_pretrained`].
        folder (`Path`): Where the model is saved.

    Raises:
        UserError: If the base's weights are quantised, so that the adapter would be rounded away.
    """
    judge_file = JudgeFile.load(adapter)
    base = find_base_of(judge_file.base_model, model_name_or_path, adapter)
    if hasattr(load_model_config(base), "quantization_config"):
        raise UserError(
            f"base model {base}: its weights are quantised, and what an adapter adds would be rounded away. Name the "
            "16-bit base with --model_name_or_path"
        )
    tokenizer = load_tokenizer(str(adapter))
    model = load_base(base, judge_file.precision["dtype"])
    complete = model.get_output_embeddings()
    install_head(model, judge_file.head, judge_file.token_ids)
    merged = attach_adapter(model, adapter).merge_and_unload()
    if judge_file.head != FROZEN:
        untie_head(merged, complete, judge_file.token_ids)
    with new_folder(folder) as draft:
        merged.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
