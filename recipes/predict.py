"""
An adapter and battles in, a submission or a predictions file out.

    accelerate launch recipes/predict.py --adapter runs/judge --test_file test.csv --output_file submission.csv

Killed and started again with the same command it goes on after the last part in OUTPUT_FILE.parts, in however many
processes.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.judge import Judge
from lmsys_trl.orders import parse_tta
from lmsys_trl.parts import all_processes, stored_battles
from lmsys_trl.predictions import save_predictions, save_submission


@dataclass
class PrecisionConfig:
    """How the base model is loaded, where it differs from the training."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = field(
        default=None, metadata={"help": "Of the weights and of computing (as in training unless told)."}
    )
    load_in_4bit: bool | None = field(default=None, metadata={"help": "nf4, or false for weights as they are."})
    load_in_8bit: bool | None = field(default=None, metadata={"help": "8 bits, or false for weights as they are."})
    attn_implementation: str | None = field(
        default=None, metadata={"help": "sdpa where the model can unless told: eager, flash_attention_2."}
    )


@dataclass
class PredictConfig:
    """Which judge predicts what, and how."""

    adapter: str = field(metadata={"help": "The output folder of recipes/sft.py."})
    test_file: str = field(metadata={"help": "Battles in any format of recipes/prepare.py, with votes or not."})
    output_file: str = field(
        metadata={"help": "*.csv: a Kaggle submission. *.parquet: all orders, with votes and lengths."}
    )
    tta: str = field(
        default="none",
        metadata={"help": "`swap` for both orders, or for some battles: `uncertain:0.33`, `longest:0.1`."},
    )
    rows: Literal["last", "all"] = field(
        default="last", metadata={"help": "The row with the last round, or the average over all rows of a battle."}
    )
    max_length: int | None = field(default=None, metadata={"help": "Tokens in a row (as in judge.json unless told)."})
    calibrated: bool = field(default=True, metadata={"help": "Use what recipes/calibrate.py stored in judge.json."})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "The base model (the folder in models/ with the same weights unless told)."}
    )
    max_tokens_per_batch: int | None = field(
        default=None, metadata={"help": "Tokens in a forward pass, with padding (512 on a CPU, 4096 elsewhere)."}
    )
    battles_per_part: int = field(default=512, metadata={"help": "Battles in a part, for each process."})


def main():
    config, precision, _ = parse_config(PredictConfig, PrecisionConfig)
    output_file = Path(config.output_file)
    if output_file.suffix not in (".csv", ".parquet"):
        raise ValueError(f"output_file: expected a name that ends in .csv or .parquet, found {output_file.name}")
    parse_tta(config.tta)
    processes = all_processes()
    folder = output_file.with_name(f"{output_file.name}.parts")
    battles = stored_battles(config.test_file, folder, processes)
    judge = Judge.from_pretrained(config.adapter, config.model_name_or_path, precision_changes(precision))
    predictions = judge.predict_dataset(
        battles,
        tta=config.tta,
        rows=config.rows,
        max_length=config.max_length,
        max_tokens_per_batch=config.max_tokens_per_batch,
        calibrated=config.calibrated,
        parts=folder,
        battles_per_part=config.battles_per_part,
        processes=processes,
    )
    if processes.is_main_process:
        save = save_predictions if output_file.suffix == ".parquet" else save_submission
        save(predictions, output_file)
        shutil.rmtree(folder)
        print(f"{len(battles)} battles predicted, written to {output_file}")


def precision_changes(config: PrecisionConfig) -> dict:
    """What was asked for as [`Judge.from_pretrained`] takes it."""
    if config.load_in_4bit and config.load_in_8bit:
        raise ValueError("load_in_4bit, load_in_8bit: choose one")
    changes = {}
    if config.attn_implementation is not None:
        changes["attn_implementation"] = config.attn_implementation
    if config.dtype is not None:
        changes |= {"dtype": config.dtype, "autocast": config.dtype == "bfloat16"}
    if config.load_in_8bit:
        changes["quantization"] = {"load_in_8bit": True}
    elif config.load_in_4bit:
        changes["quantization"] = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": config.dtype or "bfloat16",
        }
    elif False in (config.load_in_4bit, config.load_in_8bit):
        changes["quantization"] = None
    return changes


if __name__ == "__main__":
    run_recipe(main)
