"""Brier score of predictions."""

import datasets
import evaluate
import numpy as np

# By its absolute name: `evaluate` copies this file into its cache.
from lmsys_trl.metrics.functions import squared_distances

_DESCRIPTION = (
    """Mean squared distance between the probabilities and the vote, summed over the classes (Brier, 1950)."""
)

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability per class, for each battle.
    references (`list` of `int`, or of `list` of `float`): The votes, as indices of classes or as their fractions.
Returns:
    `brier_score` (`float`): 0 at best, 2 at worst.
"""


class BrierScore(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": datasets.List(datasets.Value("float64")), "references": references})
                for references in (datasets.Value("int64"), datasets.List(datasets.Value("float64")))
            ],
        )

    def _compute(self, predictions, references):
        return {"brier_score": float(squared_distances(np.asarray(predictions), np.asarray(references)).mean())}
