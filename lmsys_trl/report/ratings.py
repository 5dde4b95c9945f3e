"""Bradley-Terry ratings of models: by annotators and by judges, of all battles and of each resample."""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit
from scipy.stats import ConstantInputWarning, kendalltau, spearmanr
from sklearn.linear_model import LogisticRegression

from ..predictions.table import VOTE_COLUMNS
from .bootstrap import GroupBootstrap, figure

NUM_RESAMPLES = 200  # fewer than other figures have, since each is a fit
ELO = 400 / np.log(10)  # a rating 400 above another one wins 10 of 11 battles
MEAN_RATING = 1000
MAX_STEPS = 100  # of Newton's method; five to ten are enough
PENALTY = 0.01  # of a squared rating in nats: keeps a model that never wins at a finite one


def model_ratings(votes: pd.DataFrame, finals: dict[str, np.ndarray], bootstrap: GroupBootstrap) -> dict | None:
    """
    Rate the models by the votes, and by each judge.

    Args:
        votes (`DataFrame`): As made by [`votes_table`].
        finals (`dict[str, ndarray]`): Each judge's predictions, of shape `(battles, 3)`.
        bootstrap (`GroupBootstrap`): Of the same battles.

    Returns:
        `dict` or None: `models`, a list with `model`, `num_battles`, `annotators` (its rating from the votes) and
        `judges` (from each judge's probabilities), best first by the votes; `rank_correlation`, for each judge
        `spearman` and `kendall`; and `num_excluded`, the battles of unnamed models and of models that no chain of
        battles links to the others. None with fewer than three models.
    """
    if "model_a" not in votes:
        return None
    known = votes["model_a"].notna().to_numpy() & votes["model_b"].notna().to_numpy()
    known &= (votes["model_a"] != votes["model_b"]).to_numpy()
    if not known.any():
        return None
    models = np.array(sorted({*votes["model_a"][known], *votes["model_b"][known]}), dtype=object)
    a, b = (pd.Index(models).get_indexer(votes[side]) for side in ("model_a", "model_b"))
    component = linked_groups(a[known], b[known], len(models))
    kept = component == np.bincount(component).argmax()
    known &= kept[a]
    models, places = models[kept], np.cumsum(kept) - 1
    if len(models) < 3:
        return None
    a, b = places[a], places[b]
    many = bootstrap.num_groups > 1
    annotators, *ratings = (
        resampled_ratings(a, b, known, probabilities, len(models), bootstrap)
        for probabilities in (votes[VOTE_COLUMNS].to_numpy(), *finals.values())
    )
    by_judge = dict(zip(finals, ratings, strict=True))
    order = np.argsort(-annotators[0])
    counts = np.bincount(np.concatenate([a[known], b[known]]), minlength=len(models))

    def rating(rated: tuple[np.ndarray, np.ndarray], i: int) -> dict:
        return figure(rated[0][i], rated[1][:, i] if many else None)

    def correlation(rated: tuple[np.ndarray, np.ndarray], statistic: Callable) -> dict:
        pairs = zip(annotators[1], rated[1], strict=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)  # not a number, as is said in its place
            resampled = np.array([statistic(*pair).statistic for pair in pairs]) if many else None
            return figure(statistic(annotators[0], rated[0]).statistic, resampled)

    return {
        "models": [
            {
                "model": models[i],
                "num_battles": int(counts[i]),
                "annotators": rating(annotators, i),
                "judges": {judge: rating(rated, i) for judge, rated in by_judge.items()},
            }
            for i in order
        ],
        "rank_correlation": {
            judge: {"spearman": correlation(rated, spearmanr), "kendall": correlation(rated, kendalltau)}
            for judge, rated in by_judge.items()
        },
        "num_excluded": int(len(votes) - known.sum()),
    }


def linked_groups(a: np.ndarray, b: np.ndarray, num_models: int) -> np.ndarray:
    """The number of the group that each model is in: those that a chain of battles between `a` and `b` links."""
    linked = coo_array((np.ones(len(a)), (a, b)), shape=(num_models, num_models))
    return connected_components(linked, directed=False)[1]


