"""Predictions -> the figures of a report."""

import numpy as np
import pandas as pd

from ..battle import WINNERS
from ..calibration import cross_fitted_temperature
from ..metrics import flip_rate, score
from ..predictions import probabilities_of


def report_figures(
    predictions: pd.DataFrame,
    groups: list[str],
    baselines: dict[str, np.ndarray],
    known_probabilities: np.ndarray | None = None,
) -> dict:
    """
    Args:
        predictions (`DataFrame`): A predictions table with the orders "ab", "ba" and "mean".
        groups (`list[str]`): One for each battle; battles of a group are never on both sides of a cross-fit.
        baselines (`dict[str, ndarray]`): Their forecasts, of shape `(battles, 3)`.
        known_probabilities (`ndarray`, *optional*): Those that the votes were drawn from, of shape `(battles, 3)`.

    Returns:
        `dict`: The content of `metrics.json`: log loss, accuracy, Brier score and calibration error of the order
        given, at the judge's temperature; the same of both orders' mean, after a cross-fitted temperature, and of the
        baselines; the share of verdicts that flip.
    """
    labels = vote_labels(predictions)
    forecast, exchanged, mean = (probabilities_of(predictions, order) for order in ("ab", "ba", "mean"))
    calibrated, temperature = cross_fitted_temperature(forecast, labels, groups)
    calibrated_mean, temperature_of_mean = cross_fitted_temperature(mean, labels, groups)
    figures = {
        "format_version": 1,
        "num_battles": len(labels),
        **score(forecast, labels),
        "flip_rate": flip_rate(forecast, exchanged),
        "both_orders": score(mean, labels),
        "cross_fitted_temperature": {"temperature": temperature, **score(calibrated, labels)},
        "both_orders_cross_fitted_temperature": {
            "temperature": temperature_of_mean,
            **score(calibrated_mean, labels),
        },
        "baselines": {name: score(forecasts, labels) for name, forecasts in baselines.items()},
    }
    if known_probabilities is not None:
        best = score(known_probabilities, labels)
        prior = figures["baselines"]["class_prior"]["log_loss"]
        figures["best_possible"] = best
        figures["share_of_the_way"] = (prior - figures["log_loss"]) / (prior - best["log_loss"])
    return figures


def vote_labels(predictions: pd.DataFrame) -> np.ndarray:
    """The votes as indices into `WINNERS`, one a battle."""
    votes = predictions.loc[predictions["order"] == "ab", "winner"]
    return np.array([WINNERS.index(vote) for vote in votes])
