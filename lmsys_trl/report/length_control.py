"""The win rate that a model would have if its answers were as long as the other's."""

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GroupKFold

from .bootstrap import GroupBootstrap, figure

NUM_FOLDS = 5
NUM_RESAMPLES = 200  # each is a fit


def length_controlled_win_rate(points: np.ndarray, length_difference: np.ndarray, bootstrap: GroupBootstrap) -> dict:
    """
    The win rate at equal lengths, by a logistic regression on `tanh` of the standardised difference in length: the
    formula that [alpaca_eval](https://arxiv.org/abs/2404.04475) calls `length_controlled_minimal`. It has no term for
    the difficulty of the instructions and no gamed baselines, so it is not the leaderboard's figure.

    Args:
        points (`ndarray`): What the model gets in each battle, from 0 to 1; of shape `(battles,)`.
        length_difference (`ndarray`): Characters of its answer minus those of the other, of shape `(battles,)`.
        bootstrap (`GroupBootstrap`): Of the same battles. Its resamples keep the strength of the penalty.

    Returns:
        `dict`: A figure. Without differences in length it is the win rate; with fewer battles than folds its `value`
        is None.
    """
    num_battles = len(points)
    if num_battles < NUM_FOLDS:
        return {"value": None, "low": None, "high": None}
    scale = np.std(length_difference, ddof=1)
    if not scale:
        return bootstrap.mean(points)
    features = np.column_stack([np.ones(num_battles), np.tanh(length_difference / scale)])
    # Each battle is won and lost, by the fractions that its points say.
    twice, won = np.vstack([features, features]), np.repeat([1, 0], num_battles)
    weights = np.concatenate([points, 1 - points])
    # All of the constants are alpaca_eval's.
    settings = {"solver": "liblinear", "fit_intercept": False, "random_state": 123}
    folds = GroupKFold(NUM_FOLDS).split(twice, groups=np.tile(np.arange(num_battles), 2))
    chosen = LogisticRegressionCV(
        Cs=10, cv=list(folds), l1_ratios=(1,), scoring="neg_log_loss", use_legacy_attributes=False, **settings
    ).fit(twice, won, sample_weight=weights)
    fit = LogisticRegression(C=chosen.C_, l1_ratio=1, **settings)

    def at_equal_lengths(counts: np.ndarray) -> float:
        fit.fit(twice, won, sample_weight=weights * np.tile(counts, 2))
        return 1 / (1 + np.exp(-fit.coef_[0, 0]))

    drawn = bootstrap.weights[:NUM_RESAMPLES, bootstrap.members]
    resampled = np.array([at_equal_lengths(counts) for counts in drawn if counts.any()])
    return figure(at_equal_lengths(np.ones(num_battles)), resampled if bootstrap.num_groups > 1 else None)
