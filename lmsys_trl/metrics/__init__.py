"""Metrics as `evaluate` modules: `evaluate.load("lmsys_trl/metrics/ece")` works offline, for any forecasts."""

from functools import cache
from pathlib import Path

import evaluate
import numpy as np


@cache
def load_metric(name: str) -> evaluate.EvaluationModule:
    """A metric of this folder, by its name."""
    # In memory, since files in the shared cache clash between processes.
    return evaluate.load(str(Path(__file__).parent / name), keep_in_memory=True)


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """
    Args:
        probabilities (`ndarray`): Forecasts, of shape `(battles, 3)`, in the order of `WINNERS`.
        labels (`ndarray`): What came true, as indices into `WINNERS`.

    Returns:
        `dict[str, float]`: `log_loss`, `accuracy`, `brier_score`, `ece` and `debiased_ce`.
    """
    scores = {}
    for name in ("log_loss", "accuracy", "brier_score", "ece"):
        scores |= load_metric(name).compute(predictions=probabilities.tolist(), references=labels.tolist())
    return scores


def flip_rate(in_order: np.ndarray, exchanged: np.ndarray) -> float:
    """The share of verdicts that change with the order; both of shape `(battles, 3)`, in terms of the order given."""
    return load_metric("flip_rate").compute(predictions=in_order.tolist(), references=exchanged.tolist())["flip_rate"]
