"""Examples of different lengths -> batches, distributed over processes."""

import heapq

import torch

from .examples import IGNORED

# Tokens in a batch by default. A CPU gains little from several examples at once, and pays for their padding.
CPU_TOKENS, GPU_TOKENS = 512, 4096


def token_batches(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """
    Group examples of similar length, longest first, into batches of at most `max_tokens` tokens with padding.

    Args:
        lengths (`list[int]`): Tokens in each example.
        max_tokens (`int`): An example that is longer is a batch of its own.

    Returns:
        `list[list[int]]`: Batches of indices into `lengths`; each index is in exactly one.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def distribute(batches: list[list[int]], lengths: list[int], num_processes: int) -> list[list[list[int]]]:
    """
    Distribute batches over processes, nearly equal in tokens with padding: the largest batch that is left goes to the
    process with the fewest tokens so far.

    Args:
        batches (`list[list[int]]`), lengths (`list[int]`): As from and for [`token_batches`].
        num_processes (`int`): The number of processes.

    Returns:
        `list[list[list[int]]]`: The batches of each process.
    """
    distributed: list[list[list[int]]] = [[] for _ in range(num_processes)]
    loads = [(0, process) for process in range(num_processes)]
    for cost, batch in sorted(((len(batch) * lengths[batch[0]], batch) for batch in batches), reverse=True):
        load, process = loads[0]
        distributed[process].append(batch)
        heapq.heapreplace(loads, (load + cost, process))
    return distributed


def pad_left(examples: list[dict], pad_token_id: int) -> dict[str, torch.Tensor]:
    """
    Pad examples on the left, so that all answers are in the last columns.

    Args:
        examples (`list[dict]`): Examples with `input_ids`, with or without `labels`.
        pad_token_id (`int`): The id of the padding token.

    Returns:
        `dict[str, torch.Tensor]`: `input_ids`, `attention_mask`, `position_ids` (counted from each example's own first
        token) and, if given, `labels`, each of shape `(examples, longest)`.
    """
    longest = max(len(example["input_ids"]) for example in examples)

    def pad(sequences: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[filler] * (longest - len(sequence)) + sequence for sequence in sequences])

    mask = pad([[1] * len(example["input_ids"]) for example in examples], 0)
    batch = {
        "input_ids": pad([example["input_ids"] for example in examples], pad_token_id),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
    }
    if "labels" in examples[0]:
        batch["labels"] = pad([example["labels"] for example in examples], IGNORED)
    return batch


def pack_padding_free(examples: list[dict]) -> dict[str, torch.Tensor]:
    """
    Pack examples into one sequence without padding. Where `position_ids` restart from 0 an example begins: flash
    and flex attention keep examples apart at no cost, others by a mask over the complete sequence.

    Args:
        examples (`list[dict]`): Examples with `input_ids` and `labels`.

    Returns:
        `dict[str, torch.Tensor]`: `input_ids`, `position_ids` and `labels`, each of shape `(1, tokens)`.
    """
    return {
        "input_ids": torch.tensor([[token for example in examples for token in example["input_ids"]]]),
        "position_ids": torch.tensor([[i for example in examples for i in range(len(example["input_ids"]))]]),
        "labels": torch.tensor([[label for example in examples for label in example["labels"]]]),
    }
