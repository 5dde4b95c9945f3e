"""
Bradley-Terry ratings of 200 resamples of battles: ours against scikit-learn's logistic regression, once a resample.
How long each takes, and how far its ratings are from those of a fit that has converged.

    python benchmarks/ratings.py --record
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from devices import machine_name, timed
from results import markdown_table, record
from sklearn.linear_model import LogisticRegression

from lmsys_trl.config import parse_config
from lmsys_trl.report.ratings import ELO, MEAN_RATING, NUM_RESAMPLES, PENALTY, bradley_terry
from lmsys_trl.terminal import run_recipe

SIZES = ((3, 24), (20, 500), (60, 5000), (200, 50_000))  # models, battles
NUM_EXACT = 5  # resamples, since such a fit takes long


@dataclass
class RatingsConfig:
    """How often, and what for."""

    runs: int = field(default=3, metadata={"help": "How often each is timed. The median counts."})
    record: bool = field(default=False, metadata={"help": "Write the table into docs/results.md."})


def main():
    config, _ = parse_config(RatingsConfig)
    rows = [compare(*size, config.runs) for size in SIZES]
    header = ["models, battles", "ours", "scikit-learn", "times as fast", "off by at most", "scikit-learn off by"]
    table = markdown_table(header, rows)
    print(f"{machine_name()}\n\n{table}")
    if config.record:
        record("ratings", table)


def compare(num_models: int, num_battles: int, runs: int) -> list[str]:
    """A row of the table."""
    pairs, wins = resampled_battles(num_models, num_battles)
    fits = {
        "ours": lambda wins: bradley_terry(pairs, wins, num_models),
        "theirs": lambda wins: np.stack([fit(pairs, counts, num_models) for counts in wins]),
    }
    seconds = {name: np.median([timed(partial(make, wins)) for _ in range(runs)]) for name, make in fits.items()}
    exact = np.stack([fit(pairs, counts, num_models, tol=1e-9) for counts in wins[:NUM_EXACT]])
    off = {name: np.abs(make(wins[:NUM_EXACT]) - exact).max() for name, make in fits.items()}
    return [
        f"{num_models}, {num_battles:,}", f"{seconds['ours']:.3f} s", f"{seconds['theirs']:.2f} s",
        f"{seconds['theirs'] / seconds['ours']:.1f}", f"{off['ours']:.4f}", f"{off['theirs']:.1f}",
    ]  # fmt: skip


def resampled_battles(num_models: int, num_battles: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of models, and the wins of both in each resample of battles between models of random strength."""
    random = np.random.default_rng(0)
    strengths = random.normal(size=num_models)
    a = random.integers(0, num_models, num_battles)
    b = (a + random.integers(1, num_models, num_battles)) % num_models
    a, b = np.minimum(a, b), np.maximum(a, b)
    pairs, pair = np.unique([a, b], axis=1, return_inverse=True)
    column = 2 * pair + (random.random(num_battles) > 1 / (1 + np.exp(strengths[b] - strengths[a])))
    drawn = random.integers(0, num_battles, (NUM_RESAMPLES, num_battles))
    wins = np.stack([np.bincount(column[row], minlength=2 * pairs.shape[1]) for row in drawn])
    return pairs, wins.reshape(NUM_RESAMPLES, -1, 2).astype(float)


def fit(pairs: np.ndarray, wins: np.ndarray, num_models: int, tol: float = 1e-4) -> np.ndarray:
    """The ratings of one resample by scikit-learn, at its default tolerance or another one."""
    places = np.arange(pairs.shape[1])
    sides = np.zeros((len(places), num_models))
    sides[places, pairs[0]], sides[places, pairs[1]] = 1, -1
    model = LogisticRegression(C=1 / PENALTY, fit_intercept=False, tol=tol, max_iter=1000)
    model.fit(np.concatenate([sides, sides]), np.repeat([1, 0], len(places)), sample_weight=wins.T.ravel())
    ratings = ELO * model.coef_[0]
    return ratings - ratings.mean() + MEAN_RATING


if __name__ == "__main__":
    run_recipe(main)
