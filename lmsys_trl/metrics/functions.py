"""Metrics of predictions, battle by battle, so that they can be averaged and bootstrapped."""

import numpy as np

NUM_BINS = 10  # of the calibration errors


def as_fractions(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The fractions of votes, of shape `(battles, classes)`: as they are, or of indices of classes."""
    return np.eye(num_classes)[labels] if labels.ndim == 1 else labels


def class_prior(fractions: np.ndarray, num_battles: int) -> np.ndarray:
    """
    The same prediction for all battles: how frequent each vote is.

    Args:
        fractions (`ndarray`): The votes that it is fitted on, as fractions of shape `(battles, classes)`. One of each
            class is added to them, so that no probability is 0.
        num_battles (`int`): The battles to predict.

    Returns:
        `ndarray`: Of shape `(num_battles, classes)`.
    """
    counts = fractions.sum(axis=0) + 1
    return np.tile(counts / counts.sum(), (num_battles, 1))


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """
    -log(probability of the vote) of each battle, in nats. Finite, as in scikit-learn, where the probability is 0. Of a
    vote that is fractions it is what a winner drawn from them would give on average, as in the other functions.

    Args:
        probabilities (`ndarray`): Of shape `(battles, classes)`.
        labels (`ndarray`): The votes, as indices of classes, or as fractions of shape `(battles, classes)`.

    Returns:
        `ndarray`: Of shape `(battles,)`.
    """
    fractions = as_fractions(labels, probabilities.shape[1])
    return -(fractions * np.log(np.clip(probabilities, np.finfo(np.float64).eps, 1))).sum(axis=1)


def correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """
    1 where the most probable class is the vote, else 0; where n classes are equally probable, 1 / n if the vote is one
    of them. Arguments as for [`log_losses`].
    """
    is_largest = probabilities == probabilities.max(axis=1, keepdims=True)
    return (is_largest * as_fractions(labels, probabilities.shape[1])).sum(axis=1) / is_largest.sum(axis=1)


def squared_distances(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The squared distance to the vote of each battle, summed over classes; arguments as for [`log_losses`]."""
    fractions = as_fractions(labels, probabilities.shape[1])
    return np.sum((probabilities - fractions) ** 2 + fractions * (1 - fractions), axis=1)


def binned(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """
    Each battle in the bin of its confidence, the probability of its most probable class.

    Args:
        probabilities, labels: As for [`log_losses`].

    Returns:
        `ndarray`: Of shape `(battles, bins, 4)`: 1, the confidence, by how much it is correct, and the square of that;
        zeros in other bins.
    """
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    table = np.zeros((len(bins), NUM_BINS, 4))
    is_correct = correct(probabilities, labels)
    table[np.arange(len(bins)), bins] = np.stack([np.ones(len(bins)), confidence, is_correct, is_correct**2], axis=1)
    return table


def calibration_errors(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Args:
        sums (`ndarray`): Sums of [`binned`] over battles, of shape `(..., bins, 4)`.

    Returns:
        `tuple[ndarray, ndarray, ndarray]`: The expected calibration error, the mean squared one, and the latter minus
        the variance of each bin's accuracy (may be negative), each of shape `(...)`.
    """
    count, confidence, num_correct, num_squared = np.moveaxis(sums, -1, 0)
    fraction = count / count.sum(-1, keepdims=True)
    filled = np.maximum(count, 1)
    accuracy = num_correct / filled
    gap = confidence / filled - accuracy
    variance = (num_squared / filled - accuracy**2) / np.maximum(count - 1, 1)
    squared = (fraction * gap**2).sum(-1)
    return (fraction * np.abs(gap)).sum(-1), squared, squared - (fraction * variance).sum(-1)


def flips(as_given: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """
    Whether the most probable class changes with the order of the answers, as a boolean mask.

    Args:
        as_given (`ndarray`): Probabilities with the answers in the order given, of shape `(battles, classes)`.
        swapped (`ndarray`): With the answers swapped, in terms of the order given.
    """
    return np.argmax(as_given, axis=1) != np.argmax(swapped, axis=1)
