"""Tables of probabilities -> better calibrated ones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.model_selection import GroupKFold

from ..errors import UserError
from ..metrics.functions import log_losses
from ..terminal import logger
from .features import FEATURES
from .style import PENALTIES, fit_weight_of_style, fit_with_style, style_logits
from .table import PROBABILITIES, has_vote, vote_fractions, votes_and_groups

CALIBRATED_ORDERS = {"ab": "one order of the answers", "mean": "both orders"}


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the log probabilities by `temperature`: above 1 they become more even. Shape `(battles, 3)`."""
    return apply_calibration(probabilities, {"temperature": temperature, "biases": [0.0, 0.0, 0.0]})


def apply_calibration(probabilities: np.ndarray, calibration: dict) -> np.ndarray:
    """
    Divide the log probabilities by a temperature, add the classes' biases, and what style says.

    Args:
        probabilities (`ndarray`): Of shape `(battles, 3)`, followed by the features' columns if there is a `style`.
        calibration (`dict`): `temperature` and `biases`, as fitted by [`fit_temperature_and_biases`], and maybe
            `style`, as fitted by [`fit_with_style`].

    Returns:
        `ndarray`: Of shape `(battles, 3)`.
    """
    probabilities, features = probabilities[:, :3], probabilities[:, 3:]
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / calibration["temperature"] + calibration["biases"]
    if style := calibration.get("style"):
        logits += style_logits(features, style)
    exp_logits = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp_logits / exp_logits.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """
    The temperature between 1/20 and 20 with the smallest log loss
    ([Guo et al.](https://arxiv.org/abs/1706.04599)).
    """

    def log_loss(log_temperature: float) -> float:
        return log_losses(apply_temperature(probabilities, np.exp(log_temperature)), labels).mean()

    return float(np.exp(minimize_scalar(log_loss, bounds=(-np.log(20), np.log(20)), method="bounded").x))


def fit_temperature_and_biases(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """
    The temperature between 1/20 and 20 and the biases, which sum to 0, with the smallest log loss (the
    "bias-corrected temperature scaling" of [Alexandari et al.](https://arxiv.org/abs/1901.06852)).
    """
    fitted = fit_with_style(probabilities[:, :3], labels, penalty=0.0)
    return {name: fitted[name] for name in ("temperature", "biases")}


METHODS: dict[str, Callable[..., dict]] = {
    "temperature": lambda p, labels: {"temperature": fit_temperature(p, labels), "biases": [0.0, 0.0, 0.0]},
    "temperature_and_biases": fit_temperature_and_biases,
}
WITH_STYLE: dict[str, Callable[..., dict]] = {
    f"style_{penalty}": partial(fit_with_style, penalty=penalty) for penalty in PENALTIES
}


def cross_fitted(
    predictions: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray], Any],
    apply: Callable[[np.ndarray, Any], np.ndarray],
) -> np.ndarray:
    """
    Out-of-sample predictions: each battle's by what was fitted on battles of other groups.

    Args:
        predictions (`ndarray`): Of one judge, or of several: `(battles, ...)`.
        labels (`ndarray`), groups (`ndarray`): Of each battle; at least two groups.
        fit (`Callable`): Predictions and labels -> the fitted parameters.
        apply (`Callable`): Predictions and fitted parameters -> probabilities of shape `(battles, 3)`.

    Returns:
        `ndarray`: Of shape `(battles, 3)`.
    """
    probabilities = np.empty((len(labels), 3))
    for others, fold in GroupKFold(min(5, len(set(groups)))).split(predictions, groups=groups):
        probabilities[fold] = apply(predictions[fold], fit(predictions[others], labels[others]))
    return probabilities


def cross_fitted_temperature(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray
) -> tuple[np.ndarray, float]:
    """
    Calibrate each battle with a temperature that was fitted on battles of other groups, so that the log loss of the
    result is out-of-sample.

    Returns:
        `tuple[ndarray, float]`: The calibrated probabilities, and the temperature fitted on all battles. With a
        single group there is nothing to fit on: the probabilities are returned unchanged, with temperature 1.
    """
    if len(set(groups)) < 2:
        return probabilities, 1.0
    calibrated = cross_fitted(probabilities, labels, groups, fit_temperature, apply_temperature)
    return calibrated, fit_temperature(probabilities, labels)


