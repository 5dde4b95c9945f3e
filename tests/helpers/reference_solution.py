"""What the notebooks of the reference solution compute, written out from their cells."""

import numpy as np


def reference_submission(number: int, p: dict[tuple[str, str], np.ndarray], lengths, ids) -> np.ndarray:
    """
    The probabilities of a submission.

    Llama reads every battle with the answers swapped. In the first submission the 2b model also reads the longer half,
    swapped; in the second Llama reads the longest tenth once more, as given.

    Args:
        number (`int`): 1 or 2.
        p (`dict`): Probabilities by model ("gemma-2-9b", "llama-3.1-8b", "gemma-2-2b") and the order in which it read
            the answers, in terms of the battle as given, of shape `(battles, 3)`.
        lengths, ids: Of the battles. The longest are those with most tokens, ids breaking ties.
    """
    gemma, llama = p["gemma-2-9b", "ab"], p["llama-3.1-8b", "ba"]
    if number == 1:
        fraction, long = 0.5, 0.55 * gemma + 0.40 * llama + 0.05 * p["gemma-2-2b", "ba"]
    else:
        fraction, long = 0.1, 0.50 * gemma + 0.25 * llama + 0.25 * p["llama-3.1-8b", "ab"]
    longest = sorted(range(len(ids)), key=lambda i: (-lengths[i], ids[i]))[: round(fraction * len(ids))]
    submission = 0.55 * gemma + 0.45 * llama
    submission[longest] = long[longest]
    return submission
