"""Several adapters -> one, or an adapter -> its base model."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from .adapters import ADAPTER_WEIGHTS, read_judge_file
from .base_models import load_base
from .judge import find_base_of
from .rows import load_tokenizer


def average_adapters(adapters: list[Path], method: str) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """
    The average of adapters of the same base and shape, such as those of the folds.

    Args:
        adapters (`list[Path]`): Folders with one each.
        method (`str`): "mean" averages the A and the B matrices, as the winners of the competition did: of the same
            size as each, and near the average of the products where the adapters have much in common. "cat" puts them
            side by side: the exact average of the products, of the sum of their ranks.

    Returns:
        `tuple[LoraConfig, dict[str, Tensor]]`: The configuration and weights of the new one.

    Raises:
        ValueError: If the adapters differ in what they must share.
    """
    refuse_unlike(adapters)
    config = LoraConfig.from_pretrained(adapters[0])
    weights = [load_file(adapter / ADAPTER_WEIGHTS) for adapter in adapters]
    if method == "mean":
        return config, {name: torch.stack([each[name] for each in weights]).mean(0) for name in weights[0]}
    if config.use_dora:
        raise ValueError("method: cat has no meaning for DoRA, which scales the sum of base and adapter. Use mean")
    # B A = sum of B_i A_i, and the scale, alpha / r or alpha / sqrt(r), must become that of one over their number.
    tensors = {
        name: torch.cat([each[name] for each in weights], dim=0 if "lora_A" in name else 1) for name in weights[0]
    }
    config.r *= len(adapters)
    if config.use_rslora:
        config.lora_alpha /= len(adapters) ** 0.5
    return config, tensors


def refuse_unlike(adapters: list[Path]) -> None:
    """Raises a `ValueError` with all in which adapters to be averaged differ from the first of them."""
    if len(adapters) < 2:
        raise ValueError(f"adapters: expected two or more, found {len(adapters)}")
    facts = {adapter: _facts(adapter) for adapter in adapters}
    first = facts[adapters[0]]
    problems = [
        f"{adapter}: {key} is {value}, and {first[key]} in {adapters[0]}"
        for adapter, found in facts.items()
        for key, value in found.items()
        if value != first[key]
    ]
    if problems:
        raise ValueError("\n  ".join(["adapters: these cannot be averaged:", *problems]))


def _facts(adapter: Path) -> dict:
    settings, config = read_judge_file(adapter), LoraConfig.from_pretrained(adapter)
    lora = ("r", "lora_alpha", "use_rslora", "use_dora", "bias", "modules_to_save")
    return {
        "base model": settings["base_model"]["fingerprint"],
        "prompt_version": settings["prompt_version"],
        "tokenizer": settings["tokenizer"],
        "target_modules": sorted(config.target_modules),
        "layers_to_transform": config.layers_to_transform,
        **{key: getattr(config, key) for key in lora},
    }


def save_adapter(config: LoraConfig, tensors: dict[str, torch.Tensor], like: Path, folder: Path) -> None:
    """Write an adapter that is a judge too, with the tokenizer of `like` and what its `judge.json` says."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in like.iterdir():
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            (folder / path.name).write_bytes(path.read_bytes())
    config.save_pretrained(folder)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / ADAPTER_WEIGHTS, {"format": "pt"}
    )


def merge_into_base(adapter: Path, model_name_or_path: str | None, folder: Path) -> None:
    """
    Add an adapter's products to the weights of its base, and save the model with the adapter's tokenizer.

    Args:
        adapter (`Path`): Its folder.
        model_name_or_path (`str`, *optional*): The base model, as for [`Judge.from_pretrained`].
        folder (`Path`): Where the model goes.

    Raises:
        ValueError: If the base's weights are stored in few bits, in which the adapter would be rounded away.
    """
    settings = read_judge_file(adapter)
    base = find_base_of(settings["base_model"], model_name_or_path)
    if "quantization_config" in json.loads((base / "config.json").read_text(encoding="utf-8")):
        raise ValueError(
            f"base model {base}: its weights are quantised, and what an adapter adds would be rounded away. Name the "
            "16-bit base with --model_name_or_path"
        )
    model = PeftModel.from_pretrained(load_base(base, settings["precision"]["dtype"]), str(adapter))
    model.merge_and_unload().save_pretrained(folder)
    load_tokenizer(str(adapter)).save_pretrained(folder)
