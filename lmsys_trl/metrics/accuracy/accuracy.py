"""Accuracy of forecasts."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """The share of battles in which the most probable class came true."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability a class, for each battle.
    references (`list` of `int`): The index of the class that came true.
Returns:
    `accuracy` (`float`): 1 at best.
"""


def correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the most probable class came true, one a battle."""
    return np.argmax(probabilities, axis=1) == labels


class Accuracy(evaluate.Metric):
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
        return {"accuracy": float(correct(np.asarray(predictions), np.asarray(references)).mean())}
