"""The weights of an adapter: put on a base model whole, or refused."""

from collections.abc import Iterable
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from ..errors import UserError, raise_problems
from .adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS

WRAPPERS = ("_orig_mod.", "language_model.")  # that torch.compile and models for images put into names


def read_lora_config(adapter: Path) -> LoraConfig:
    """
    Read the configuration of an adapter.

    Raises:
        UserError: If it is damaged, or not a LoRA of a causal language model.
    """
    try:
        config = PeftConfig.from_pretrained(str(adapter))
    except Exception as error:  # peft raises anything at damaged files
        raise UserError(f"adapter {adapter}: {ADAPTER_CONFIG} is damaged: {error}") from error
    if not isinstance(config, LoraConfig) or config.task_type not in (None, "CAUSAL_LM"):
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise UserError(f"adapter {adapter}: is a {kind} for {config.task_type}. A judge is a LORA for CAUSAL_LM")
    if config.megatron_config is not None:  # peft would import whatever module it names
        raise UserError(f"adapter {adapter}: megatron_config in its {ADAPTER_CONFIG} is refused. Remove it")
    return config


def read_weights(adapter: Path) -> dict[str, torch.Tensor]:
    """
    Read the tensors of an adapter.

    Raises:
        UserError: If there are none, or they are damaged.
    """
    try:
        return load_file(weights_file(adapter))
    except (SafetensorError, OSError) as error:
        raise UserError(f"adapter {adapter}: {ADAPTER_WEIGHTS} is damaged: {error}") from error


def weights_file(adapter: Path) -> Path:
    """The path of an adapter's weights, or a [`UserError`] if they are missing or a pickle."""
    path = adapter / ADAPTER_WEIGHTS
    if not path.is_file():
        raise UserError(f"adapter {adapter}: no {ADAPTER_WEIGHTS}. lmsys-trl import makes one of an adapter_model.bin")
    return path


def attach_adapter(
    model: PreTrainedModel | PeftModel, adapter: Path, name: str = "default", is_trainable: bool = False
) -> PeftModel:
    """
    Put an adapter on its base model, beside those that are there.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The base model, with other adapters or without.
        adapter (`Path`): The adapter's folder.
        name (`str`): What it is called in the model.
        is_trainable (`bool`): Train it further.

    Raises:
        UserError: If the model has no place for one of its tensors, or a place for which it has none.
    """
    config, weights = read_lora_config(adapter), read_weights(adapter)
    config.inference_mode = not is_trainable
    model = make_room(model, config, adapter, name)
    set_peft_model_state_dict(model, fitting_weights(model, weights, adapter, name), adapter_name=name)
    return model


def make_room(
    model: PreTrainedModel | PeftModel, config: LoraConfig, adapter: Path, name: str = "default", **options
) -> PeftModel:
    """
    A base model with the modules of an adapter, whose weights are not those of the adapter yet.

    Args:
        model (`PreTrainedModel` or `PeftModel`), name (`str`): As for [`attach_adapter`].
        config (`LoraConfig`), adapter (`Path`): The adapter's configuration, and its folder, for messages.
        options: More arguments of `PeftModel`.

    Raises:
        UserError: If PEFT does not find their places.
    """
    try:
        if not isinstance(model, PeftModel):
            return PeftModel(model, config, adapter_name=name, **options)
        model.add_adapter(name, config)
        return model
    except Exception as error:  # peft raises anything at settings that make no sense
        raise UserError(f"adapter {adapter}: does not fit the base model: {error}") from error


def fitting_weights(
    model: PeftModel, weights: dict[str, torch.Tensor], adapter: Path, name: str = "default"
) -> dict[str, torch.Tensor]:
    """
    Check that weights are those of an adapter in a model, which may be on the meta device.

    Args:
        model (`PeftModel`), name (`str`): The model, and what the adapter is called in it.
        weights (`dict[str, Tensor]`): Its weights, as from [`read_weights`].
        adapter (`Path`): Their folder, for messages.

    Returns:
        `dict[str, Tensor]`: The weights, under the names that PEFT gives them.

    Raises:
        UserError: If the model has no place for one of them, or a place for which there is none.
    """
    embeddings = any("base_layer" in key for key in weights)  # PEFT saves these too if an adapter is on them
    expected = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=embeddings)
    weights = _with_names_of(expected, weights)
    problems = [
        *_count("of its tensors have no place in the base model", weights.keys() - expected.keys()),
        *_count("tensors are missing in it", expected.keys() - weights.keys()),
        *_count(
            "of its tensors have another shape",
            [key for key in weights.keys() & expected.keys() if weights[key].shape != expected[key].shape],
        ),
        *_count("of its tensors hold values that are no numbers", not_finite(weights)),
    ]
    raise_problems(problems, f"adapter {adapter}: does not fit the base model:")
    return weights


def not_finite(weights: dict[str, torch.Tensor]) -> list[str]:
    """The names of the tensors with values that are no numbers."""
    return [key for key, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def _with_names_of(expected: Iterable[str], weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, without the wrappers in their names if that makes them the expected ones."""
    if weights.keys() == set(expected):
        return weights
    unwrapped = {}
    for name, tensor in weights.items():
        for wrapper in WRAPPERS:
            name = name.replace(wrapper, "")
        unwrapped[name] = tensor
    return unwrapped if unwrapped.keys() == set(expected) else weights


def _count(what: str, names: Iterable[str]) -> list[str]:
    listed = sorted(names)
    if not listed:
        return []
    more = f" and {len(listed) - 2} more" if len(listed) > 2 else ""
    return [f"{len(listed)} {what}: {', '.join(listed[:2])}{more}"]
