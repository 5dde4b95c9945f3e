"""
Calibrate a judge: fit a temperature and biases, and what the first answer gains, and store them in its judge.json.

    lmsys-trl predict --adapter runs/judge --test_file votes.csv --output_file votes.parquet --tta swap
    lmsys-trl calibrate --adapter runs/judge --predictions votes.parquet
    lmsys-trl calibrate --adapter runs/judge --predictions votes.parquet --with_features --test_file votes.csv

The judge must not have been trained on these votes. A fit that does not help on other prompts is not stored. What the
first answer gains by its place is fitted on both orders of the answers and needs no votes.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.data.config import BattlesConfig
from lmsys_trl.errors import UserError, raise_problems
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class CalibrateConfig:
    """Which judge is calibrated on which votes."""

    adapter: str = field(metadata={"help": "A judge's folder, whose judge.json gets the calibration."})
    predictions: str = field(
        metadata={"help": "Its predictions (*.parquet of predict or validate), with votes or in both orders."}
    )
    with_features: bool = field(
        default=False,
        metadata={
            "help": "Let length and style of the answers correct the judge, if that helps on other prompts. Needs the "
            "battles: test_file or dataset_name."
        },
    )


CONFIGS = (CalibrateConfig, BattlesConfig)


def main():
    config, battles_config, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.artifacts import file_fingerprint
    from lmsys_trl.data.inputs import all_battles, check_battles_config
    from lmsys_trl.models.adapter import JUDGE_FILE
    from lmsys_trl.models.adapter_weights import weights_file
    from lmsys_trl.models.judge_file import JudgeFile
    from lmsys_trl.outputs import claim
    from lmsys_trl.predictions.baselines import style_regression
    from lmsys_trl.predictions.calibrate import fit_calibrations, refuse_calibrated, save_calibration_battles
    from lmsys_trl.predictions.features import features_of, load_features
    from lmsys_trl.predictions.table import load_predictions

    problems = check_battles_config(battles_config, required=config.with_features)
    if not config.with_features and (battles_config.test_file or battles_config.dataset_name):
        problems.append("test_file, dataset_name: are read for their style only. Give --with_features")
    raise_problems(problems)
    adapter = Path(config.adapter)
    if not adapter.is_dir():
        raise UserError(
            f"adapter {adapter}: there is no such folder. Judges on the Hub or in archives can't be changed"
        )
    with claim(adapter):
        judge_file = JudgeFile.load(adapter)
        predictions = load_predictions(config.predictions)
        refuse_calibrated(predictions, config.predictions, file_fingerprint(weights_file(adapter)))
        features = regression = None
        if config.with_features:
            features = features_of(all_battles(battles_config), predictions)
            training = load_features(adapter)
            regression = style_regression(training) if training is not None else None
        fitted_on = file_fingerprint(config.predictions)
        before = judge_file.calibration
        judge_file.calibration = fit_calibrations(predictions, fitted_on, features, regression)
        save_calibration_battles(predictions, adapter)
        judge_file.save(adapter)

    stored = ", ".join(judge_file.calibration)
    logger.info("%s has %s", adapter / JUDGE_FILE, f"a calibration for {stored}" if stored else "no calibration")
    if removed := [name for name in before if name not in judge_file.calibration]:
        logger.warning("What it had for %s before is removed", ", ".join(removed))
    tta = ("--tta", "swap") if "mean" in judge_file.calibration else ()
    suggest_next("predict", "--adapter", adapter, "--test_file", "test.csv", "--output_file", "submission.csv", *tta)


if __name__ == "__main__":
    run_recipe(main)