def resampled_ratings(
    a: np.ndarray,
    b: np.ndarray,
    known: np.ndarray,
    probabilities: np.ndarray,
    num_models: int,
    bootstrap: GroupBootstrap,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Rate the models on all battles and on each resample.

    Args:
        a, b (`ndarray`): The models of each battle, as numbers below `num_models`; of shape `(battles,)`.
        known (`ndarray`): The battles to use, as a boolean mask.
        probabilities (`ndarray`): Of A, B and tie, of shape `(battles, 3)`.
        num_models (`int`): How many models there are.
        bootstrap (`GroupBootstrap`): Of the same battles.

    Returns:
        `tuple[ndarray, ndarray]`: Ratings of shape `(models,)` and `(resamples, models)`.
    """
    pairs, pair = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)])[:, known], axis=1, return_inverse=True)
    points = probabilities[known][:, :2] + probabilities[known][:, 2:] / 2  # a tie is half a win for both
    points = np.where((a < b)[known, None], points, points[:, ::-1])
    columns = 2 * pair[:, None] + np.arange(2)
    rows = np.repeat(bootstrap.members[known], 2)
    by_group = coo_array(
        (points.ravel(), (rows, columns.ravel())), shape=(bootstrap.num_groups, 2 * pairs.shape[1])
    ).tocsr()
    resampled = (by_group.T @ bootstrap.weights[:NUM_RESAMPLES].T).T.reshape(-1, pairs.shape[1], 2)
    all_battles = by_group.sum(axis=0).reshape(1, -1, 2)
    return bradley_terry(pairs, all_battles, num_models)[0], bradley_terry(pairs, resampled, num_models)


def bradley_terry(pairs: np.ndarray, wins: np.ndarray, num_models: int) -> np.ndarray:
    """
    Fit ratings on the Elo scale with a mean of 1000, by logistic regression as
    [Chatbot Arena](https://arxiv.org/abs/2403.04132) does. All resamples take Newton's steps together, since a fit
    alone is mostly overhead.

    Args:
        pairs (`ndarray`): Two models in each column, no pair twice, of shape `(2, pairs)`.
        wins (`ndarray`): Wins of the first and of the second, a tie half of one for both, of shape
            `(resamples, pairs, 2)`.
        num_models (`int`): How many models there are.

    Returns:
        `ndarray`: A rating for each model, of shape `(resamples, models)`. NaN if there are no battles at all, as in
        some resamples of few groups.
    """
    first, second = pairs
    num_pairs, models = len(first), np.arange(num_models)
    signs = (np.repeat([1.0, -1.0], num_pairs), (np.tile(np.arange(num_pairs), 2), pairs.ravel()))
    sides = coo_array(signs, shape=(num_pairs, num_models)).tocsr()
    battles, ratings = wins.sum(axis=2), np.zeros((len(wins), num_models))
    for _ in range(MAX_STEPS):
        chance = expit(ratings @ sides.T)  # of the first model
        gradient = (wins[:, :, 0] - battles * chance) @ sides - PENALTY * ratings
        hessian = np.zeros((len(wins), num_models, num_models))
        hessian[:, first, second] = hessian[:, second, first] = -battles * chance * (1 - chance)
        hessian[:, models, models] = PENALTY - hessian.sum(axis=2)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        step /= np.maximum(np.abs(step).max(axis=1, keepdims=True), 1)  # further away the curvature is another one
        ratings += step
        if np.abs(step).max() < 1e-6:
            break
    ratings = ELO * (ratings - ratings.mean(axis=1, keepdims=True)) + MEAN_RATING
    ratings[battles.sum(axis=1) == 0] = np.nan
    return ratings


def style_controlled_ratings(
    a: np.ndarray, b: np.ndarray, points: np.ndarray, style: np.ndarray, num_models: int, bootstrap: GroupBootstrap
) -> tuple[np.ndarray, np.ndarray]:
    """
    Ratings at equal style, as [Chatbot Arena's style control](https://lmsys.org/blog/2024-08-28-style-control/): a
    logistic regression on the models and the differences in style between their answers.

    Args:
        a, b (`ndarray`): The models of each battle, as numbers below `num_models`; of shape `(battles,)`.
        points (`ndarray`): What `a` gets, from 0 to 1; of shape `(battles,)`.
        style (`ndarray`): Differences in style, of shape `(battles, features)`.
        num_models (`int`): How many models there are.
        bootstrap (`GroupBootstrap`): Of the same battles.

    Returns:
        `tuple[ndarray, ndarray]`: Ratings of shape `(models,)` and `(resamples, models)`.
    """
    places, scale = np.arange(len(a)), style.std(axis=0)
    sides = np.zeros((len(a), num_models))
    sides[places, a], sides[places, b] = 1, -1
    columns = np.hstack([sides, style[:, scale > 0] / scale[scale > 0]])
    twice, won = np.vstack([columns, columns]), np.repeat([1, 0], len(a))
    weights = np.concatenate([points, 1 - points])
    model = LogisticRegression(C=100, fit_intercept=False, solver="newton-cholesky")

    def fitted(counts: np.ndarray) -> np.ndarray:
        ratings = ELO * model.fit(twice, won, sample_weight=weights * np.tile(counts, 2)).coef_[0, :num_models]
        return ratings - ratings.mean() + MEAN_RATING

    drawn = bootstrap.weights[:NUM_RESAMPLES, bootstrap.members]
    return fitted(np.ones(len(a))), np.stack([fitted(counts) for counts in drawn])