def best_calibration(
    predictions: np.ndarray, labels: np.ndarray, groups: np.ndarray, regression: dict | None = None
) -> tuple[dict, bool]:
    """
    Fit a temperature alone, and a temperature with biases, and choose the one with the smaller cross-fitted log loss.
    With features it may also be one with style, if its gain is above its standard error and style alone is not
    better by more than that.

    Args:
        predictions (`ndarray`): Probabilities of shape `(battles, 3)`, followed by columns of features, if any.
        labels (`ndarray`): The votes, as for [`log_losses`].
        groups (`ndarray`): Battles of one group are never on both sides of a cross-fit.
        regression (`dict`, *optional*): A regression on style that was fitted on other votes, as from
            [`style_regression`]. Then the style may also be that one, with a fitted weight.

    Returns:
        `tuple[dict, bool]`: `method`, `temperature`, `biases`, `style` (if chosen), `num_battles`, `num_groups`,
        `log_loss_before` and `log_loss_after` (cross-fitted), and with features also `log_loss_without_style` and
        `log_loss_of_style_alone`; and whether it helps: the gain is above its standard error over groups.

    Raises:
        UserError: If there are fewer than two groups.
    """
    if len(set(groups)) < 2:
        raise UserError("a calibration is fitted on some groups of battles and tested on others: two groups at least")
    before, found, with_style = log_losses(predictions[:, :3], labels), {}, WITH_STYLE
    if regression is not None:
        with_style = with_style | {"style_of_training_votes": partial(fit_weight_of_style, regression=regression)}

    def best_of(methods: dict[str, Callable], columns: np.ndarray = predictions) -> tuple[str, np.ndarray]:
        """The method with the smallest cross-fitted log loss, and that of each battle."""
        losses = {
            method: log_losses(cross_fitted(columns, labels, groups, fit, apply_calibration), labels)
            for method, fit in methods.items()
        }
        method = min(losses, key=lambda method: losses[method].mean())
        return method, losses[method]

    method, after = best_of(METHODS)
    if predictions.shape[1] > 3:
        style_method, after_style = best_of(with_style)
        without_judge = np.hstack([np.full((len(labels), 3), 1 / 3), predictions[:, 3:]])
        _, alone = best_of(with_style, without_judge)
        found = {"log_loss_without_style": float(after.mean()), "log_loss_of_style_alone": float(alone.mean())}
        gained, lost = after - after_style, after_style - alone
        if gained.mean() > _standard_error(gained, groups) and lost.mean() <= _standard_error(lost, groups):
            method, after = style_method, after_style
    gain = before - after
    calibration = {
        "method": method,
        **(METHODS | with_style)[method](predictions, labels),
        "num_battles": len(labels),
        "num_groups": len(set(groups)),
        "log_loss_before": float(before.mean()),
        "log_loss_after": float(after.mean()),
        **found,
    }
    return calibration, bool(gain.mean() > _standard_error(gain, groups))


def _standard_error(values: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean of values that are independent between groups only."""
    _, group = np.unique(groups, return_inverse=True)
    return float(np.sqrt((np.bincount(group, values - values.mean()) ** 2).sum()) / len(values))


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
    Fit a calibration for one order of the answers, and one for both, and log what each gains.

    Args:
        predictions (`DataFrame`): A predictions table. Battles without a vote are skipped.
        fitted_on (`str`): A fingerprint of the table's file.
        features (`DataFrame`, *optional*): Length and style of the battles, by id, as from [`battle_features`].
        regression (`dict`, *optional*): As for [`best_calibration`].

    Returns:
        `dict[str, dict]`: By order, "ab" or "mean", those that help, as they are stored in `judge.json`.

    Raises:
        UserError: If one of A, B and tie has no vote: a calibration would rule it out.
    """
    calibrations = {}
    in_one_order = predictions[predictions["order"] == "ab"]
    counts = np.nansum(vote_fractions(in_one_order), axis=0)
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
