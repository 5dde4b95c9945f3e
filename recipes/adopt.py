"""
An adapter that was made elsewhere in, a judge out: writes the judge.json that tells how it is to be asked.

    python recipes/adopt.py --adapter kaggle:owner/name --model_name_or_path google/gemma-2-9b-it \
        --prompt_version lmsys-38th-v1 --letters A B C --max_length 1900 --output_dir runs/adopted
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, JUDGE_FILE, adapter_folder
from lmsys_trl.base_models import base_folder
from lmsys_trl.battle import WINNERS
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.judge import describe_judge
from lmsys_trl.prompts import PROMPT_VERSION
from lmsys_trl.provenance import provenance, write_json
from lmsys_trl.rows import load_tokenizer


@dataclass
class AdoptConfig:
    """What cannot be read from the adapter itself."""

    adapter: str = field(
        metadata={"help": "A folder, owner/name[@revision] on the Hub, file.zip, or kaggle:owner/name."}
    )
    model_name_or_path: str = field(metadata={"help": "The base model, whose tokenizer and template are used."})
    prompt_version: Literal[PROMPT_VERSION] = field(metadata={"help": "The words of the prompt it learned with."})
    letters: list[str] = field(
        metadata={"help": "The tokens that it answers with where A wins, B wins, and for a tie."}
    )
    max_length: int = field(metadata={"help": "Tokens in a row at prediction."})
    output_dir: str = field(metadata={"help": "The folder that becomes the judge."})
    temperature: float = field(default=1.03, metadata={"help": "What the letters' logits are divided by."})
    pad_token: str | None = field(
        default=None, metadata={"help": "The token to pad with, where the tokenizer's own is its end token."}
    )
    base_model_id: str | None = field(
        default=None, metadata={"help": "The base model's name on the Hub, where model_name_or_path is a folder."}
    )
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="bfloat16", metadata={"help": "Of the base model's weights."}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "The base model's own unless told."})


def main():
    config, given = parse_config(AdoptConfig)
    adapter, base = adapter_folder(config.adapter), base_folder(config.model_name_or_path)
    tokenizer = load_tokenizer(str(base), config.pad_token)
    ids = [tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in config.letters]
    check(config, adapter, ids)
    judge = describe_judge(
        tokenizer,
        base,
        config.base_model_id or (None if Path(config.model_name_or_path).exists() else config.model_name_or_path),
        max_length=config.max_length,
        inference_max_length=config.max_length,
        temperature=config.temperature,
        precision={
            "dtype": config.dtype,
            "autocast": False,
            "attn_implementation": config.attn_implementation,
            "quantization": None,
        },
    )
    letters = zip(WINNERS, config.letters, ids, strict=True)
    judge["letters"] = {winner: {"letter": letter, "id": id} for winner, letter, (id,) in letters}
    judge |= {"fold": None, **provenance(given)}
    output_dir = Path(config.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(adapter / name, output_dir / name)
    tokenizer.save_pretrained(output_dir)
    write_json(output_dir / JUDGE_FILE, judge)
    print(f"The judge is in {output_dir}")


def check(config: AdoptConfig, adapter: Path, ids: list[list[int]]) -> None:
    """All that is wrong, at once; `ids` are the tokens of each letter."""
    output_dir = Path(config.output_dir)
    distinct = len(ids) == len(WINNERS) == len({tuple(one) for one in ids}) and all(len(one) == 1 for one in ids)
    checks = [
        (not output_dir.exists() or not any(output_dir.iterdir()), f"output_dir: {output_dir} is not empty"),
        ((adapter / ADAPTER_WEIGHTS).is_file(), f"{adapter}: no {ADAPTER_WEIGHTS}. Pickled adapters are not loaded"),
        (distinct, f"letters: expected three different tokens, found {' '.join(config.letters)}, which are {ids}"),
    ]
    problems = [problem for fine, problem in checks if not fine]
    if problems:
        raise ValueError("\n  ".join([f"{len(problems)} mistake{'s' * (len(problems) > 1)}:", *problems]))


if __name__ == "__main__":
    run_recipe(main)
