"""
Fold adapters averaged into one, or an adapter merged into its 16-bit base model.

    python recipes/merge.py --adapters runs/fold0 runs/fold1 runs/fold2 --output_dir runs/mean --test_file votes.csv
    python recipes/merge.py --adapters runs/judge --output_dir models/judge --test_file votes.csv
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from lmsys_trl.adapters import JUDGE_FILE, adapter_folder, read_judge_file
from lmsys_trl.base_models import load_base
from lmsys_trl.battle import WINNERS
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.judge import Judge
from lmsys_trl.merging import average_adapters, merge_into_base, save_adapter
from lmsys_trl.metrics import score
from lmsys_trl.predictions import probabilities_of
from lmsys_trl.provenance import provenance, without_folders, write_json
from lmsys_trl.sources import read_battles


@dataclass
class MergeConfig:
    """What is merged into what, and on which votes that is judged."""

    adapters: list[str] = field(metadata={"help": "Several to average, or one to merge into its base model."})
    output_dir: str = field(metadata={"help": "A new folder for the adapter or model."})
    method: Literal["mean", "cat"] = field(
        default="mean", metadata={"help": "Mean of the A and of the B matrices, or the exact mean, of higher rank."}
    )
    test_file: str | None = field(default=None, metadata={"help": "Votes for the log loss before and after."})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "The base model (the folder in models/ with the same weights unless told)."}
    )


def main():
    config, given = parse_config(MergeConfig)
    output_dir, adapters = Path(config.output_dir), [adapter_folder(adapter) for adapter in config.adapters]
    if output_dir.exists():
        raise ValueError(f"output_dir: {output_dir} exists already. Choose a new folder")
    if len(adapters) > 1:
        lora, tensors = average_adapters(adapters, config.method)
        save_adapter(lora, tensors, adapters[0], output_dir)
        description = read_judge_file(adapters[0]) | {
            "fold": None,
            "merged": without_folders(config.adapters),
            **provenance(given),
        }
        description.pop("calibration", None)  # fitted on forecasts of the first one alone
        write_json(output_dir / JUDGE_FILE, description)
        print(f"The average of {len(adapters)} adapters is in {output_dir}")
    else:
        merge_into_base(adapters[0], config.model_name_or_path, output_dir)
        print(f"{adapters[0]} merged into its base model is in {output_dir}")
    if config.test_file:
        compare(adapters, output_dir, config)


def compare(adapters: list[Path], output_dir: Path, config: MergeConfig) -> None:
    """Log loss of each adapter, of the mean of their forecasts, and of what they were merged into."""
    battles, _ = read_battles(config.test_file)
    forecasts = {}
    for path in [*adapters, output_dir] if len(adapters) > 1 else adapters:
        judge = Judge.from_pretrained(path, config.model_name_or_path)
        predictions = judge.predict_dataset(battles)
        forecasts[str(path)] = probabilities_of(predictions, "ab")
    if len(adapters) > 1:
        forecasts["mean of their forecasts"] = np.mean([forecasts[str(adapter)] for adapter in adapters], axis=0)
    else:
        merged = load_base(output_dir, judge.settings["precision"]["dtype"], judge.model.config._attn_implementation)
        predictions = Judge(merged, judge.tokenizer, judge.settings).predict_dataset(battles)
        forecasts[str(output_dir)] = probabilities_of(predictions, "ab")
    labels = np.array([WINNERS.index(battle["winner"]) for battle in battles])
    for name, probabilities in forecasts.items():
        print(f"{name:40} log loss {score(probabilities, labels)['log_loss']:.4f} on {len(labels)} votes")


if __name__ == "__main__":
    run_recipe(main)
