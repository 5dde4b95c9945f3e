"""Groups of battles -> train, validation and folds. A group is never split."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from ..errors import UserError


def held_out_groups(groups: np.ndarray, votes: np.ndarray, fraction: float, seed: int | str = 42) -> np.ndarray:
    """
    Choose groups to hold out, so that the winners have the same proportions in both parts.

    Groups are visited in the order of a hash of their name. A group is held out, or returned, if that brings the
    numbers of wins of A, of B and of ties nearer to their targets, until no group does. So the choice depends only on
    the set of battles and the seed, and not on the order of rows.

    Args:
        groups (`ndarray`): The name of each battle's group, of shape `(battles,)`.
        votes (`ndarray`): The fractions of A, B and tie in each vote, of shape `(battles, 3)`; zeros without a vote.
        fraction (`float`): The fraction of battles to hold out, above 0 and below 1.
        seed (`int` or `str`): The choice depends on it.

    Returns:
        `ndarray`: Boolean mask of the battles that are held out, of shape `(battles,)`.

    Raises:
        UserError: If one part would be empty.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    wins = np.stack([np.bincount(inverse, weights=column, minlength=len(names)) for column in votes.T], axis=1)
    hashes = [sha256(f"{seed} {name}".encode()).digest() for name in names.tolist()]
    order = sorted(range(len(names)), key=hashes.__getitem__)
    visits = [(i, *wins[i].tolist()) for i in order]
    missing_a, missing_b, missing_tie = (fraction * wins.sum(axis=0)).tolist()
    chosen, changed = [False] * len(names), True
    while changed:
        changed = False
        for i, a, b, tie in visits:
            if chosen[i]:
                a, b, tie = -a, -b, -tie
            # How much nearer to the targets: the difference between the squared distances.
            if a * (2 * missing_a - a) + b * (2 * missing_b - b) + tie * (2 * missing_tie - tie) > 1e-9:
                chosen[i] = not chosen[i]
                missing_a, missing_b, missing_tie, changed = missing_a - a, missing_b - b, missing_tie - tie, True
    if not 0 < sum(chosen) < len(names):
        raise UserError(
            f"cannot hold out {fraction:.1%} of {len(groups)} battles in {len(names)} groups of similar first "
            "prompts, which stay together. Add battles with other prompts, or change the fraction"
        )
    return np.array(chosen)[inverse]


def assign_folds(groups: np.ndarray, votes: np.ndarray, num_folds: int, seed: int = 42) -> np.ndarray:
    """
    Number folds of equal size, in which the winners have the same proportions. No group is split.

    Args:
        groups, votes, seed: As for [`held_out_groups`].
        num_folds (`int`): The number of folds.

    Returns:
        `ndarray`: The fold of each battle, from 0, of shape `(battles,)`.
    """
    folds = np.full(len(groups), num_folds - 1)
    remaining = np.arange(len(groups))
    for fold in range(num_folds - 1):
        chosen = held_out_groups(groups[remaining], votes[remaining], 1 / (num_folds - fold), f"{seed}-{fold}")
        folds[remaining[chosen]] = fold
        remaining = remaining[~chosen]
    return folds


def sample_by_hash(ids: Sequence[str], size: int, purpose: str) -> np.ndarray:
    """
    Sample the ids with the smallest hashes. Which ones they are does not depend on the order of the ids.

    Args:
        ids (`Sequence[str]`): Ids.
        size (`int`): The size of the sample. If there are fewer ids, it holds all of them.
        purpose (`str`): What the sample is for, and the seed. The choice depends on it.

    Returns:
        `ndarray`: Positions in `ids`, in ascending order.
    """
    hashes = [sha256(f"{purpose} {battle_id}".encode()).digest() for battle_id in ids]
    return np.sort(np.array(sorted(range(len(ids)), key=hashes.__getitem__)[:size], dtype=np.int64))
