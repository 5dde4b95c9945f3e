"""
The judges of the folds as teachers: each forecasts the battles of the fold that it was not trained on.

    python recipes/out_of_fold.py --adapters runs/fold0 runs/fold1 runs/fold2 --dataset_name data/battles \
        --output_file runs/teacher.parquet
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.judge import Judge, read_judge_file
from lmsys_trl.predictions import predictions_table, save_predictions
from lmsys_trl.prepared import data_fingerprint, load_battles
from lmsys_trl.teachers import of_fold, refuse_leaks


@dataclass
class OutOfFoldConfig:
    """Which judges forecast the battles of which data set."""

    adapters: list[str] = field(metadata={"help": "Judges that recipes/sft.py trained with --fold, one for each."})
    dataset_name: str = field(metadata={"help": "The data set with these folds."})
    output_file: str = field(metadata={"help": "*.parquet: forecasts of all its training battles."})
    tta: str = field(default="none", metadata={"help": "`swap` averages both orders."})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "The base model (the folder in models/ with the same weights unless told)."}
    )
    max_tokens_per_batch: int = field(default=4096, metadata={"help": "Tokens in a forward pass, with padding."})


def main():
    config, _ = parse_config(OutOfFoldConfig)
    battles = load_battles(config.dataset_name)["train"]
    judges = {adapter: read_judge_file(Path(adapter)) for adapter in config.adapters}
    refuse_leaks(battles, data_fingerprint(battles), judges)
    rows = []
    for adapter, settings in judges.items():
        judge = Judge.from_pretrained(adapter, config.model_name_or_path)
        unseen = of_fold(battles, settings["fold"])
        forecasts = judge.predict_battles(unseen, config.tta, config.max_tokens_per_batch)
        rows += [{**row, "fold": settings["fold"]} for row in forecasts]
    save_predictions(predictions_table(rows), Path(config.output_file))
    print(f"{len({row['id'] for row in rows})} battles, each forecast by a judge that has not seen its group")


if __name__ == "__main__":
    run_recipe(main)
