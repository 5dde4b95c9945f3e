"""Cells of a row -> the turns and the vote of a battle, for each way in which files write them."""

import json
import math
from collections import Counter
from contextlib import suppress
from os.path import commonprefix

from ..battle import WINNERS, vote_for

TURN_COLUMNS = ("prompt", "response_a", "response_b")
WINNER_COLUMNS = tuple(f"winner_{winner}" for winner in WINNERS)
WINNER_NAMES = {"tie (bothbad)": "tie"} | {winner: winner for winner in WINNERS}
BLANK = (None, "")


class RowError(ValueError):
    """
    What is wrong with a row.

    Args:
        reason (`str`): The same for all rows with this problem, so that they can be counted.
        details (`str`): What this row has instead.
    """

    def __init__(self, reason: str, details: str = ""):
        super().__init__(reason + details)
        self.reason = reason


def json_turns(row: dict, changes: Counter) -> tuple:
    """JSON lists with one text per turn. `null` is a missing turn."""
    return tuple(_json_list(row[column], column, changes) for column in TURN_COLUMNS)


def plain_turns(row: dict, changes: Counter) -> tuple:
    """One text, or a list of texts."""
    cells = ((column, row[column]) for column in TURN_COLUMNS)
    return tuple(
        _json_list(cell, column, changes) if isinstance(cell, list) else [None if cell in BLANK else cell]
        for column, cell in cells
    )


def lenient_turns(row: dict, changes: Counter) -> tuple:
    """For prediction, where every id must get an answer: any content, padded to the same number of turns."""
    columns = []
    for column in TURN_COLUMNS:
        try:
            columns.append(list(_json_list(row[column], column, changes)))
        except RowError:
            changes["cells that are not a JSON list, read as one turn"] += 1
            columns.append([row[column]])
    for turns in columns:
        num_missing = max(map(len, columns)) - len(turns)
        if num_missing:
            changes["missing turns, filled with empty text"] += num_missing
            turns += [""] * num_missing
    return tuple(columns)


def conversations(row: dict, changes: Counter) -> tuple:
    """Two lists of messages with `role` and `content`. The user's messages are the same in both."""
    prompt, response_a = _split_roles(row["conversation_a"], "conversation_a", changes)
    prompt_b, response_b = _split_roles(row["conversation_b"], "conversation_b", changes)
    if prompt != prompt_b:
        raise RowError("columns conversation_a and conversation_b: the user says different things in them")
    return prompt, response_a, response_b


def chosen_and_rejected(row: dict, changes: Counter) -> tuple:
    """Preference rows of TRL, with a prompt column or with the prompt as a common prefix. The chosen answer is A."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if chosen in (*BLANK, []) or rejected in (*BLANK, []) or chosen == rejected:
        raise RowError("columns chosen and rejected: one is empty, or they are the same")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            prompt = commonprefix([chosen, rejected])
            prompt = prompt[: len(prompt) - len(prompt.split()[-1])] if prompt and not prompt[-1].isspace() else prompt
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        return [prompt], [chosen], [rejected]
    prefix = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt or []
    # `chosen` may repeat the prompt column, as in UltraFeedback.
    both = (side if side[: len(prefix)] == prefix else [*prefix, *side] for side in (chosen, rejected))
    return conversations(dict(zip(("conversation_a", "conversation_b"), both, strict=True)), changes)


def winner_columns(row: dict, changes: Counter) -> list[float]:
    """Three columns: one 1 and two 0, or three fractions that sum to 1."""
    cells = [row[column] for column in WINNER_COLUMNS]
    vote = _to_fractions(cells)
    if vote is None:
        raise RowError(
            f"columns {', '.join(WINNER_COLUMNS)}: expected one 1 and two 0, or fractions that sum to 1",
            f", found {', '.join(_shorten(cell, 20) for cell in cells)}",
        )
    return vote


def winner_name(row: dict, changes: Counter) -> list[float] | None:
    """`model_a`, `model_b`, `tie` or `tie (bothbad)`."""
    winner = WINNER_NAMES.get(row["winner"]) if isinstance(row["winner"], str) else None
    if winner is None:
        expected = ", ".join(WINNER_NAMES)
        raise RowError(f"column winner: expected one of {expected}", f", found {_shorten(row['winner'], 20)}")
    if winner != row["winner"]:
        changes[f"votes for {row['winner']}, read as {winner}"] += 1
    return vote_for(winner)


def vote_fractions(row: dict, changes: Counter) -> list[float]:
    """A list of three fractions that sum to 1, or its JSON text."""
    cell = row["vote"]
    if isinstance(cell, str):
        with suppress(ValueError, RecursionError):
            cell = json.loads(cell)
    vote = _to_fractions(cell) if isinstance(cell, list) and len(cell) == len(WINNERS) else None
    if vote is None:
        raise RowError(
            "column vote: expected the fractions of A, B and tie, which sum to 1", f", found {_shorten(cell, 40)}"
        )
    return vote


def vote_if_any(row: dict, changes: Counter) -> list[float] | None:
    """For prediction: the vote in any format, or None."""
    for read_vote in (winner_columns, winner_name, vote_fractions):
        with suppress(KeyError, RowError):
            return read_vote(row, Counter())
    return None


def _to_fractions(cells: list) -> list[float] | None:
    """Three numbers that sum to 1, or None if the cells are anything else."""
    try:
        fractions = [float(cell) for cell in cells]
    except (TypeError, ValueError):
        return None
    total = sum(fractions)
    if not all(0 <= fraction <= 1 for fraction in fractions) or abs(total - 1) > 1e-3:
        return None
    # What is normalized already stays the same, bit for bit.
    return fractions if math.isclose(total, 1, rel_tol=1e-12) else [fraction / total for fraction in fractions]


def _json_list(cell, column: str, changes: Counter) -> list:
    turns = cell
    if isinstance(cell, str):
        try:
            turns = json.loads(cell)
        except (ValueError, RecursionError):
            turns = None
    if not isinstance(turns, list):
        raise RowError(
            f"column {column}: expected a JSON list with one text per turn", f", found {_shorten(cell, 40)}"
        )
    if not turns:
        changes["empty lists, read as one missing turn"] += 1
        return [None]
    return turns


def _split_roles(messages, column: str, changes: Counter) -> tuple[list, list]:
    """The user's messages and the assistant's, which alternate. System messages are joined to the first prompt."""
    messages = _json_list(messages, column, Counter())
    if not all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages):
        raise RowError(f"column {column}: expected a list of messages with role and content")
    system: list = []
    while messages and messages[0]["role"] == "system":
        system, messages = [*system, messages[0]["content"]], messages[1:]
    roles = [message["role"] for message in messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        details = f", found {_shorten(' '.join(map(str, roles)), 40)}"
        raise RowError(f"column {column}: expected user and assistant in turn", details)
    turns = [message["content"] for message in messages]
    if any(system):
        changes["system messages, put before the first prompt"] += 1
        turns[0] = "\n\n".join(str(text) for text in (*system, turns[0]) if text)
    return turns[::2], turns[1::2]


def _shorten(value, length: int) -> str:
    text = ascii(value)
    return text if len(text) <= length + 2 else text[:length] + "..."
