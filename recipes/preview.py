"""
What a model is trained on, before any weights are loaded: a few battles token by token, and the tokens of all.

    python recipes/preview.py gemma.yaml --dataset_name data/battles --tokenizer DIR
    python recipes/preview.py gemma.yaml --test_file votes.csv --num_battles 1 --max_length 512
"""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sft import JudgeConfig, what_to_learn
from trl import ModelConfig

from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.hub import download_repository
from lmsys_trl.prepared import load_battles
from lmsys_trl.preview import Tally, render_battle
from lmsys_trl.rows import load_tokenizer
from lmsys_trl.sources import read_battles
from lmsys_trl.trainer import TrainingConfig

TOKENIZER_FILES = ["tokenizer*", "special_tokens_map.json", "*.jinja", "config.json"]
BATTLES_AT_ONCE = 1000


@dataclass
class PreviewConfig(JudgeConfig):
    """Which battles are shown; and the keys of recipes/sft.py."""

    dataset_name: str | None = field(
        default=None, metadata={"help": "A data set of recipes/prepare.py: its folder, or its name on the Hub."}
    )
    test_file: str | None = field(
        default=None, metadata={"help": "In place of dataset_name: battles in any format of recipes/prepare.py."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "The tokenizer's folder (that of the base model unless told)."}
    )
    num_battles: int = field(default=3, metadata={"help": "Battles to show token by token."})


def main():
    config, model, training, _ = parse_config(PreviewConfig, ModelConfig, TrainingConfig)
    sys.stdout.reconfigure(errors="backslashreplace")  # whatever the terminal can show
    tokenizer = load_tokenizer(tokenizer_folder(config, model), config.pad_token)
    splits = load_splits(config)
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size((119, 0)).columns
    first = next(iter(splits))
    for battle in islice(splits[first], config.num_battles):
        print(render_battle(battle, tokenizer, training.max_length, width, color) + "\n")
    for name, battles in splits.items():
        tally, rest = Tally(), iter(battles)
        while chunk := list(islice(rest, BATTLES_AT_ONCE)):
            tally.add(chunk, tokenizer, training.max_length)
        print(f"{name}: {tally.told() if tally.lengths else 'no battles'}")
        if name == first and tally.lengths:
            rows = training.battles_per_step or training.train_batch_size * training.gradient_accumulation_steps
            print(f"  {tally.told_of_a_step(rows * (1 + (config.swap == 'paired')), 1 + (config.swap != 'none'))}")


def tokenizer_folder(config: PreviewConfig, model: ModelConfig) -> str:
    name = config.tokenizer or model.model_name_or_path
    if name is None:
        raise ValueError("tokenizer: missing. A folder, or model_name_or_path in its place")
    if config.tokenizer or Path(name).is_dir():
        return name
    return str(download_repository(config.base_model_id or name, "model", model.model_revision, TOKENIZER_FILES))


def load_splits(config: PreviewConfig) -> dict[str, Iterable[dict]]:
    """Splits with the battles that rows are made of. In training these have a vote, in a file they need none."""
    if config.test_file is not None:
        return {config.test_file: read_battles(config.test_file, patient=True)[0]}
    if config.dataset_name is None:
        raise ValueError("dataset_name or test_file: missing. Name the battles")
    splits = what_to_learn(load_battles(config.dataset_name), config)
    return {
        name: split.select([i for i, winner in enumerate(split["winner"]) if winner is not None])
        for name, split in splits.items()
    }


if __name__ == "__main__":
    run_recipe(main)
