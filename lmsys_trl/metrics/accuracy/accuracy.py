"""Accuracy of predictions."""

import datasets
import evaluate
import numpy as np

# By its absolute name: `evaluate` copies this file into its cache.
from lmsys_trl.metrics.functions import correct

_DESCRIPTION = """The fraction of battles in which the most probable class is the vote."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability per class, for each battle.
    references (`list` of `int`, or of `list` of `float`): The votes, as indices of classes or as their fractions.
Returns:
    `accuracy` (`float`): 1 at best.
"""


class Accuracy(evaluate.Metric):
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
        return {"accuracy": float(correct(np.asarray(predictions), np.asarray(references)).mean())}
