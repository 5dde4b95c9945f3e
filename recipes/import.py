"""
Make a judge of an adapter from elsewhere: write the judge.json that says how it was trained.

    lmsys-trl import --adapter kaggle:owner/name --model_name_or_path google/gemma-2-9b-it --letters A B C
        --prompt_version lmsys-38th-code --max_length 1900 --output_dir runs/imported
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.config import parse_config
from lmsys_trl.options import Attention, PromptVersion
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class ImportConfig:
    """What the adapter does not say itself."""

    adapter: str = field(
        metadata={"help": "A folder, owner/name[@revision] on the Hub, file.zip, or kaggle:owner/name."}
    )
    model_name_or_path: str = field(metadata={"help": "The base model, whose tokenizer and template are used."})
    prompt_version: PromptVersion = field(metadata={"help": "The version of the prompt that it was trained with."})
    letters: list[str] = field(metadata={"help": "The tokens it answers with if A wins, if B wins, and for a tie."})
    max_length: int = field(metadata={"help": "Maximum tokens in an example at prediction."})
    output_dir: str = field(metadata={"help": "The folder that becomes the judge."})
    temperature: float = field(default=1.03, metadata={"help": "What the letters' logits are divided by."})
    pad_token: str | None = field(
        default=None, metadata={"help": "The token to pad with, if the tokenizer's own is its end token."}
    )
    base_model_id: str | None = field(
        default=None, metadata={"help": "The base model's name on the Hub, if model_name_or_path is a folder."}
    )
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="bfloat16", metadata={"help": "Data type of the base model's weights."}
    )
    attn_implementation: Attention | None = field(
        default=None, metadata={"help": "How attention is computed (default: that of the base model)."}
    )


CONFIGS = (ImportConfig,)


def main():
    config, given = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.models.importing import import_adapter
    from lmsys_trl.outputs import claim

    with claim(Path(config.output_dir), (config.adapter, config.model_name_or_path)):
        import_adapter(
            config.adapter,
            config.model_name_or_path,
            config.output_dir,
            prompt_version=config.prompt_version,
            letters=config.letters,
            max_length=config.max_length,
            temperature=config.temperature,
            pad_token=config.pad_token,
            base_model_id=config.base_model_id,
            dtype=config.dtype,
            attn_implementation=config.attn_implementation,
            given=given,
        )
    logger.info("The judge is in %s", config.output_dir)
    suggest_next("validate", "--adapter", config.output_dir, "--test_file", "votes.csv", "--output_dir",
                 f"{config.output_dir}/report")  # fmt: skip


if __name__ == "__main__":
    run_recipe(main)
