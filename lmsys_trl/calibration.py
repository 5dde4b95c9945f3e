"""Probability tables -> better calibrated ones."""

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.model_selection import GroupKFold


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the log probabilities by `temperature`: above 1 they become more even. Shape `(battles, 3)`."""
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 1/20 and 20 with the least log loss ([Guo et al.](https://arxiv.org/abs/1706.04599))."""

    def log_loss(log_temperature: float) -> float:
        calibrated = apply_temperature(probabilities, np.exp(log_temperature))
        return -np.log(np.clip(calibrated[np.arange(len(labels)), labels], 1e-12, 1)).mean()

    return float(np.exp(minimize_scalar(log_loss, bounds=(-np.log(20), np.log(20)), method="bounded").x))


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
    num_folds = min(5, len(set(groups)))
    if num_folds < 2:
        return probabilities, 1.0
    calibrated = np.empty_like(probabilities)
    for others, fold in GroupKFold(num_folds).split(probabilities, groups=groups):
        calibrated[fold] = apply_temperature(
            probabilities[fold], fit_temperature(probabilities[others], labels[others])
        )
    return calibrated, fit_temperature(probabilities, labels)
