"""Tables of probabilities -> better calibrated ones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.model_selection import GroupKFold

from ..errors import UserError
from ..metrics.functions import log_losses
from .style import PENALTIES, fit_weight_of_style, fit_with_style, style_logits


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
        if gained.mean() > standard_error(gained, groups) and lost.mean() <= standard_error(lost, groups):
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
    return calibration, bool(gain.mean() > standard_error(gain, groups))


def standard_error(values: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean of values that are independent between groups only."""
    _, group = np.unique(groups, return_inverse=True)
    return float(np.sqrt((np.bincount(group, values - values.mean()) ** 2).sum()) / len(values))
