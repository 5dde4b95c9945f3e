"""
A battle: one conversation, two models' answers, and a vote.

A battle is a `dict` with `id`, `prompt`, `response_a` and `response_b` (lists with one text or None a turn), and
`vote`: the fractions of A, B and tie, which sum to 1, or None where nobody voted. It may have `source`, `language`,
`model_a`, `model_b`, `group` and `fold` too. `data/schema.py` has the types.
"""

import re
from collections.abc import Sequence
from hashlib import sha256

import numpy as np

WINNERS = ("model_a", "model_b", "tie")  # the order of every triple of probabilities in this project
_SWAPPED_KEYS = {"response_a": "response_b", "response_b": "response_a", "model_a": "model_b", "model_b": "model_a"}


def swap_probabilities(probabilities):
    """P(A) and P(B) exchanged, in an array of shape `(..., 3)`; a list of three gives a list."""
    if isinstance(probabilities, np.ndarray):
        return probabilities[..., [1, 0, 2]]
    a, b, tie = probabilities
    return [b, a, tie]


def swap_battle(battle: dict) -> dict:
    """
    The same battle with its answers swapped, models, vote and teachers' predictions with them.

    Args:
        battle (`dict`): A battle, or any of its keys.

    Returns:
        `dict`: A new battle under the same id. Swapping twice gives the battle back.
    """
    swapped = {_SWAPPED_KEYS.get(key, key): value for key, value in battle.items()}
    if battle.get("vote"):
        swapped["vote"] = swap_probabilities(battle["vote"])
    if battle.get("teachers"):
        swapped["teachers"] = [swap_probabilities(teacher) for teacher in battle["teachers"]]
    return swapped


def vote_for(winner: str | None) -> list[float] | None:
    """The vote for one of [`WINNERS`], or None for None."""
    return None if winner is None else [float(winner == name) for name in WINNERS]


def winner_of(vote: Sequence[float] | None) -> str | None:
    """The one of [`WINNERS`] with the largest fraction; None without a vote or where several are equal."""
    if vote is None or len(vote) == 0:
        return None
    largest = [winner for winner, fraction in zip(WINNERS, vote, strict=True) if fraction == max(vote)]
    return largest[0] if len(largest) == 1 else None


def first_prompt(battle: dict) -> str:
    """
    The first user turn with white space normalised, without a system text before it, if the battle says what the user
    wrote. Battles in which it is equal belong together, so that a conversation and its continuation are never on
    different sides of a split.
    """
    text = battle.get("first_prompt") or (battle["prompt"][0] if battle["prompt"] else "")
    return " ".join((text or "").split())


def without_white_space(turns: list[str | None]) -> str:
    """Turns as one text in which differences in white space do not count, nor a missing turn and an empty one."""
    return "\x1e".join([" ".join(turn.split()) if turn else "" for turn in turns])


def prompt_group(battle: dict) -> str:
    """The group of a battle: the one that its data set gives it, or else a hash of its first prompt."""
    return battle.get("group") or sha256(first_prompt(battle).encode()).hexdigest()


def replace_surrogates(text: str) -> tuple[str, int]:
    """The text with each lone surrogate, which no tokenizer or file takes, as U+FFFD, and how many there were."""
    if text.isascii():
        return text, 0
    return re.subn("[\ud800-\udfff]", "\ufffd", text)
