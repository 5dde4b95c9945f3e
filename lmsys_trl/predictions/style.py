"""Length and style beside a judge: what they say of a vote that the judge does not."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from ..metrics.functions import as_fractions, log_losses

PENALTIES = (0.003, 0.03, 0.3)  # of the squared weights; the cross-fitted log loss chooses


def fit_with_style(predictions: np.ndarray, labels: np.ndarray, penalty: float) -> dict:
    """
    Fit a temperature, biases and a weight for each class and feature, with a penalty on these weights: a multinomial
    logistic regression that trusts the judge's log probabilities as a whole.

    Args:
        predictions (`ndarray`): Probabilities of A, B and tie, and features; of shape `(battles, 3 + features)`.
        labels (`ndarray`): The votes, as for [`log_losses`].
        penalty (`float`): What a squared weight of a feature with variance 1 adds to the mean log loss, times two.

    Returns:
        `dict`: `temperature`, `biases`, and `style` with `mean` and `scale` of each feature, and `weights` of shape
        `(3, features)`.
    """
    logits, features = np.log(np.clip(predictions[:, :3], 1e-12, 1)), predictions[:, 3:]
    votes, (mean, scale) = as_fractions(labels, 3), (features.mean(axis=0), features.std(axis=0))
    scale[scale < 1e-9] = 1.0  # a constant feature: its weight stays 0
    standardized = (features - mean) / scale

    # Convex in these parameters: the inverse temperature, the biases, and the weights.
    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights = parameters[4:].reshape(3, -1)
        summed = parameters[0] * logits + parameters[1:4] + standardized @ weights.T
        fitted = softmax(summed, axis=1)
        error = (fitted - votes) / len(votes)
        gradient = [[(error * logits).sum()], error.sum(axis=0), (error.T @ standardized + penalty * weights).ravel()]
        return log_losses(fitted, labels).mean() + penalty / 2 * (weights**2).sum(), np.concatenate(gradient)

    start = np.zeros(4 + 3 * features.shape[1])
    start[0] = 1
    bounds = [(1 / 20, 20), *[(-10, 10)] * (len(start) - 1)]
    fitted = minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return {
        "temperature": float(1 / fitted[0]),
        "biases": (fitted[1:4] - fitted[1:4].mean()).tolist(),
        "style": {"mean": mean.tolist(), "scale": scale.tolist(), "weights": fitted[4:].reshape(3, -1).tolist()},
    }


def fit_weight_of_style(predictions: np.ndarray, labels: np.ndarray, regression: dict) -> dict:
    """
    Fit a temperature, biases and one weight: how far to trust a regression on style that was fitted on other votes.
    With five numbers to fit there is little to overfit.

    Args:
        predictions (`ndarray`), labels (`ndarray`): As for [`fit_with_style`].
        regression (`dict`): As from [`style_regression`].

    Returns:
        `dict`: As [`fit_with_style`].
    """
    logits, votes = np.log(np.clip(predictions[:, :3], 1e-12, 1)), as_fractions(labels, 3)
    of_style = style_logits(predictions[:, 3:], regression) + regression["biases"]

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        fitted = softmax(parameters[0] * logits + parameters[1] * of_style + parameters[2:], axis=1)
        error = (fitted - votes) / len(votes)
        gradient = [(error * logits).sum(), (error * of_style).sum(), *error.sum(axis=0)]
        return log_losses(fitted, labels).mean(), np.array(gradient)

    bounds = [(1 / 20, 20), (0, 20), *[(-10, 10)] * 3]
    inverse, weight, *biases = minimize(objective, [1, 0, 0, 0, 0], jac=True, bounds=bounds, method="L-BFGS-B").x
    biases = np.array(biases) + weight * np.array(regression["biases"])
    return {
        "temperature": float(1 / inverse),
        "biases": (biases - biases.mean()).tolist(),
        "style": {
            "mean": regression["mean"],
            "scale": regression["scale"],
            "weights": (weight * np.array(regression["weights"])).tolist(),
        },
    }


def style_logits(features: np.ndarray, style: dict) -> np.ndarray:
    """What style adds to the log probabilities: features of shape `(battles, features)` -> `(battles, 3)`."""
    return (features - style["mean"]) / style["scale"] @ np.transpose(style["weights"])
