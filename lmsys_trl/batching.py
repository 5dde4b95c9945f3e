"""Rows of different length -> padded batches, shared out over processes."""

import heapq

import torch

from .rows import IGNORED


def token_batches(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """
    Group rows of similar length, longest first, into batches of at most `max_tokens` tokens with padding.

    Args:
        lengths (`list[int]`): Tokens of each row.
        max_tokens (`int`): A row that is longer is a batch of its own.

    Returns:
        `list[list[int]]`: Batches of indices into `lengths`; each index stands in one of them.
    """
    batches = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def share_out(batches: list[list[int]], lengths: list[int], num_shares: int) -> list[list[list[int]]]:
    """
    Batches of [`token_batches`] in as many shares as there are processes, nearly equal in tokens with padding: the
    largest batch goes to whoever has least so far.
    """
    shares, loads = [[] for _ in range(num_shares)], [(0, share) for share in range(num_shares)]
    for cost, batch in sorted(((len(batch) * lengths[batch[0]], batch) for batch in batches), reverse=True):
        load, share = loads[0]
        shares[share].append(batch)
        heapq.heapreplace(loads, (load + cost, share))
    return shares


def pad_left(rows: list[dict], pad_token_id: int) -> dict[str, torch.Tensor]:
    """
    Pad rows on the left, so that all answers stand in the last columns.

    Args:
        rows (`list[dict]`): Rows with `input_ids`, with or without `labels`.
        pad_token_id (`int`): What fills the beginning of the shorter ones.

    Returns:
        `dict[str, torch.Tensor]`: `input_ids`, `attention_mask`, `position_ids` (counted from each row's own first
        token) and, where given, `labels`, each of shape `(rows, longest)`.
    """
    longest = max(len(row["input_ids"]) for row in rows)

    def pad(sequences: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[filler] * (longest - len(sequence)) + sequence for sequence in sequences])

    mask = pad([[1] * len(row["input_ids"]) for row in rows], 0)
    batch = {
        "input_ids": pad([row["input_ids"] for row in rows], pad_token_id),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
    }
    if "labels" in rows[0]:
        batch["labels"] = pad([row["labels"] for row in rows], IGNORED)
    return batch


def lay_end_to_end(rows: list[dict]) -> dict[str, torch.Tensor]:
    """
    Rows as one sequence without padding. That they are several shows where `position_ids` begin anew: flash attention
    keeps them apart at no cost, other kinds by a mask over the whole sequence.

    Args:
        rows (`list[dict]`): Rows with `input_ids` and `labels`.

    Returns:
        `dict[str, torch.Tensor]`: `input_ids`, `position_ids` and `labels`, each of shape `(1, tokens)`.
    """
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row["input_ids"]]]),
        "position_ids": torch.tensor([[position for row in rows for position in range(len(row["input_ids"]))]]),
        "labels": torch.tensor([[label for row in rows for label in row["labels"]]]),
    }
