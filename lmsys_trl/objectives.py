"""Logits and labels -> a loss. Plain functions of tensors."""

import torch
from torch.nn.functional import cross_entropy


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """
    Cross-entropy of the letter and the end token over the whole vocabulary.

    Args:
        logits (`Tensor`): Those that foretell the letter and the end token, of shape `(rows, 2, vocabulary)`.
        labels (`Tensor`): These two tokens, of shape `(rows, 2)`.
        label_smoothing (`float`): The share of a target that is spread over the whole vocabulary.

    Returns:
        `Tensor`: The sum over rows of the mean over their two tokens.
    """
    logits = logits.flatten(0, 1).float()
    return cross_entropy(logits, labels.flatten(), reduction="sum", label_smoothing=label_smoothing) / 2


def letters_loss(
    logits: torch.Tensor, labels: torch.Tensor, letters: list[int], label_smoothing: float = 0.0
) -> torch.Tensor:
    """
    Cross-entropy of the letter among the three letters; the end token is not learned. It did not help the 38th place.

    Args:
        logits, labels, letters: As for [`letter_logits`].
        label_smoothing (`float`): The share of a target that is spread over the three letters.

    Returns:
        `Tensor`: The sum over rows.
    """
    return cross_entropy(*letter_logits(logits, labels, letters), reduction="sum", label_smoothing=label_smoothing)


def letter_logits(logits: torch.Tensor, labels: torch.Tensor, letters: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Args:
        logits, labels: As for [`answer_loss`].
        letters (`list[int]`): The ids of the three letters.

    Returns:
        `tuple[Tensor, Tensor]`: The logits of the letters, of shape `(rows, 3)`, and the place of the right one.
    """
    right = labels[:, :1] == torch.tensor(letters, device=labels.device)
    return logits[:, 0, letters].float(), right.int().argmax(dim=1)
