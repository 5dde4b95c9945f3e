"""Metrics of predictions: functions, and `evaluate` modules around them that load offline, by their folders."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import evaluate


def metric_folder(name: str) -> str:
    """The folder of a metric, as `evaluate.load` takes it from any working directory."""
    return str(Path(__file__).parent / name)


@cache
def load_metric(name: str) -> "evaluate.EvaluationModule":
    """Load a metric of this package: "accuracy", "brier_score", "ece", "flip_rate" or "log_loss"."""
    import evaluate  # takes a second, and the functions of metrics need none of it

    # In memory, since files in the shared cache clash between processes.
    return evaluate.load(metric_folder(name), keep_in_memory=True)


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """
    Compute all metrics of predictions in one order.

    Args:
        probabilities (`ndarray`): Of shape `(battles, 3)`, in the order of `WINNERS`.
        labels (`ndarray`): The votes, as indices into `WINNERS`, or as fractions of shape `(battles, 3)`.

    Returns:
        `dict[str, float]`: `log_loss`, `accuracy`, `brier_score`, `ece` and `debiased_ce`.
    """
    scores: dict[str, float] = {}
    for name in ("log_loss", "accuracy", "brier_score", "ece"):
        scores |= load_metric(name).compute(predictions=probabilities.tolist(), references=labels.tolist())
    return scores
