"""Does a judge rank models as people do? Bradley-Terry ratings of both, on the same battles."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import kendalltau, spearmanr
from sklearn.linear_model import LogisticRegression

from .bootstrap import GroupBootstrap, figure

NUM_RESAMPLES = 200  # of those of the bootstrap: each is a fit
ELO = 400 / np.log(10)  # a rating 400 above another one wins 10 of 11 battles
MEAN_RATING = 1000


def model_ratings(votes: pd.DataFrame, finals: dict[str, np.ndarray], bootstrap: GroupBootstrap) -> dict | None:
    """
    Args:
        votes (`DataFrame`): As made by [`votes_table`].
        finals (`dict[str, ndarray]`): Each judge's forecasts, of shape `(battles, 3)`.
        bootstrap (`GroupBootstrap`): Of the same battles.

    Returns:
        `dict` or None: `models`, a list with `model`, `num_battles`, `people` (its rating from the votes) and `judges`
        (from each judge's probabilities), best first by the votes; `rank_correlation`, for each judge `spearman` and
        `kendall`; and `num_left_out`, the battles of models that no chain of battles links to the others. None with
        fewer than three models.
    """
    if "model_a" not in votes or votes["model_a"].isna().all():
        return None
    known = votes["model_a"].notna().to_numpy() & votes["model_b"].notna().to_numpy()
    known &= (votes["model_a"] != votes["model_b"]).to_numpy()
    models = np.array(sorted({*votes["model_a"][known], *votes["model_b"][known]}), dtype=object)
    a, b = (pd.Index(models).get_indexer(votes[side]) for side in ("model_a", "model_b"))
    linked = coo_array((np.ones(known.sum()), (a[known], b[known])), shape=(len(models), len(models)))
    component = connected_components(linked, directed=False)[1]
    kept = component == np.bincount(component).argmax()
    known &= kept[a]
    models, places = models[kept], np.cumsum(kept) - 1
    if len(models) < 3:
        return None
    a, b = places[a], places[b]
    forecasts = {None: np.eye(3)[votes["label"]], **finals}
    rated = {
        name: _resampled_ratings(a, b, known, forecast, len(models), bootstrap) for name, forecast in forecasts.items()
    }
    order = np.argsort(-rated[None][0])
    counts = np.bincount(np.concatenate([a[known], b[known]]), minlength=len(models))

    def rating(name: str | None, i: int) -> dict:
        return figure(rated[name][0][i], rated[name][1][:, i] if bootstrap.num_groups > 1 else None)

    return {
        "models": [
            {
                "model": models[i],
                "num_battles": int(counts[i]),
                "people": rating(None, i),
                "judges": {judge: rating(judge, i) for judge in finals},
            }
            for i in order
        ],
        "rank_correlation": {
            judge: {
                name: figure(
                    of(rated[None][0], rated[judge][0]).statistic,
                    np.array([of(*pair).statistic for pair in zip(rated[None][1], rated[judge][1], strict=True)])
                    if bootstrap.num_groups > 1
                    else None,
                )
                for name, of in (("spearman", spearmanr), ("kendall", kendalltau))
            }
            for judge in finals
        },
        "num_left_out": int(len(votes) - known.sum()),
    }


def _resampled_ratings(
    a: np.ndarray, b: np.ndarray, known: np.ndarray, forecast: np.ndarray, num_models: int, bootstrap: GroupBootstrap
) -> tuple[np.ndarray, np.ndarray]:
    """The models' ratings, and those of each resample, of shape `(resamples, models)`."""
    pairs, pair = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)])[:, known], axis=1, return_inverse=True)
    points = forecast[known][:, :2] + forecast[known][:, 2:] / 2  # a tie is half a win for both
    points = np.where((a < b)[known, None], points, points[:, ::-1])
    columns = 2 * pair[:, None] + np.arange(2)
    rows = np.repeat(bootstrap.members[known], 2)
    by_group = coo_array(
        (points.ravel(), (rows, columns.ravel())), shape=(bootstrap.num_groups, 2 * pairs.shape[1])
    ).tocsr()
    resampled = (by_group.T @ bootstrap.weights[:NUM_RESAMPLES].T).T.reshape(-1, pairs.shape[1], 2)
    return (
        bradley_terry(pairs, by_group.sum(axis=0).reshape(-1, 2), num_models),
        np.stack([bradley_terry(pairs, wins, num_models) for wins in resampled]),
    )


def bradley_terry(pairs: np.ndarray, wins: np.ndarray, num_models: int) -> np.ndarray:
    """
    Ratings on the Elo scale with a mean of 1000, by logistic regression as
    [Chatbot Arena](https://arxiv.org/abs/2403.04132) does.

    Args:
        pairs (`ndarray`): Two models in each column, of shape `(2, pairs)`.
        wins (`ndarray`): Wins of the first and of the second, a tie half of one for both, of shape `(pairs, 2)`.
        num_models (`int`): How many models there are.

    Returns:
        `ndarray`: A rating for each model; NaN where there is no battle at all, as in some resamples of few groups.
    """
    if not wins.any():
        return np.full(num_models, np.nan)
    places = np.arange(pairs.shape[1])
    sides = np.zeros((pairs.shape[1], num_models))
    sides[places, pairs[0]], sides[places, pairs[1]] = 1, -1
    # The weak penalty keeps a model that never wins at a finite rating.
    model = LogisticRegression(C=100, fit_intercept=False)
    model.fit(np.concatenate([sides, sides]), np.repeat([1, 0], len(places)), sample_weight=wins.T.ravel())
    ratings = ELO * model.coef_[0]
    return ratings - ratings.mean() + MEAN_RATING
