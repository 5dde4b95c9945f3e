"""Probability tables -> better calibrated ones."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from sklearn.model_selection import GroupKFold


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the log probabilities by `temperature`: above 1 they become more even. Shape `(battles, 3)`."""
    return apply_calibration(probabilities, {"temperature": temperature, "biases": [0.0, 0.0, 0.0]})


def apply_calibration(probabilities: np.ndarray, calibration: dict) -> np.ndarray:
    """
    Divide the log probabilities by a temperature and add the classes' biases.

    Args:
        probabilities (`ndarray`): Of shape `(battles, 3)`.
        calibration (`dict`): `temperature` and `biases`, as fitted by [`fit_temperature_and_biases`].
    """
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / calibration["temperature"] + calibration["biases"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The log loss of each battle, in nats. `labels` are indices into `WINNERS`."""
    return -np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1))


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 1/20 and 20 with the least log loss ([Guo et al.](https://arxiv.org/abs/1706.04599))."""

    def log_loss(log_temperature: float) -> float:
        return log_losses(apply_temperature(probabilities, np.exp(log_temperature)), labels).mean()

    return float(np.exp(minimize_scalar(log_loss, bounds=(-np.log(20), np.log(20)), method="bounded").x))


def fit_temperature_and_biases(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """
    The temperature between 1/20 and 20 and the biases, which sum to 0, with the least log loss (the "bias-corrected
    temperature scaling" of [Alexandari et al.](https://arxiv.org/abs/1901.06852)).
    """
    logits, votes = np.log(np.clip(probabilities, 1e-12, 1)), np.eye(3)[labels]

    def log_loss(values: np.ndarray) -> tuple[float, np.ndarray]:  # convex in these: 1 / temperature, and the biases
        forecasts = apply_calibration(probabilities, {"temperature": 1 / values[0], "biases": values[1:]})
        error = forecasts - votes
        gradient = [(error * logits).sum(axis=1).mean(), *error.mean(axis=0)]
        return log_losses(forecasts, labels).mean(), np.array(gradient)

    bounds = [(1 / 20, 20), *[(-10, 10)] * 3]
    sharpness, *biases = minimize(log_loss, [1, 0, 0, 0], jac=True, bounds=bounds, method="L-BFGS-B").x
    return {"temperature": float(1 / sharpness), "biases": (np.array(biases) - np.mean(biases)).tolist()}


METHODS = {
    "temperature": lambda p, labels: {"temperature": fit_temperature(p, labels), "biases": [0.0, 0.0, 0.0]},
    "temperature_and_biases": fit_temperature_and_biases,
}


def cross_fitted(forecasts: np.ndarray, labels: np.ndarray, groups: np.ndarray, fit: Callable, apply: Callable):
    """
    Each battle's forecast, by what was fitted on battles of other groups, so that its log loss is honest.

    Args:
        forecasts (`ndarray`): Of one judge, or of several: `(battles, ...)`.
        labels (`ndarray`), groups (`ndarray`): Of each battle; two groups at least.
        fit (`Callable`): Forecasts and labels -> whatever is fitted.
        apply (`Callable`): Forecasts and what was fitted -> probabilities of shape `(battles, 3)`.
    """
    probabilities = np.empty((len(labels), 3))
    for others, fold in GroupKFold(min(5, len(set(groups)))).split(forecasts, groups=groups):
        probabilities[fold] = apply(forecasts[fold], fit(forecasts[others], labels[others]))
    return probabilities


def cross_fitted_temperature(
    probabilities: np.ndarray, labels: np.ndarray, groups: list[str]
) -> tuple[np.ndarray, float]:
    """
    Calibrate each battle with a temperature that was fitted on battles of other groups, so that the log loss of the
    result is honest.

    Returns:
        `tuple[ndarray, float]`: The calibrated probabilities, and the temperature fitted on all battles. With a
        single group there is nothing to fit on, and the probabilities come back as they are, with temperature 1.
    """
    if len(set(groups)) < 2:
        return probabilities, 1.0
    calibrated = cross_fitted(probabilities, labels, groups, fit_temperature, apply_temperature)
    return calibrated, fit_temperature(probabilities, labels)


def best_calibration(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[dict, bool]:
    """
    Fit a temperature alone, and a temperature with biases, and take the one with the smaller cross-fitted log loss.

    Args:
        probabilities (`ndarray`): Forecasts of shape `(battles, 3)`.
        labels (`ndarray`): The votes, as indices into `WINNERS`.
        groups (`ndarray`): Battles of one group are never on both sides of a cross-fit.

    Returns:
        `tuple[dict, bool]`: `method`, `temperature`, `biases`, `num_battles`, `num_groups`, `log_loss_before` and
        `log_loss_after` (cross-fitted); and whether it helps: the gain is above its standard error over groups.

    Raises:
        ValueError: With a single group, or none.
    """
    if len(set(groups)) < 2:
        raise ValueError("a calibration is fitted on some groups of battles and tried on others: two groups at least")
    before = log_losses(probabilities, labels)
    after = {
        method: log_losses(cross_fitted(probabilities, labels, groups, fit, apply_calibration), labels)
        for method, fit in METHODS.items()
    }
    method = min(after, key=lambda method: after[method].mean())
    gain = before - after[method]
    _, group = np.unique(groups, return_inverse=True)
    error = np.sqrt((np.bincount(group, gain - gain.mean()) ** 2).sum()) / len(gain)
    calibration = {
        "method": method,
        **METHODS[method](probabilities, labels),
        "num_battles": len(labels),
        "num_groups": int(group.max()) + 1,
        "log_loss_before": float(before.mean()),
        "log_loss_after": float(after[method].mean()),
    }
    return calibration, bool(gain.mean() > error)
