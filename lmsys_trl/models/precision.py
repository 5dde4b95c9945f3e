"""Data types and quantisation, as users give them and as libraries take them."""

from trl import ModelConfig

from ..errors import raise_problems
from ..options import InferenceConfig


def quantization_of(config: ModelConfig) -> dict | None:
    """The arguments of `BitsAndBytesConfig` in training, as they are in `judge.json` too."""
    if config.load_in_8bit:
        return {"load_in_8bit": True}
    if config.load_in_4bit:
        return {
            "load_in_4bit": True,
            "bnb_4bit_compute_dtype": config.dtype,
            "bnb_4bit_quant_type": config.bnb_4bit_quant_type,
            "bnb_4bit_use_double_quant": config.use_bnb_nested_quant,
            "bnb_4bit_quant_storage": config.bnb_4bit_quant_storage,
        }
    return None


def check_inference_config(config: InferenceConfig) -> list[str]:
    """Problems with the keys of [`InferenceConfig`]."""
    return ["load_in_4bit, load_in_8bit: give one of the two"] if config.load_in_4bit and config.load_in_8bit else []


def precision_overrides(config: InferenceConfig) -> dict:
    """
    What a user wants to differ from training, as [`Judge.from_pretrained`] takes it.

    Raises:
        UserError: If the options contradict each other.
    """
    raise_problems(check_inference_config(config))
    overrides: dict = {}
    if config.attn_implementation is not None:
        overrides["attn_implementation"] = config.attn_implementation
    if config.dtype is not None:
        overrides |= {"dtype": config.dtype, "autocast": config.dtype == "bfloat16"}
    if config.load_in_8bit:
        overrides["quantization"] = {"load_in_8bit": True}
    elif config.load_in_4bit:
        overrides["quantization"] = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": config.dtype or "bfloat16",
        }
    elif False in (config.load_in_4bit, config.load_in_8bit):
        overrides["quantization"] = None
    return overrides


def attention_in_training(model_config: ModelConfig, on_cpu: bool) -> str | None:
    """On a CPU eager where nothing is said: the backward pass of sdpa would take a quarter of a step."""
    return model_config.attn_implementation or ("eager" if on_cpu else None)
