"""Base models: where their files are, which weights they hold, and how they are loaded."""

import json
from hashlib import sha256
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from .hub import download_repository

MODELS_FOLDER = Path("models")
FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]  # no pickles
# What another model of the same family must share, so that an adapter's matrices fit.
ARCHITECTURE_KEYS = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads",
)  # fmt: skip


def base_folder(name_or_path: str | None, revision: str | None = None) -> Path:
    """
    The folder with a base model's files: a folder as it is, a Hub id through the Hub's cache.

    Raises:
        ValueError: If there is neither.
    """
    if name_or_path is None:
        raise ValueError("model_name_or_path: missing. A folder with a base model, or its name on the Hub")
    if Path(name_or_path).is_dir():
        folder = Path(name_or_path)
    else:
        try:
            folder = download_repository(name_or_path, "model", revision, FILES)
        except ValueError as error:
            raise ValueError(
                f"base model {name_or_path}: there is no such folder, and as a {error}. Make the folder "
                "(recipes/fetch.py makes that of smollm2.yaml)"
            ) from error
    if not (folder / "config.json").is_file():
        raise ValueError(f"base model {name_or_path}: {folder} has no config.json")
    return folder


def hub_revision(folder: Path) -> str | None:
    """The commit that a folder of the Hub's cache holds, or None."""
    return folder.name if folder.parent.name == "snapshots" else None


def weights_fingerprint(folder: Path) -> str:
    """
    A hash of name, type, shape and first 4 KiB of every tensor in a folder's safetensors files, so that it costs
    milliseconds and does not depend on how the tensors are shared out over files.

    Raises:
        ValueError: If there is no safetensors file: pickled weights are not loaded.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"base model {folder}: no *.safetensors file. Pickled weights are not loaded")
    tensors = {}
    for file in files:
        with file.open("rb") as raw:  # the format: 8 bytes with the header's length, the header, the tensors' bytes
            start = 8 + int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(start - 8))
            for name, tensor in header.items():
                if name != "__metadata__":
                    begin, end = tensor["data_offsets"]
                    raw.seek(start + begin)
                    digest = sha256(raw.read(min(4096, end - begin))).hexdigest()
                    tensors[name] = [tensor["dtype"], tensor["shape"], digest]
    return sha256(json.dumps(tensors, sort_keys=True).encode()).hexdigest()


def architecture(folder: Path) -> dict:
    """The settings of a folder's `config.json` that an adapter depends on."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    return {key: getattr(config, key, None) for key in ARCHITECTURE_KEYS}


def find_base(fingerprint: str, models_folder: Path = MODELS_FOLDER) -> Path | None:
    """The folder in `models/` whose weights have this fingerprint, or None."""
    for config in sorted(models_folder.glob("*/config.json")):
        if any(config.parent.glob("*.safetensors")) and weights_fingerprint(config.parent) == fingerprint:
            return config.parent
    return None


def load_base(
    folder: Path, dtype: str, attn_implementation: str | None = None, quantization: dict | None = None
) -> PreTrainedModel:
    """
    Load a base model for training or prediction; both go through here, so that they compute alike.

    Args:
        folder (`Path`): As found by [`base_folder`].
        dtype (`str`): Of the weights, or of what is not quantised: "float32", "bfloat16", "float16" or "auto".
        attn_implementation (`str`, *optional*): "eager", "sdpa", "flash_attention_2".
        quantization (`dict`, *optional*): The arguments of `BitsAndBytesConfig`.
    """
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if device.type != "cpu":
        device = torch.device(device.type, torch.accelerator.current_device_index())  # one device a process
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=attn_implementation,
        quantization_config=BitsAndBytesConfig(**quantization) if quantization else None,
        device_map={"": device} if quantization else None,  # bitsandbytes quantises where the weights are put
        use_safetensors=True,
        trust_remote_code=False,
    )
