"""Expected calibration error of forecasts."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """How far confidence and accuracy are apart: battles are put into 10 bins by the probability of
their most probable class; the distance between its mean and the accuracy in each bin is averaged, weighted by battles
(Guo et al., https://arxiv.org/abs/1706.04599)."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability a class, for each battle.
    references (`list` of `int`): The index of the class that came true.
Returns:
    `ece` (`float`): 0 at best.
"""


class ExpectedCalibrationError(evaluate.Metric):
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
        probabilities = np.asarray(predictions)
        confidence = probabilities.max(axis=1)
        correct = probabilities.argmax(axis=1) == np.asarray(references)
        bins = np.minimum((confidence * 10).astype(int), 9)
        gaps = [abs(np.sum(confidence[bins == i] - correct[bins == i])) for i in np.unique(bins)]
        return {"ece": float(np.sum(gaps) / len(correct))}
