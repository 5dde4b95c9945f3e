"""
An adapter and a CSV in, a submission out.

    accelerate launch recipes/predict.py --adapter runs/judge --test_file test.csv --output_file submission.csv
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from accelerate import PartialState
from accelerate.utils import gather_object

from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.judge import Judge
from lmsys_trl.predictions import predictions_table, save_predictions, save_submission
from lmsys_trl.sources import read_battles


@dataclass
class PredictConfig:
    """Which judge predicts what, and how."""

    adapter: str = field(metadata={"help": "The output folder of recipes/sft.py."})
    test_file: str = field(metadata={"help": "Battles in any format of recipes/prepare.py, with votes or not."})
    output_file: str = field(
        metadata={"help": "*.csv: a Kaggle submission. *.parquet: all orders, with votes and lengths."}
    )
    tta: Literal["none", "swap"] = field(default="none", metadata={"help": "`swap` averages both orders."})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "The base model (the folder in models/ with the same weights unless told)."}
    )
    max_tokens_per_batch: int = field(default=4096, metadata={"help": "Tokens in a forward pass, with padding."})


def main():
    config, _ = parse_config(PredictConfig)
    output_file = Path(config.output_file)
    if output_file.suffix not in (".csv", ".parquet"):
        raise ValueError(f"output_file: expected a name that ends in .csv or .parquet, found {output_file.name}")
    battles, changes = read_battles(config.test_file, patient=True)
    state = PartialState()
    if state.is_main_process:
        print(f"{config.test_file}: {len(battles)} battles", *(f"({n} {change})" for change, n in changes.items()))
    judge = Judge.from_pretrained(config.adapter, config.model_name_or_path)

    # Each process takes a stretch of the file, so that what is gathered is in file order.
    share = -(-len(battles) // state.num_processes)
    mine = battles[state.process_index * share : (state.process_index + 1) * share]
    predictions = judge.predict_battles(
        mine, tta=config.tta, max_tokens_per_batch=config.max_tokens_per_batch, progress=state.is_main_process
    )
    predictions = predictions_table(gather_object(predictions))
    if state.is_main_process:
        save = save_predictions if output_file.suffix == ".parquet" else save_submission
        save(predictions, output_file)
        print(f"{len(battles)} battles predicted, written to {output_file}")


if __name__ == "__main__":
    run_recipe(main)
