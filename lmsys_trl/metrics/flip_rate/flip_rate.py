"""How often a verdict depends on the order of the answers."""

import datasets
import evaluate
import numpy as np

# By its absolute name: `evaluate` copies this file into its cache.
from lmsys_trl.metrics.functions import flips

_DESCRIPTION = """The fraction of battles whose most probable class changes when the answers are swapped."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): Probabilities of A, B and tie in the order given.
    references (`list` of `list` of `float`): Those with the answers swapped, in terms of the order given: A's first.
Returns:
    `flip_rate` (`float`): 0 at best.
"""


class FlipRate(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float64")),
                    "references": datasets.List(datasets.Value("float64")),
                }
            ),
        )

    def _compute(self, predictions, references):
        return {"flip_rate": float(flips(np.asarray(predictions), np.asarray(references)).mean())}
