"""Base models: where their files are, which weights they hold, and how they are loaded."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_enabled

from ..config import bundled_folder, find_model_folder
from ..errors import UserError, first_line
from ..hub import download_repository

BASE_FOLDER = "base_model.txt"  # beside an adapter
FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]  # no pickles
# What another model of the same family must share, so that an adapter's matrices fit.
ARCHITECTURE_KEYS = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads",
)  # fmt: skip


def hub_id(name_or_path: str) -> str | None:
    """A base model's name on the Hub, or None if a local folder is meant."""
    return None if Path(name_or_path).exists() or find_model_folder(name_or_path) else name_or_path


def resolve_base(name_or_path: str | None, revision: str | None = None) -> Path:
    """
    The folder with a base model's files.

    Args:
        name_or_path (`str`): A folder, absolute or relative to the working directory or the checkout; or a name on
            the Hub, which is downloaded to the Hub's cache.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        UserError: If there is neither.
    """
    if name_or_path is None:
        raise UserError("model_name_or_path: missing. A folder with a base model, or its name on the Hub")
    folder = find_model_folder(name_or_path)
    if folder is None:
        try:
            folder = download_repository(name_or_path, "model", revision, FILES)
        except UserError as error:
            raise UserError(
                f"base model {name_or_path}: there is no such folder, and as a {error}. Make the folder "
                "(lmsys-trl fetch makes that of smollm2.yaml)"
            ) from error
    if not (folder / "config.json").is_file():
        raise UserError(f"base model {name_or_path}: {folder} has no config.json")
    return folder


def hub_revision(folder: Path) -> str | None:
    """The commit that a folder of the Hub's cache holds, or None."""
    return folder.name if folder.parent.name == "snapshots" else None


def load_model_config(folder: Path) -> PreTrainedConfig:
    """The `config.json` of a base model, or a [`UserError`] if it is damaged or of an unknown kind."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises anything at damaged files
        raise UserError(f"base model {folder}: config.json is damaged, or not known: {first_line(error)}") from error


def context_length(config: PreTrainedConfig) -> int | None:
    """How many tokens a model can read, if its configuration says so."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_lengths(config: PreTrainedConfig, lengths: Mapping[str, int]) -> list[str]:
    """Whether a model has positions for examples of some lengths, given by the keys that set them."""
    maximum = context_length(config)
    return [
        f"{key}: {length} tokens, but the model has positions for {maximum}. Lower it to {maximum} at most"
        for key, length in lengths.items()
        if maximum is not None and length > maximum
    ]


def build_without_weights(config: PreTrainedConfig, attn_implementation: str | None = "eager") -> PreTrainedModel:
    """The model on the meta device."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation)


def weights_fingerprint(folder: Path) -> str:
    """
    A hash of name, type, shape and first 4 KiB of every tensor in a folder's safetensors files. It takes milliseconds
    and does not depend on how the tensors are distributed over files.

    Raises:
        UserError: If there is no safetensors file, since pickled weights are not loaded, or if one is damaged.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"base model {folder}: no *.safetensors file. Pickled weights are not loaded")
    tensors: dict[str, list] = {}
    for file in files:
        try:
            with safe_open(file, "pt"):  # checks the header and the file's size
                tensors |= _tensor_hashes(file)
        except SafetensorError as error:
            raise UserError(f"base model {folder}: {file.name} is damaged: {error}") from error
    return sha256(json.dumps(tensors, sort_keys=True).encode()).hexdigest()


def _tensor_hashes(file: Path) -> dict[str, list]:
    """Type, shape and hash of each tensor in an undamaged file."""
    tensors = {}
    with file.open("rb") as raw:  # the format: 8 bytes with the header's length, the header, the tensors' bytes
        start = 8 + int.from_bytes(raw.read(8), "little")
        for name, tensor in json.loads(raw.read(start - 8)).items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                raw.seek(start + begin)
                digest = sha256(raw.read(min(4096, end - begin))).hexdigest()
                tensors[name] = [tensor["dtype"], tensor["shape"], digest]
    return tensors


def architecture(folder: Path) -> dict:
    """The settings of a folder's `config.json` that an adapter depends on."""
    config = load_model_config(folder).get_text_config()
    return {key: getattr(config, key, None) for key in ARCHITECTURE_KEYS}


def find_local_base(fingerprint: str) -> Path | None:
    """The folder in `models/` whose weights have this fingerprint, or None. A checkout's `models/` counts too."""
    for models in (Path("models"), bundled_folder("recipes").parent / "models"):
        for config in sorted(models.glob("*/config.json")):
            if _holds(config.parent, fingerprint):
                return config.parent
    return None


def _holds(folder: Path, fingerprint: str) -> bool:
    """Whether a folder has a base model with these weights."""
    has_model = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return has_model and weights_fingerprint(folder) == fingerprint


def load_base(
    folder: Path, dtype: str, attn_implementation: str | None = None, quantization: dict | None = None
) -> PreTrainedModel:
    """
    Load a base model. Training and prediction both call this, so that they compute alike.

    Args:
        folder (`Path`): As returned by [`resolve_base`].
        dtype (`str`): Of the weights, or of those that are not quantised: "float32", "bfloat16", "float16" or "auto".
        attn_implementation (`str`, *optional*): "eager", "sdpa", "flash_attention_2".
        quantization (`dict`, *optional*): The arguments of `BitsAndBytesConfig`.

    Raises:
        UserError: If its weights are damaged.
    """
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if device.type != "cpu":
        device = torch.device(device.type, torch.accelerator.current_device_index())  # one device a process
    # Straight to a GPU, unless FSDP or ZeRO-3 distribute the weights. bitsandbytes quantises where they are loaded.
    is_whole = device.type != "cpu" and not is_fsdp_enabled() and not is_deepspeed_zero3_enabled()
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attn_implementation,
            quantization_config=BitsAndBytesConfig(**quantization) if quantization else None,
            device_map={"": device} if quantization or is_whole else None,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except SafetensorError as error:
        raise UserError(f"base model {folder}: a *.safetensors file is damaged: {error}") from error


def remember_base(adapter: Path, base: Path) -> None:
    """Write beside an adapter where its base model is on this machine. The file is never pushed."""
    (adapter / BASE_FOLDER).write_text(f"{base.resolve()}\n", encoding="utf-8")


def find_base_of(base_model: dict, model_name_or_path: str | None = None, adapter: Path | None = None) -> Path:
    """
    The folder of the base model that `judge.json` describes.

    Args:
        base_model (`dict`): As in [`JudgeFile`].
        model_name_or_path (`str`, *optional*): Another one to use instead.
        adapter (`Path`, *optional*): The judge's folder, which may say where its base model was at its training.

    Raises:
        UserError: If it is neither there, nor in `models/`, nor on the Hub.
    """
    if model_name_or_path is not None:
        return resolve_base(model_name_or_path)
    remembered = adapter / BASE_FOLDER if adapter else None
    if remembered and remembered.is_file():
        base = Path(remembered.read_text(encoding="utf-8", errors="replace").strip())
        if _holds(base, base_model["fingerprint"]):
            return base
    folder = find_local_base(base_model["fingerprint"])
    if folder is None and base_model["id"] is None:
        raise UserError(
            f"no folder in models/ has the base model's weights (fingerprint {base_model['fingerprint'][:12]}), and "
            "its Hub id is not known. Name it with --model_name_or_path"
        )
    return folder or resolve_base(base_model["id"], base_model.get("revision"))
