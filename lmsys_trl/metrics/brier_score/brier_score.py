"""Brier score of forecasts."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = (
    """Mean squared distance between the probabilities and what came true, summed over the classes (Brier, 1950)."""
)

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability a class, for each battle.
    references (`list` of `int`): The index of the class that came true.
Returns:
    `brier_score` (`float`): 0 at best, 2 at worst.
"""


def squared_distances(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The squared distance to what came true, one a battle."""
    return np.sum((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2, axis=1)


class BrierScore(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.List(datasets.Value("float64")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references):
        return {"brier_score": float(squared_distances(np.asarray(predictions), np.asarray(references)).mean())}
