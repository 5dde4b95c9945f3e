"""Calibration error of predictions, plain and corrected for the bias of few battles."""

import datasets
import evaluate
import numpy as np

# By its absolute name: `evaluate` copies this file into its cache.
from lmsys_trl.metrics.functions import binned, calibration_errors

_DESCRIPTION = """How far confidence and accuracy are apart: battles are binned into 10 bins by the probability of
their most probable class. `ece` averages the distance between mean confidence and accuracy, weighted by battles
(Guo et al., https://arxiv.org/abs/1706.04599); chance alone makes it larger than 0, the more so the fewer battles
there are. `debiased_ce` is the root of the mean squared distance with that bias removed (Bröcker, 2012; Kumar et
al., https://arxiv.org/abs/1909.10155)."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability per class, for each battle.
    references (`list` of `int`, or of `list` of `float`): The votes, as indices of classes or as their fractions.
Returns:
    `ece` (`float`): 0 at best.
    `debiased_ce` (`float`): 0 at best, and where the squared distance is no larger than chance makes it.
"""


class CalibrationError(evaluate.Metric):
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
        ece, _, debiased = calibration_errors(binned(np.asarray(predictions), np.asarray(references)).sum(axis=0))
        return {"ece": float(ece), "debiased_ce": max(float(debiased), 0.0) ** 0.5}
