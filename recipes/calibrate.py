"""
A temperature, or a temperature and a bias for each answer, fitted on votes and stored in the judge's judge.json.

    python recipes/predict.py --adapter runs/judge --test_file labelled.csv --output_file forecasts.parquet --tta swap
    python recipes/calibrate.py --adapter runs/judge --predictions forecasts.parquet

The votes must be such as the judge was not trained on. A fit that does not help on other prompts is not stored.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lmsys_trl.adapters import JUDGE_FILE, read_judge_file
from lmsys_trl.calibration import best_calibration
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.predictions import PROBABILITIES, load_predictions, votes_and_groups
from lmsys_trl.provenance import file_fingerprint, write_json

FORECASTS = {"ab": "one order of the answers", "mean": "both orders"}


@dataclass
class CalibrateConfig:
    """Which judge is calibrated on which votes."""

    adapter: str = field(metadata={"help": "The output folder of recipes/sft.py."})
    predictions: str = field(
        metadata={"help": "Its *.parquet of recipes/predict.py or validate.py, of battles with votes."}
    )


def main():
    config, _ = parse_config(CalibrateConfig)
    adapter = Path(config.adapter)
    if not adapter.is_dir():
        raise ValueError(f"adapter {adapter}: there is no such folder, and what lies elsewhere can't be changed")
    settings = read_judge_file(adapter)
    predictions = load_predictions(config.predictions)
    refuse_calibrated(config.predictions, predictions)
    calibrations = {}
    for order, what in FORECASTS.items():
        rows = predictions[(predictions["order"] == order) & predictions["winner"].notna()]
        if order == "mean":
            in_both = rows["id"].isin(predictions["id"][predictions["order"] == "ba"])
            if not len(rows) or not in_both.all():
                print(f"{what}: not fitted, since not all battles were predicted in both (--tta swap)")
                continue
        calibration, helps = best_calibration(rows[PROBABILITIES].to_numpy(), *votes_and_groups(rows))
        calibration["fitted_on"] = file_fingerprint(config.predictions)
        show(what, calibration, helps)
        if helps:
            calibrations[order] = calibration
    settings.pop("calibration", None)
    if calibrations:
        settings["calibration"] = calibrations
    write_json(adapter / JUDGE_FILE, settings)
    print(f"{adapter / JUDGE_FILE} has {'a calibration for ' + ', '.join(calibrations) if calibrations else 'none'}")


def refuse_calibrated(path: str, predictions: pd.DataFrame) -> None:
    """What was calibrated already would be calibrated twice."""
    judge = predictions.attrs.get("judge")
    if judge is None:
        print(f"{path} does not say which judge made it, so it is taken for this one's, without a calibration")
    elif judge["calibrated"]:
        raise ValueError(f"{path}: these forecasts are calibrated already. Predict again with --calibrated false")


def show(what: str, calibration: dict, helps: bool) -> None:
    biases = ", ".join(f"{bias:+.3f}" for bias in calibration["biases"])
    print(
        f"{what}: log loss {calibration['log_loss_before']:.4f}, after {calibration['method']} "
        f"{calibration['log_loss_after']:.4f} (cross-fitted over {calibration['num_groups']} groups of "
        f"{calibration['num_battles']} battles), temperature {calibration['temperature']:.3f}, biases of A, B and tie "
        f"{biases}: {'stored' if helps else 'not stored, since the gain is within its standard error'}"
    )


if __name__ == "__main__":
    run_recipe(main)
