"""How often a verdict depends on the order of the answers."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """The share of battles whose most probable class changes when the answers exchange their places."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): Probabilities of A, B and tie in the order given.
    references (`list` of `list` of `float`): Those of the exchanged answers, B's chance put back in its own place.
Returns:
    `flip_rate` (`float`): 0 at best.
"""


def flips(in_order: np.ndarray, exchanged: np.ndarray) -> np.ndarray:
    """Whether the verdict changes with the order, one a battle."""
    return np.argmax(in_order, axis=1) != np.argmax(exchanged, axis=1)


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
