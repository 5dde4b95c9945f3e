"""Battles -> train and validation, without a prompt on both sides."""

from collections import Counter, defaultdict
from hashlib import sha256


def validation_groups(groups: list[str], winners: list[str], share: float, seed: int = 42) -> set[str]:
    """
    Choose whole groups for validation, so that each winner's share of the battles is the same on both sides.

    Groups are visited in the order of a hash of their text, and taken, or given back, where that brings the numbers
    of wins of A, of B and of ties nearer to their targets, until no group does. So the choice depends on the set of
    battles and the seed only, never on the order of rows.

    Args:
        groups (`list[str]`): One group a battle.
        winners (`list[str]`): One winner a battle.
        share (`float`): The share of battles wanted in validation, above 0 and below 1.
        seed (`int`): Another seed, another choice.

    Returns:
        `set[str]`: The groups that are in validation.

    Raises:
        ValueError: If one side would be empty.
    """
    wins_of_group = defaultdict(Counter)
    for group, winner in zip(groups, winners, strict=True):
        wins_of_group[group][winner] += 1
    missing = {winner: share * count for winner, count in Counter(winners).items()}
    chosen, changed = set(), True
    order = sorted(wins_of_group, key=lambda group: sha256(f"{seed} {group}".encode()).digest())
    while changed:
        changed = False
        for group in order:
            wins, sign = wins_of_group[group], -1 if group in chosen else 1
            if sum(missing[w] ** 2 - (missing[w] - sign * n) ** 2 for w, n in wins.items()) > 1e-9:
                chosen ^= {group}
                changed = True
                for winner, count in wins.items():
                    missing[winner] -= sign * count
    if not 0 < len(chosen) < len(wins_of_group):
        raise ValueError(
            f"cannot split {len(groups)} battles with {len(wins_of_group)} different first prompts into two sides "
            f"with validation_share={share}: battles with the same first prompt stay together. Add battles with other "
            "prompts, or change the share"
        )
    return chosen
