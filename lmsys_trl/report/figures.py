"""Votes and predictions -> the content of `metrics.json`, which `METRICS.md` describes."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import entropy

from ..metrics.functions import binned, calibration_errors, correct, flips, log_losses, squared_distances
from ..predictions.calibration import cross_fitted_temperature
from ..predictions.table import VOTE_COLUMNS
from . import METRICS_VERSION
from .bootstrap import GroupBootstrap, figure
from .ratings import model_ratings
from .slices import annotator_agreement, high_confidence_errors, slice_figures
from .votes import JudgePredictions


def report_figures(
    votes: pd.DataFrame,
    judges: dict[str, JudgePredictions],
    baselines: dict[str, np.ndarray],
    attributes: pd.DataFrame,
    known_probabilities: np.ndarray | None = None,
) -> dict[str, Any]:
    """
    Compute all figures of a report.

    Args:
        votes (`DataFrame`): As made by [`votes_table`] or [`votes_from_predictions`].
        judges (`dict[str, JudgePredictions]`): Each judge's predictions of these votes.
        baselines (`dict[str, ndarray]`): Predictions of shape `(battles, 3)`.
        attributes (`DataFrame`): As made by [`battle_attributes`]: by what figures are sliced.
        known_probabilities (`ndarray`, *optional*): Those that the votes were drawn from, of shape `(battles, 3)`.

    Returns:
        `dict`: The content of `metrics.json`, without what it says about how it was made.
    """
    labels, groups = votes[VOTE_COLUMNS].to_numpy(), list(votes["group"])
    bootstrap = GroupBootstrap(groups)
    finals = {name: judge.final for name, judge in judges.items()}
    figures: dict[str, Any] = {
        "version": METRICS_VERSION,
        "num_battles": len(votes),
        "num_groups": bootstrap.num_groups,
        "judges": {name: _judge_figures(judge, labels, groups, bootstrap) for name, judge in judges.items()},
        "baselines": {name: scores(predictions, labels, bootstrap) for name, predictions in baselines.items()},
        "differences": _differences(finals, baselines, labels, bootstrap),
        "agreement": annotator_agreement(votes, finals, bootstrap),
        "slices": slice_figures(attributes, labels, finals, bootstrap),
        "ratings": model_ratings(votes, finals, bootstrap),
    }
    for name, judge in judges.items():
        figures["judges"][name]["high_confidence_errors"] = high_confidence_errors(votes, judge)
    if known_probabilities is not None:
        figures["best_possible"] = scores(known_probabilities, labels, bootstrap)
        for name, final in finals.items():
            figures["judges"][name]["known_probabilities"] = _against_known(
                final, known_probabilities, labels, baselines["class_prior"], bootstrap
            )
    return figures


def scores(predictions: np.ndarray, labels: np.ndarray, bootstrap: GroupBootstrap) -> dict[str, dict]:
    """
    Log loss, accuracy, Brier score and both calibration errors with their intervals.

    Means have percentile intervals. Chance makes a calibration error larger, and does so again in every resample, so
    that its interval is the error minus what the resamples add to it (the basic bootstrap).

    Args:
        predictions (`ndarray`): Of shape `(battles, 3)`.
        labels (`ndarray`): The votes, as for [`log_losses`].
        bootstrap (`GroupBootstrap`): Of the same battles.
    """
    bins = binned(predictions, labels)
    ece, squared, debiased = calibration_errors(bins.sum(axis=0))
    drawn_ece, _, drawn_debiased = calibration_errors(bootstrap.sums(bins))
    many = bootstrap.num_groups > 1
    basic_ece = figure(float(ece), np.maximum(2 * ece - drawn_ece, 0) if many else None)
    # For the resamples the error of all battles is the true one, so they are compared with the uncorrected error.
    basic_debiased = np.sqrt(np.maximum(debiased + squared - drawn_debiased, 0))
    return {
        "log_loss": bootstrap.mean(log_losses(predictions, labels)),
        "accuracy": bootstrap.mean(correct(predictions, labels)),
        "brier_score": bootstrap.mean(squared_distances(predictions, labels)),
        "ece": basic_ece,
        "debiased_ce": figure(float(np.sqrt(np.maximum(debiased, 0))), basic_debiased if many else None),
    }


def _judge_figures(judge: JudgePredictions, labels: np.ndarray, groups: list[str], bootstrap: GroupBootstrap) -> dict:
    calibrated, temperature = cross_fitted_temperature(judge.final, labels, groups)
    orders = judge.complete_orders.items()
    return {
        **scores(judge.final, labels, bootstrap),
        "orders": {order: scores(predictions, labels, bootstrap) for order, predictions in orders},
        "cross_fitted_temperature": {"temperature": temperature, **scores(calibrated, labels, bootstrap)},
        "position": _position(judge, bootstrap),
    }


def _position(judge: JudgePredictions, bootstrap: GroupBootstrap) -> dict | None:
    as_given, swapped, both = judge.orders["ab"], judge.orders["ba"], judge.has_both_orders
    if not both.any():
        return None
    # What each of the two answers gains if it is shown first instead of second.
    gains = (as_given[:, 0] - swapped[:, 0] + swapped[:, 1] - as_given[:, 1]) / 2
    return {
        "num_battles": int(both.sum()),
        "flip_rate": bootstrap.mean(flips(as_given, swapped), both),
        "shift_to_a": bootstrap.mean(gains, both),
    }


def _differences(
    finals: dict[str, np.ndarray], baselines: dict[str, np.ndarray], labels: np.ndarray, bootstrap: GroupBootstrap
) -> list[dict]:
    """Each judge minus the judges before it, and minus each baseline, on the same battles and resamples."""
    pairs = [(judge, earlier) for i, judge in enumerate(finals) for earlier in list(finals)[:i]]
    pairs += [(judge, baseline) for judge in finals for baseline in baselines]
    predictions = baselines | finals
    metrics = (("log_loss", log_losses), ("accuracy", correct), ("brier_score", squared_distances))
    return [
        {
            "judge": judge,
            "baseline": baseline,
            **{
                name: bootstrap.mean(
                    metric(predictions[judge], labels).astype(float) - metric(predictions[baseline], labels)
                )
                for name, metric in metrics
            },
        }
        for judge, baseline in pairs
    ]


def _against_known(
    predictions: np.ndarray, known: np.ndarray, labels: np.ndarray, prior: np.ndarray, bootstrap: GroupBootstrap
) -> dict[str, dict]:
    losses, best, prior_losses = (log_losses(p, labels) for p in (predictions, known, prior))
    sums = np.stack([prior_losses - losses, prior_losses - best], axis=1)
    gained, achievable = sums.sum(axis=0)
    drawn = bootstrap.sums(sums)
    drawn_fractions = drawn[:, 0] / drawn[:, 1] if bootstrap.num_groups > 1 else None
    return {
        "mean_absolute_error": bootstrap.mean(np.abs(predictions - known).mean(axis=1)),
        "kl_divergence": bootstrap.mean(entropy(known, np.clip(predictions, 1e-12, 1), axis=1)),
        "fraction_of_achievable_gain": figure(gained / achievable, drawn_fractions),
    }
