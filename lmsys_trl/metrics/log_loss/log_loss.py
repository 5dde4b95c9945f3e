"""Log loss of forecasts."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """Mean of -log(probability of the class that came true), in nats. The competition's metric."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability a class, for each battle.
    references (`list` of `int`): The index of the class that came true.
Returns:
    `log_loss` (`float`): 0 at best.
"""


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log(probability of the class that came true), one a battle; finite as in scikit-learn, where it was 0."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(chosen, np.finfo(np.float64).eps, 1))


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
        return {"log_loss": float(log_losses(np.asarray(predictions), np.asarray(references)).mean())}
