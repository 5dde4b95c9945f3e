"""Votes and forecasts -> the content of `metrics.json`, which `METRICS.md` describes."""

import numpy as np
import pandas as pd
from scipy.stats import entropy

from ..calibration import cross_fitted_temperature
from ..metrics.accuracy.accuracy import correct
from ..metrics.brier_score.brier_score import squared_distances
from ..metrics.ece.ece import binned, calibration_errors
from ..metrics.flip_rate.flip_rate import flips
from ..metrics.log_loss.log_loss import log_losses
from .bootstrap import GroupBootstrap, figure
from .ratings import model_ratings
from .slices import agreement, confident_mistakes, slice_figures
from .votes import Forecasts

VERSION = 2  # of the form of metrics.json


def report_figures(
    votes: pd.DataFrame,
    judges: dict[str, Forecasts],
    baselines: dict[str, np.ndarray],
    table: pd.DataFrame,
    known_probabilities: np.ndarray | None = None,
) -> dict:
    """
    Args:
        votes (`DataFrame`): As made by [`votes_table`] or [`votes_of_predictions`].
        judges (`dict[str, Forecasts]`): Each judge's forecasts of these votes.
        baselines (`dict[str, ndarray]`): Forecasts of shape `(battles, 3)`.
        table (`DataFrame`): The [`attributes`] by which figures are sliced.
        known_probabilities (`ndarray`, *optional*): Those that the votes were drawn from, of shape `(battles, 3)`.

    Returns:
        `dict`: The content of `metrics.json`, without what it says of how it was made.
    """
    labels, groups = votes["label"].to_numpy(), list(votes["group"])
    bootstrap = GroupBootstrap(groups)
    finals = {name: judge.final for name, judge in judges.items()}
    figures = {
        "version": VERSION,
        "num_battles": len(votes),
        "num_groups": bootstrap.num_groups,
        "judges": {name: _judge_figures(judge, labels, groups, bootstrap) for name, judge in judges.items()},
        "baselines": {name: scores(forecast, labels, bootstrap) for name, forecast in baselines.items()},
        "differences": _differences(finals, baselines, labels, bootstrap),
        "agreement": agreement(votes, finals, bootstrap),
        "slices": slice_figures(table, labels, finals, bootstrap),
        "ratings": model_ratings(votes, finals, bootstrap),
    }
    for name, judge in judges.items():
        figures["judges"][name]["confident_mistakes"] = confident_mistakes(votes, judge)
    if known_probabilities is not None:
        figures["best_possible"] = scores(known_probabilities, labels, bootstrap)
        for name, final in finals.items():
            against = _against_known(final, known_probabilities, labels, baselines["class_prior"], bootstrap)
            figures["judges"][name]["known_probabilities"] = against
    return figures


def scores(forecast: np.ndarray, labels: np.ndarray, bootstrap: GroupBootstrap) -> dict[str, dict]:
    """
    Log loss, accuracy, Brier score and both calibration errors with their intervals.

    Means have percentile intervals. Chance makes a calibration error larger, in every resample once more, so that its
    interval is the error less what the resamples add to it (the basic bootstrap).
    """
    bins = binned(forecast, labels)
    ece, squared, debiased = calibration_errors(bins.sum(axis=0))
    drawn_ece, _, drawn_debiased = calibration_errors(bootstrap.sums(bins))
    many = bootstrap.num_groups > 1
    basic_ece = figure(ece, np.maximum(2 * ece - drawn_ece, 0) if many else None)
    # Among resamples the error of the whole is the true one, so what they differ from is the uncorrected error.
    basic_debiased = np.sqrt(np.maximum(debiased + squared - drawn_debiased, 0))
    return {
        "log_loss": bootstrap.mean(log_losses(forecast, labels)),
        "accuracy": bootstrap.mean(correct(forecast, labels)),
        "brier_score": bootstrap.mean(squared_distances(forecast, labels)),
        "ece": basic_ece,
        "debiased_ce": figure(np.sqrt(max(debiased, 0)), basic_debiased if many else None),
    }


def _judge_figures(judge: Forecasts, labels: np.ndarray, groups: list[str], bootstrap: GroupBootstrap) -> dict:
    calibrated, temperature = cross_fitted_temperature(judge.final, labels, groups)
    return {
        **scores(judge.final, labels, bootstrap),
        "orders": {order: scores(forecast, labels, bootstrap) for order, forecast in judge.whole.items()},
        "cross_fitted_temperature": {"temperature": temperature, **scores(calibrated, labels, bootstrap)},
        "position": _position(judge, bootstrap),
    }


def _position(judge: Forecasts, bootstrap: GroupBootstrap) -> dict | None:
    in_order, exchanged = judge.orders["ab"], judge.orders["ba"]
    both = ~np.isnan(in_order + exchanged).any(axis=1)
    if not both.any():
        return None
    # What each of the two answers gains by standing in the place of A instead of B.
    gains = (in_order[:, 0] - exchanged[:, 0] + exchanged[:, 1] - in_order[:, 1]) / 2
    return {
        "num_battles": int(both.sum()),
        "flip_rate": bootstrap.mean(flips(in_order, exchanged), both),
        "shift_to_a": bootstrap.mean(gains, both),
    }


def _differences(
    finals: dict[str, np.ndarray], baselines: dict[str, np.ndarray], labels: np.ndarray, bootstrap: GroupBootstrap
) -> list[dict]:
    """Each judge less those before it, and less each baseline, on the same battles and resamples."""
    pairs = [(one, other) for i, one in enumerate(finals) for other in list(finals)[:i]]
    pairs += [(one, baseline) for one in finals for baseline in baselines]
    forecasts = baselines | finals
    return [
        {
            "judge": one,
            "less": other,
            **{
                name: bootstrap.mean(of(forecasts[one], labels).astype(float) - of(forecasts[other], labels))
                for name, of in (("log_loss", log_losses), ("accuracy", correct), ("brier_score", squared_distances))
            },
        }
        for one, other in pairs
    ]


def _against_known(
    forecast: np.ndarray, known: np.ndarray, labels: np.ndarray, prior: np.ndarray, bootstrap: GroupBootstrap
) -> dict:
    losses, best, of_prior = (log_losses(p, labels) for p in (forecast, known, prior))
    sums = np.stack([of_prior - losses, of_prior - best], axis=1)
    gained, possible = sums.sum(axis=0)
    drawn = bootstrap.sums(sums)
    return {
        "mean_absolute_error": bootstrap.mean(np.abs(forecast - known).mean(axis=1)),
        "kl_divergence": bootstrap.mean(entropy(known, np.clip(forecast, 1e-12, 1), axis=1)),
        "share_of_the_way": figure(gained / possible, drawn[:, 0] / drawn[:, 1] if bootstrap.num_groups > 1 else None),
    }
