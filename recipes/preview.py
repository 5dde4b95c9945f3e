"""
Show what a judge is trained on, before weights are loaded: some battles token by token, and the tokens of all.

    lmsys-trl preview gemma.yaml --dataset_name data/battles --tokenizer DIR
    lmsys-trl preview gemma.yaml --test_file votes.csv --num_battles 1 --max_length 512

It takes the same YAML and keys as sft.
"""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import islice

from lmsys_trl.config import parse_config
from lmsys_trl.data.config import BattlesConfig
from lmsys_trl.errors import raise_problems
from lmsys_trl.options import MODEL_CONFIG, TRAINING_CONFIG, JudgeConfig
from lmsys_trl.terminal import logger, run_recipe


@dataclass
class PreviewConfig(JudgeConfig, BattlesConfig):
    """Which battles are shown, and the keys of sft."""

    dataset_name: str | None = field(  # type: ignore[assignment]  # sft needs one
        default=None, metadata={"help": "A data set made by prepare: its folder, or its name on the Hub."}
    )
    test_file: str | None = field(
        default=None, metadata={"help": "Instead of dataset_name: a file of battles in any format that prepare reads."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "The tokenizer's folder (default: that of the base model)."}
    )
    num_battles: int = field(default=3, metadata={"help": "Battles to show token by token."})


CONFIGS = (PreviewConfig, MODEL_CONFIG, TRAINING_CONFIG)


def main():
    config, model_config, training, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.data.dataset import load_battles
    from lmsys_trl.data.inputs import check_battles_config
    from lmsys_trl.data.sources import read_battles
    from lmsys_trl.encoding.preview import Tally, render_battle, with_votes
    from lmsys_trl.encoding.tokenizer import load_tokenizer, resolve_tokenizer
    from lmsys_trl.training.run import select_training_data

    if config.test_file:
        config.dataset_name = None  # the YAML's
    raise_problems(check_battles_config(config))
    folder = resolve_tokenizer(
        config.tokenizer, model_config.model_name_or_path, config.base_model_id, model_config.model_revision
    )
    tokenizer, max_length = load_tokenizer(folder, config.pad_token), training.max_length
    splits: dict[str, Iterable[dict]]
    if config.test_file:
        splits = {config.test_file: read_battles(config.source(), lenient=True)[0]}
    else:
        splits = with_votes(select_training_data(load_battles(config.dataset_name), config))

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever the terminal can show
    color, width = sys.stdout.isatty() and not os.environ.get("NO_COLOR"), shutil.get_terminal_size((119, 0)).columns
    first = next(iter(splits))
    for battle in islice(splits[first], config.num_battles):
        logger.info("%s\n", render_battle(battle, tokenizer, max_length, width, color, config.prompt_version))
    if training.loss == "letters" and config.num_battles:
        logger.info("loss: letters compares the three letters, so the end token's label has no effect\n")
    for name, battles in splits.items():
        tally = Tally()
        tally.add(battles, tokenizer, max_length, config.prompt_version)
        logger.info("%s: %s", name, tally.summary())
        if name == first and tally.lengths:
            per_step = training.battles_per_step or training.train_batch_size * training.gradient_accumulation_steps
            copies = 1 if config.swap == "none" else 2
            logger.info("  %s", tally.step_summary(per_step * (2 if config.swap == "paired" else 1), copies))


if __name__ == "__main__":
    run_recipe(main)
