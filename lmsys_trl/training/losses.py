"""Logits and targets -> a loss, the sum over examples. Plain functions of tensors."""

import torch


def answer_loss(
    logits: torch.Tensor, labels: torch.Tensor, votes: torch.Tensor, letters: list[int], label_smoothing: float = 0.0
) -> torch.Tensor:
    """
    Cross-entropy of the letter and the end token over the whole vocabulary, the mean of the two.

    Args:
        logits (`Tensor`): Those that predict the letter and the end token, of shape `(examples, 2, vocabulary)`.
        labels (`Tensor`): These two tokens, of shape `(examples, 2)`. Of the letter only `votes` are used.
        votes (`Tensor`): The fraction of each letter, of shape `(examples, 3)`; zeros without a vote.
        letters (`list[int]`): The ids of the three letters.
        label_smoothing (`float`): The fraction of a target that is spread over the whole vocabulary.
    """
    log_p = logits.float().log_softmax(-1)
    letter = _cross_entropy(log_p[:, 0], log_p[:, 0, letters], votes, label_smoothing)
    end = _cross_entropy(
        log_p[:, 1], log_p[:, 1].gather(1, labels[:, 1:]), votes.new_ones(len(votes), 1), label_smoothing
    )
    return (letter + end) / 2


def letters_loss(logits: torch.Tensor, votes: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """
    Cross-entropy of the letter among the three letters; the end token is not learned. It did not help the reference
    solution.

    Args:
        logits (`Tensor`): Of the letters, of shape `(examples, 3)`.
        votes (`Tensor`): As for [`answer_loss`].
        label_smoothing (`float`): The fraction of a target that is spread over the three letters.
    """
    log_p = logits.float().log_softmax(-1)
    return _cross_entropy(log_p, log_p, votes, label_smoothing)


def order_divergence(logits: torch.Tensor) -> torch.Tensor:
    """
    Symmetric KL divergence between what is predicted in the two orders of the answers, summed over battles: the term
    of [R-Drop](https://arxiv.org/abs/2106.14448), with the orders in place of two dropout masks.

    Args:
        logits (`Tensor`): Of the letters, of shape `(examples, 3)`: of each battle as given, then swapped.
    """
    as_given, swapped = logits[0::2].log_softmax(-1), logits[1::2, [1, 0, 2]].log_softmax(-1)
    return ((as_given.exp() - swapped.exp()) * (as_given - swapped)).sum() / 2


def _cross_entropy(
    log_p: torch.Tensor, log_p_of_targets: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    hard = -(targets * log_p_of_targets).sum()
    if not label_smoothing:
        return hard
    return (1 - label_smoothing) * hard - label_smoothing * (targets.sum(-1) * log_p.mean(-1)).sum()


def teacher_kl(logits: torch.Tensor, teachers: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """
    KL divergence to the teachers ([Hinton et al.](https://arxiv.org/abs/1503.02531)), the mean over teachers, times
    the square of the temperature, so that gradients do not shrink with it.

    Args:
        logits (`Tensor`): Of the letters, of shape `(examples, 3)`.
        teachers (`Tensor`): Probabilities, of shape `(examples, teachers, 3)`; examples with a NaN are ignored.
        temperature (`float`): What the logits of both are divided by.
    """
    logits, teachers = _with_teachers(logits, teachers)
    log_q = (logits / temperature).log_softmax(-1)
    log_p = (teachers.clamp(min=1e-12).log() / temperature).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean(-1).sum() * temperature**2


def teacher_cosine(logits: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
    """
    Cosine distance (1 minus the cosine similarity) between the probabilities of judge and teachers, the mean over
    teachers. The winners of the competition added it to the KL divergence.

    Args:
        logits, teachers: As for [`teacher_kl`].
    """
    logits, teachers = _with_teachers(logits, teachers)
    return (1 - torch.cosine_similarity(logits.softmax(-1), teachers, dim=-1)).mean(-1).sum()


def _with_teachers(logits: torch.Tensor, teachers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    known = ~teachers.isnan().any(-1).any(-1)
    return logits[known].float().unsqueeze(1), teachers[known]
