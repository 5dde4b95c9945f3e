"""Calibration error of forecasts, as it is counted and corrected for the bias of few battles."""

import datasets
import evaluate
import numpy as np

NUM_BINS = 10

_DESCRIPTION = """How far confidence and accuracy are apart: battles are put into 10 bins by the probability of
their most probable class. `ece` averages the distance between mean confidence and accuracy, weighted by battles
(Guo et al., https://arxiv.org/abs/1706.04599); chance alone makes it larger than 0, the more so the fewer battles
there are. `debiased_ce` is the root of the mean squared distance with that bias taken away (Bröcker, 2012; Kumar et
al., https://arxiv.org/abs/1909.10155)."""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): One probability a class, for each battle.
    references (`list` of `int`): The index of the class that came true.
Returns:
    `ece` (`float`): 0 at best.
    `debiased_ce` (`float`): 0 at best, and where the squared distance is no larger than chance makes it.
"""


def binned(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1, confidence and correctness of each battle in its bin, zeros in the others: shape `(battles, bins, 3)`."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    table = np.zeros((len(bins), NUM_BINS, 3))
    table[np.arange(len(bins)), bins] = np.stack([np.ones(len(bins)), confidence, correct], axis=1)
    return table


def calibration_errors(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Args:
        sums (`ndarray`): Sums of [`binned`] over battles, of shape `(..., bins, 3)`.

    Returns:
        `tuple[ndarray, ndarray, ndarray]`: The expected calibration error, the mean squared one, and the latter less
        the variance of each bin's accuracy (may be negative), each of shape `(...)`.
    """
    count, confidence, correct = np.moveaxis(sums, -1, 0)
    share = count / count.sum(-1, keepdims=True)
    filled = np.maximum(count, 1)
    accuracy = correct / filled
    gap = confidence / filled - accuracy
    variance = accuracy * (1 - accuracy) / np.maximum(count - 1, 1)
    squared = (share * gap**2).sum(-1)
    return (share * np.abs(gap)).sum(-1), squared, squared - (share * variance).sum(-1)


class CalibrationError(evaluate.Metric):
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
        ece, _, debiased = calibration_errors(binned(np.asarray(predictions), np.asarray(references)).sum(axis=0))
        return {"ece": float(ece), "debiased_ce": float(np.sqrt(max(debiased, 0)))}
