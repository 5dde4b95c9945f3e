"""Log loss of forecasts."""

import datasets
import evaluate
from sklearn import metrics

_DESCRIPTION = """Mean of -log(probability of the class that came true), in nats. The competition's metric."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability a class, for each battle.
    references (`list` of `int`): The index of the class that came true.
Returns:
    `log_loss` (`float`): 0 at best.
"""


class LogLoss(evaluate.Metric):
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
        labels = list(range(len(predictions[0])))
        return {"log_loss": float(metrics.log_loss(references, predictions, labels=labels))}
