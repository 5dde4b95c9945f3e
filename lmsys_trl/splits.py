"""Groups of battles -> train, validation and folds. A group is never on both sides."""

from hashlib import sha256

import numpy as np


def held_out_groups(groups: np.ndarray, votes: np.ndarray, share: float, seed: int | str = 42) -> np.ndarray:
    """
    Choose whole groups to hold out, so that each winner's share of the battles is the same on both sides.

    Groups are visited in the order of a hash of their name, and taken, or given back, where that brings the numbers
    of wins of A, of B and of ties nearer to their targets, until no group does. So the choice depends on the set of
    battles and the seed only, never on the order of rows.

    Args:
        groups (`ndarray`): The name of each battle's group.
        votes (`ndarray`): Shares of A, B and tie for each battle, of shape `(battles, 3)`; zeros without a vote.
        share (`float`): The share of battles to hold out, above 0 and below 1.
        seed (`int` or `str`): Another seed, another choice.

    Returns:
        `ndarray`: True for the battles that are held out.

    Raises:
        ValueError: If one side would be empty.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    wins = np.stack([np.bincount(inverse, weights=column, minlength=len(names)) for column in votes.T], axis=1)
    hashes = [sha256(f"{seed} {name}".encode()).digest() for name in names.tolist()]
    order = sorted(range(len(names)), key=hashes.__getitem__)
    visits = [(i, *wins[i].tolist()) for i in order]
    missing_a, missing_b, missing_tie = (share * wins.sum(axis=0)).tolist()
    chosen, changed = [False] * len(names), True
    while changed:
        changed = False
        for i, a, b, tie in visits:
            if chosen[i]:
                a, b, tie = -a, -b, -tie
            # How much nearer to the targets: the difference of the squared distances.
            if a * (2 * missing_a - a) + b * (2 * missing_b - b) + tie * (2 * missing_tie - tie) > 1e-9:
                chosen[i] = not chosen[i]
                missing_a, missing_b, missing_tie, changed = missing_a - a, missing_b - b, missing_tie - tie, True
    if not 0 < sum(chosen) < len(names):
        raise ValueError(
            f"cannot hold out {share:.1%} of {len(groups)} battles in {len(names)} groups of similar first prompts, "
            "which stay together. Add battles with other prompts, or change the share"
        )
    return np.array(chosen)[inverse]


def assign_folds(groups: np.ndarray, votes: np.ndarray, num_folds: int, seed: int = 42) -> np.ndarray:
    """
    Folds of equal size with each winner's share the same in all, whole groups in each.

    Args:
        groups, votes, seed: As for [`held_out_groups`].
        num_folds (`int`): How many.

    Returns:
        `ndarray`: The fold of each battle, from 0.
    """
    folds = np.full(len(groups), num_folds - 1)
    rest = np.arange(len(groups))
    for fold in range(num_folds - 1):
        taken = held_out_groups(groups[rest], votes[rest], 1 / (num_folds - fold), f"{seed}-{fold}")
        folds[rest[taken]] = fold
        rest = rest[~taken]
    return folds


def sample_by_hash(ids: list[str], size: int, purpose: str) -> np.ndarray:
    """
    Args:
        ids (`list[str]`): Ids.
        size (`int`): How many are wanted; all if there are fewer.
        purpose (`str`): What for, and the seed: another purpose, another choice.

    Returns:
        `ndarray`: Positions of those whose hash is smallest, in ascending order, whatever the order of the ids.
    """
    hashes = [sha256(f"{purpose} {battle_id}".encode()).digest() for battle_id in ids]
    return np.sort(np.array(sorted(range(len(ids)), key=hashes.__getitem__)[:size], dtype=np.int64))
