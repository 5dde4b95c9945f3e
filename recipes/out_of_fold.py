"""
The judges of the folds as teachers: each forecasts the battles of the fold that it was not trained on.

    python recipes/out_of_fold.py --adapters runs/fold0 runs/fold1 runs/fold2 --dataset_name data/battles \
        --output_file runs/teacher.parquet
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lmsys_trl.adapters import read_judge_file
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.judge import Judge
from lmsys_trl.parts import all_processes
from lmsys_trl.predictions import save_predictions
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
    max_tokens_per_batch: int | None = field(
        default=None, metadata={"help": "Tokens in a forward pass, with padding (512 on a CPU, 4096 elsewhere)."}
    )


def main():
    config, _ = parse_config(OutOfFoldConfig)
    output_file, processes = Path(config.output_file), all_processes()
    battles = load_battles(config.dataset_name)["train"]
    judges = {adapter: read_judge_file(Path(adapter)) for adapter in config.adapters}
    refuse_leaks(battles, data_fingerprint(battles), judges)
    tables, folder = [], output_file.with_name(f"{output_file.name}.parts")
    for adapter, settings in judges.items():
        judge, fold = Judge.from_pretrained(adapter, config.model_name_or_path), settings["fold"]
        forecasts = judge.predict_dataset(
            of_fold(battles, fold),
            tta=config.tta,
            max_tokens_per_batch=config.max_tokens_per_batch,
            parts=folder / str(fold),
            processes=processes,
        )
        tables.append(forecasts.assign(fold=fold))
    if processes.is_main_process:
        forecasts = pd.concat(tables)
        save_predictions(forecasts, output_file)
        shutil.rmtree(folder)
        print(f"{forecasts['id'].nunique()} battles, each forecast by a judge that has not seen its group")


if __name__ == "__main__":
    run_recipe(main)
