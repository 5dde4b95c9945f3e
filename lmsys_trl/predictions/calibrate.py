"""A table of predictions -> the calibrations of `judge.json`."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from ..artifacts import atomic_write
from ..errors import UserError
from ..terminal import logger
from .calibration import best_calibration
from .features import FEATURES
from .position import correct_position, fit_position
from .table import PROBABILITIES, has_vote, vote_fractions, votes_and_groups

CALIBRATION_FILE = "calibration_battles.parquet"
CALIBRATED_ORDERS = {"ab": "one order of the answers", "mean": "both orders"}


def refuse_calibrated(predictions: pd.DataFrame, path: str, adapter: str) -> None:
    """
    Make sure that predictions are those of a judge, without a calibration on which another one would be put.

    Args:
        predictions (`DataFrame`), path (`str`): The predictions, and where they are.
        adapter (`str`): The fingerprint of the judge's weights.

    Raises:
        UserError: If they are another judge's, several judges', or calibrated already.
    """
    judge = predictions.attrs.get("judge")
    if judge is not None and judge.get("adapter", adapter) != adapter:
        raise UserError(f"{path}: these are the predictions of another judge. Predict votes with this one")
    if judge is None and "fold" in predictions and predictions["fold"].nunique() > 1:
        raise UserError(f"{path}: these are predictions of the judges of several folds. Predict votes with this one")
    if judge is None:
        logger.warning("%s does not say which judge made it. It is assumed to be this one, without calibration", path)
    elif judge["calibrated"]:
        raise UserError(f"{path}: these predictions are calibrated already. Predict again with --calibrated false")


def fit_calibrations(
    predictions: pd.DataFrame, fitted_on: str, features: pd.DataFrame | None = None, regression: dict | None = None
) -> dict[str, dict]:
    """
    Fit what removes a preference for the answer that stands first; then, on votes, a calibration for one order of the
    answers, and one for both; and log what each gains.

    Args:
        predictions (`DataFrame`): A predictions table, for the position in both orders. Battles without a vote count
            for the position alone.
        fitted_on (`str`): A fingerprint of the table's file.
        features (`DataFrame`, *optional*): Length and style of the battles, by id, as from [`battle_features`].
        regression (`dict`, *optional*): As for [`best_calibration`].

    Returns:
        `dict[str, dict]`: "position", and by order "ab" and "mean": those that help, as they are stored in
        `judge.json`.

    Raises:
        UserError: If one of A, B and tie has no vote: a calibration would rule it out.
    """
    calibrations = {}
    if position := fit_position(predictions):
        calibrations["position"] = {**position, "fitted_on": fitted_on}
        predictions = correct_position(predictions, position)
    in_one_order = predictions[predictions["order"] == "ab"]
    counts = np.nansum(vote_fractions(in_one_order), axis=0)
    if not counts.any() and (predictions["order"] == "ba").any():
        logger.info("there are no votes: nothing but the position is fitted")
        return calibrations
    if counts.min() < 1:
        found = ", ".join(f"{count:.0f} for {name}" for count, name in zip(counts, ("A", "B", "a tie"), strict=True))
        raise UserError(f"predictions: votes {found}. A calibration needs votes for each of the three")
    for order, description in CALIBRATED_ORDERS.items():
        rows = predictions[(predictions["order"] == order) & has_vote(predictions)]
        if order == "mean":
            in_both_orders = rows["id"].isin(predictions["id"][predictions["order"] == "ba"])
            if not len(rows) or not in_both_orders.all():
                logger.info("%s: not fitted, since not all battles were predicted in both (--tta swap)", description)
                continue
        columns = rows[PROBABILITIES].to_numpy()
        if features is not None:
            columns = np.hstack([columns, features.loc[rows["id"]].to_numpy()])
        calibration, helps = best_calibration(columns, *votes_and_groups(rows), regression)
        calibration["fitted_on"] = fitted_on
        if "style" in calibration:
            calibration["style"]["features"] = list(FEATURES)
        _log_calibration(description, calibration, helps)
        if helps:
            calibrations[order] = calibration
    return calibrations


def save_calibration_battles(predictions: pd.DataFrame, adapter: Path) -> None:
    """Save beside a judge which battles it was calibrated on, so that reports can say so. No ids and no texts."""
    with atomic_write(adapter / CALIBRATION_FILE) as draft:
        pd.DataFrame({"battle": sorted(battle_keys(predictions))}).to_parquet(draft, index=False)


def battle_keys(predictions: pd.DataFrame) -> set[str]:
    """Hashes of battles' ids and of their lengths in the judge's tokens: ids alone may be those of another file."""
    rows = predictions[predictions["order"] == "ab"]
    texts = rows["id"] + " " + rows["num_tokens"].astype("string")
    return {sha256(text.encode()).hexdigest()[:16] for text in texts}


def _log_calibration(description: str, calibration: dict, helps: bool) -> None:
    logger.info(
        "%s: log loss %.4f, after %s %.4f (cross-fitted over %d groups of %d battles), temperature %.3f, biases of A, "
        "B and tie %s: %s",
        description,
        calibration["log_loss_before"],
        calibration["method"],
        calibration["log_loss_after"],
        calibration["num_groups"],
        calibration["num_battles"],
        calibration["temperature"],
        ", ".join(f"{bias:+.3f}" for bias in calibration["biases"]),
        "stored" if helps else "not stored, since the gain is within its standard error",
    )
    if "log_loss_of_style_alone" in calibration:
        logger.info(
            "%s: the judge alone %.4f, length and style alone %.4f, %s",
            description,
            calibration["log_loss_without_style"],
            calibration["log_loss_of_style_alone"],
            "both together are stored" if helps and "style" in calibration else "together they are not better",
        )
