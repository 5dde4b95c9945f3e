"""How uncertain a figure is: the same resamples of groups for all figures of a report."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array

NUM_RESAMPLES = 1000


class GroupBootstrap:
    """
    Draws whole groups of battles with replacement, since battles with the same prompt are not independent evidence
    ([Field and Welsh, 2007](https://doi.org/10.1111/j.1467-9868.2007.00593.x)). All figures are computed on the same
    resamples, so that a difference between two judges is paired. Takes 4 bytes for each group and resample.

    Args:
        groups (`Sequence[str]`): The group of each battle.
        num_resamples (`int`): How many.
    """

    def __init__(self, groups: Sequence[str], num_resamples: int = NUM_RESAMPLES):
        self.members, names = pd.factorize(np.asarray(groups, dtype=object))
        self.num_groups = len(names)
        random = np.random.default_rng(0)
        draws = (random.integers(0, self.num_groups, self.num_groups) for _ in range(num_resamples))
        self.weights = np.stack([np.bincount(draw, minlength=self.num_groups).astype(np.float32) for draw in draws])

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the battles of each resample, of shape `(resamples, ...)`, of values of shape `(battles, ...)`."""
        columns = values.reshape(len(values), -1).T.astype(np.float64)
        by_group = np.stack([np.bincount(self.members, column, self.num_groups) for column in columns], axis=1)
        sums = self.weights @ by_group.astype(np.float32)
        return sums.reshape(len(sums), *values.shape[1:])

    def mean(self, values: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float | None]:
        """The mean over all battles, or those in a boolean mask, as a figure."""
        subsets = np.zeros(len(values), dtype=int) if mask is None else np.where(mask, 0, -1)
        return self.means(values, subsets)[0]

    def means(self, values: np.ndarray, subsets: np.ndarray) -> list[dict[str, float | None]]:
        """
        The mean over each subset of the battles.

        Args:
            values (`ndarray`): Of shape `(battles,)`.
            subsets (`ndarray`): The number of each battle's subset, from 0; -1 for none. Of shape `(battles,)`.

        Returns:
            `list[dict]`: A figure for each subset.
        """
        kept = subsets >= 0
        places = (self.members[kept], subsets[kept])
        sums, counts = (
            coo_array((column[kept], places), shape=(self.num_groups, subsets.max() + 1)).tocsr()
            for column in (np.asarray(values, dtype=np.float64), np.ones(len(subsets)))
        )
        estimates = sums.sum(axis=0) / counts.sum(axis=0)
        drawn_sums, drawn_counts = (table.astype(np.float32).T @ self.weights.T for table in (sums, counts))
        with np.errstate(invalid="ignore"):  # a resample may have no group of a small subset
            resampled = drawn_sums / drawn_counts
        num_groups = (counts > 0).sum(axis=0)
        return [
            figure(estimate, draws if n > 1 else None)
            for estimate, draws, n in zip(estimates, resampled, num_groups, strict=True)
        ]


def figure(value: float, resampled: np.ndarray | None) -> dict[str, float | None]:
    """
    A figure of a report: `value`, and `low` and `high`, its 95% percentile interval.

    Args:
        value (`float`): As computed on all battles.
        resampled (`ndarray`, *optional*): As computed on each resample. Default: there is a single group, and `low`
            and `high` are None.
    """
    if resampled is None or np.isnan(resampled).all():
        return {"value": float(value), "low": None, "high": None}
    low, high = np.nanquantile(resampled, (0.025, 0.975))
    return {"value": float(value), "low": float(low), "high": float(high)}


def format_figure(found: dict[str, float | None], form: str) -> str:
    """A figure as text: `0.61 [0.52, 0.72]`, in the format of each number."""
    text = f"{found['value']:{form}}"
    return text if found["low"] is None else f"{text} [{found['low']:{form}}, {found['high']:{form}}]"
