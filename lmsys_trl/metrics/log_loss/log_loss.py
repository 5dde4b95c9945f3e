"""Log loss of predictions."""

import datasets
import evaluate
import numpy as np

# By its absolute name: `evaluate` copies this file into its cache.
from lmsys_trl.metrics.functions import log_losses

_DESCRIPTION = """Mean of -log(probability of the vote), in nats. The competition's metric."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability per class, for each battle.
    references (`list` of `int`, or of `list` of `float`): The votes, as indices of classes or as their fractions.
Returns:
    `log_loss` (`float`): 0 at best.
"""


class LogLoss(evaluate.Metric):
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
        return {"log_loss": float(log_losses(np.asarray(predictions), np.asarray(references)).mean())}
