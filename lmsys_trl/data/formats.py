"""Rows of a file -> battles. A format says which columns hold the texts and the vote, and how they are read."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b

from ..battle import replace_surrogates, swap_battle, vote_for, winner_of
from .columns import (
    BLANK,
    TURN_COLUMNS,
    WINNER_COLUMNS,
    RowError,
    chosen_and_rejected,
    conversations,
    json_turns,
    lenient_turns,
    plain_turns,
    vote_fractions,
    vote_if_any,
    winner_columns,
    winner_name,
)


class BlankVote(RowError):
    """A row with a blank vote."""


@dataclass(frozen=True)
class Format:
    """
    A format of votes.

    Args:
        columns (`tuple[str]`): The columns that a file must have, besides those of the vote.
        vote_columns (`tuple[str]`): The columns of the vote.
        turns (`Callable`): Row -> the turns of the prompt, of answer A and of answer B.
        vote (`Callable`): Row -> the fractions of A, B and tie.
        id (`str`): The column of the id. Where a file has none, ids are hashes of the texts.
        sides_by_id (`bool`): The winner is always in the same column, so a hash of the id decides whether it becomes
            A or B.
    """

    columns: tuple[str, ...]
    vote_columns: tuple[str, ...]
    turns: Callable[[dict, Counter], tuple[list, list, list]]
    vote: Callable[[dict, Counter], list[float] | None]
    id: str = "id"
    sides_by_id: bool = False


def digest(text: str) -> int:
    """A 64-bit hash of a text. Among a million different texts, two collide with a probability of 3 in 100 million."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def to_battle(row: dict, fmt: Format, source: str, changes: Counter, blank_winner: str | None = None) -> dict:
    """
    Convert a row of a file to a battle.

    Args:
        row (`dict`): The row.
        fmt (`Format`): The format of the file.
        source (`str`): The name of the source.
        changes (`Counter`): Counts what had to be changed.
        blank_winner (`str`, *optional*): "tie" to read a blank vote as a tie.

    Returns:
        `dict`: A row of [`BATTLE_FEATURES`]. Without an id in the row, the id is a hash of the texts.

    Raises:
        RowError: If the row is not a battle.
    """
    try:
        return _to_battle(row, fmt, source, changes, blank_winner)
    except KeyError as error:
        raise RowError(f"column {error.args[0]}: missing") from error


def _to_battle(row: dict, fmt: Format, source: str, changes: Counter, blank_winner: str | None) -> dict:
    battle_id = row.get(fmt.id)
    if battle_id is not None:
        battle_id = str(battle_id)
        if not battle_id.strip() or replace_surrogates(battle_id)[1]:
            raise RowError(f"column {fmt.id}: empty, or not valid UTF-8")
    battle: dict = {"id": battle_id, "source": source}
    for column in ("model_a", "model_b", "language"):
        battle[column] = _clean(str(row[column]), changes) if row.get(column) not in BLANK else None
    for column, turns in zip(TURN_COLUMNS, fmt.turns(row, changes), strict=True):
        battle[column] = [turn if turn is None else _clean_turn(turn, changes) for turn in turns]
    num_turns = max(len(battle[column]) for column in TURN_COLUMNS)
    for column in TURN_COLUMNS:
        if len(battle[column]) != num_turns:
            details = f": {len(battle[column])} turns where another column has {num_turns}"
            raise RowError(f"column {column}: turns are missing", details)
    if fmt.vote_columns and all(row.get(column) in BLANK for column in fmt.vote_columns):
        if blank_winner != "tie":
            raise BlankVote(f"column {', '.join(fmt.vote_columns)}: no vote")
        changes["blank votes, read as tie"] += 1
        vote = vote_for("tie")
    else:
        vote = fmt.vote(row, changes)
    battle["vote"] = vote
    same_answers = battle["response_a"] == battle["response_b"]
    for oddity, applies in (
        ("the first prompt is empty", not battle["prompt"][0]),
        ("both answers are missing", not any(battle["response_a"]) and not any(battle["response_b"])),
        ("both answers are the same, and yet one won", same_answers and winner_of(vote) not in ("tie", None)),
    ):
        if applies:
            changes[f"{oddity}: kept as it is"] += 1
    if battle_id is None:
        battle["id"] = f"{digest(_texts(battle)):016x}"
    if fmt.sides_by_id and digest(battle["id"]) % 2:
        battle = swap_battle(battle)
    return battle


FORMATS = {
    # The LMSYS competition, and lmsys/lmsys-arena-human-preference-55k on the Hub.
    "lmsys": Format(("id", *TURN_COLUMNS), WINNER_COLUMNS, json_turns, winner_columns),
    # The WSDM Cup competition.
    "wsdm": Format(("id", *TURN_COLUMNS), ("winner",), plain_turns, winner_name),
    # The data sets that this project makes.
    "lmsys_trl": Format(("id", *TURN_COLUMNS), ("vote",), plain_turns, vote_fractions),
    # lmsys/chatbot_arena_conversations on the Hub.
    "chatbot_arena": Format(
        ("question_id", "conversation_a", "conversation_b"), ("winner",), conversations, winner_name, id="question_id"
    ),
    # TRL's preference rows: `chosen` and `rejected`, with `prompt` or not.
    "preference": Format(
        ("chosen", "rejected"), (), chosen_and_rejected, lambda row, _: vote_for("model_a"), sides_by_id=True
    ),
}
# For prediction: votes may be missing. "lmsys" reads all formats with the same columns apart from the vote.
LENIENT_FORMATS = {
    "lmsys": Format(("id", *TURN_COLUMNS), (), lenient_turns, vote_if_any),
    "chatbot_arena": replace(FORMATS["chatbot_arena"], vote_columns=(), vote=vote_if_any),
    "preference": FORMATS["preference"],
}


def _clean_turn(turn, changes: Counter) -> str:
    if not isinstance(turn, str):
        changes["turns that are not text, read as their JSON text"] += 1
        turn = json.dumps(turn, ensure_ascii=False, default=str)
    return _clean(turn, changes)


def _clean(text: str, changes: Counter) -> str:
    text, num_replaced = replace_surrogates(text)
    if num_replaced:
        changes["lone surrogates, replaced by U+FFFD"] += num_replaced
    return text


def _texts(battle: dict) -> str:
    return "\x1e".join("\x1f".join(turn or "" for turn in battle[column]) for column in TURN_COLUMNS)
