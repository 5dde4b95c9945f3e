"""Rows of a file -> battles. A format says which columns hold the texts and the vote, and how they are read."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from os.path import commonprefix

from .battle import WINNERS, replace_surrogates, swap_battle

TURN_COLUMNS = ("prompt", "response_a", "response_b")
WINNER_COLUMNS = tuple(f"winner_{winner}" for winner in WINNERS)
WINNER_NAMES = {"tie (bothbad)": "tie"} | {winner: winner for winner in WINNERS}
BLANK = (None, "")


class RowError(ValueError):
    """What is wrong with a row: the reason, by which rows are counted, and what was found in this one."""

    def __init__(self, reason: str, found: str = ""):
        super().__init__(reason + found)
        self.reason = reason


class BlankVote(RowError):
    """A row that leaves its vote blank."""


@dataclass(frozen=True)
class Format:
    """
    A format of votes.

    Args:
        columns (`tuple[str]`): What a file must have, besides the vote.
        vote_columns (`tuple[str]`): The columns of the vote.
        turns (`Callable`): Row -> the turns of the prompt, of answer A and of answer B.
        vote (`Callable`): Row -> a winner, or three shares.
        id (`str`): The column of the id. Without one, ids are made from the texts.
        sides_by_id (`bool`): The winner stands in a fixed place; a hash of the id decides whether it becomes A or B.
    """

    columns: tuple[str, ...]
    vote_columns: tuple[str, ...]
    turns: Callable[[dict, Counter], tuple[list, list, list]]
    vote: Callable[[dict, Counter], str | list[float]]
    id: str = "id"
    sides_by_id: bool = False


def digest(text: str) -> int:
    """64 bits of a text; among a million different texts two are the same with a chance of 3 in 100 million."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def to_battle(row: dict, form: Format, source: str, changes: Counter, blank_winner: str | None = None) -> dict:
    """
    Args:
        row (`dict`): A row of a file.
        form (`Format`): Its format.
        source (`str`): The name of the source.
        changes (`Counter`): Counts what had to be changed.
        blank_winner (`str`, *optional*): "tie" to read a blank vote as a tie.

    Returns:
        `dict`: A row of [`BATTLE_FEATURES`]. Where the file has no id, it is a hash of the texts.

    Raises:
        RowError: If no battle can be made of the row.
    """
    try:
        return _to_battle(row, form, source, changes, blank_winner)
    except KeyError as error:
        raise RowError(f"column {error.args[0]}: missing") from error


def _to_battle(row: dict, form: Format, source: str, changes: Counter, blank_winner: str | None) -> dict:
    battle_id = row.get(form.id)
    if battle_id is not None:
        battle_id = str(battle_id)
        if not battle_id.strip() or replace_surrogates(battle_id)[1]:
            raise RowError(f"column {form.id}: empty, or not valid UTF-8")
    battle = {"id": battle_id, "source": source}
    for column in ("model_a", "model_b", "language"):
        battle[column] = _clean(str(row[column]), changes) if row.get(column) not in BLANK else None
    for column, turns in zip(TURN_COLUMNS, form.turns(row, changes), strict=True):
        battle[column] = [turn if turn is None else _clean_turn(turn, changes) for turn in turns]
    num_turns = max(len(battle[column]) for column in TURN_COLUMNS)
    for column in TURN_COLUMNS:
        if len(battle[column]) != num_turns:
            found = f": {len(battle[column])} turns where another column has {num_turns}"
            raise RowError(f"column {column}: turns are missing", found)
    if form.vote_columns and all(row.get(column) in BLANK for column in form.vote_columns):
        if blank_winner != "tie":
            raise BlankVote(f"column {', '.join(form.vote_columns)}: no vote")
        changes["blank votes, read as tie"] += 1
        vote = "tie"
    else:
        vote = form.vote(row, changes)
    battle["winner"], battle["soft_label"] = (vote, None) if isinstance(vote, str) else (None, vote)
    for noticed, is_so in (
        ("the first prompt is empty", not battle["prompt"][0]),
        ("both answers are missing", not any(battle["response_a"]) and not any(battle["response_b"])),
        ("both answers are the same, and yet one won", vote != "tie" and battle["response_a"] == battle["response_b"]),
    ):
        if is_so:
            changes[f"{noticed}: left as it is"] += 1
    if battle_id is None:
        battle["id"] = f"{digest(_texts(battle)):016x}"
    if form.sides_by_id and digest(battle["id"]) % 2:
        battle = swap_battle(battle)
    return battle


def json_turns(row: dict, changes: Counter) -> tuple:
    """JSON lists with one text a turn; `null` is a missing turn."""
    return tuple(_json_list(row[column], column, changes) for column in TURN_COLUMNS)


def plain_turns(row: dict, changes: Counter) -> tuple:
    """One text, or a list of texts."""
    turns = (row[column] for column in TURN_COLUMNS)
    return tuple(turn if isinstance(turn, list) else [None if turn in BLANK else turn] for turn in turns)


def patient_turns(row: dict, changes: Counter) -> tuple:
    """For prediction, where every id must get an answer: whatever stands there, with as many turns on all sides."""
    columns = []
    for column in TURN_COLUMNS:
        try:
            columns.append(list(_json_list(row[column], column, changes)))
        except RowError:
            changes["cells that are no JSON list, taken as one turn"] += 1
            columns.append([row[column]])
    for turns in columns:
        num_missing = max(map(len, columns)) - len(turns)
        if num_missing:
            changes["missing turns, filled with empty text"] += num_missing
            turns += [""] * num_missing
    return tuple(columns)


def conversations(row: dict, changes: Counter) -> tuple:
    """Two lists of messages with `role` and `content`, in which the user says the same."""
    prompt, response_a = _rounds(row["conversation_a"], "conversation_a", changes)
    other, response_b = _rounds(row["conversation_b"], "conversation_b", changes)
    if prompt != other:
        raise RowError("columns conversation_a and conversation_b: the user says different things in them")
    return prompt, response_a, response_b


def chosen_and_rejected(row: dict, changes: Counter) -> tuple:
    """Preference rows of TRL, the prompt apart or as the common beginning of both sides: the chosen answer as A."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if chosen in (*BLANK, []) or rejected in (*BLANK, []) or chosen == rejected:
        raise RowError("columns chosen and rejected: one is empty, or they are the same")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            prompt = commonprefix([chosen, rejected])
            prompt = prompt[: len(prompt) - len(prompt.split()[-1])] if prompt and not prompt[-1].isspace() else prompt
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        return [prompt], [chosen], [rejected]
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt or []
    # A `chosen` may repeat a prompt that is given apart, as in UltraFeedback.
    both = (side if side[: len(before)] == before else [*before, *side] for side in (chosen, rejected))
    return conversations(dict(zip(("conversation_a", "conversation_b"), both, strict=True)), changes)


def winner_columns(row: dict, changes: Counter) -> str | list[float]:
    """One 1 and two 0, or three shares that sum to 1."""
    cells = [row[column] for column in WINNER_COLUMNS]
    try:
        votes = [float(cell) for cell in cells]
    except (TypeError, ValueError):
        votes = []
    if sorted(votes) == [0, 0, 1]:
        return WINNERS[votes.index(1)]
    if not votes or not all(0 <= vote <= 1 for vote in votes) or abs(sum(votes) - 1) > 1e-3:
        found = ", ".join(_shown(cell, 20) for cell in cells)
        raise RowError(
            f"columns {', '.join(WINNER_COLUMNS)}: expected one 1 and two 0, or shares that sum to 1",
            f", found {found}",
        )
    return [vote / sum(votes) for vote in votes]


def winner_name(row: dict, changes: Counter) -> str:
    """`model_a`, `model_b`, `tie` or `tie (bothbad)`."""
    winner = WINNER_NAMES.get(row["winner"]) if isinstance(row["winner"], str) else None
    if winner is None:
        expected = ", ".join(WINNER_NAMES)
        raise RowError(f"column winner: expected one of {expected}", f", found {_shown(row['winner'], 20)}")
    if winner != row["winner"]:
        changes[f"votes for {row['winner']}, read as {winner}"] += 1
    return winner


def vote_if_any(row: dict, changes: Counter) -> str | list[float] | None:
    """For prediction: the vote is passed on where there is one."""
    for vote in (winner_columns, winner_name):
        with suppress(KeyError, RowError):
            return vote(row, Counter())
    return None


FORMATS = {
    # The LMSYS competition, and lmsys/lmsys-arena-human-preference-55k on the Hub.
    "lmsys": Format(("id", *TURN_COLUMNS), WINNER_COLUMNS, json_turns, winner_columns),
    # The WSDM Cup competition, and data sets of this project.
    "wsdm": Format(("id", *TURN_COLUMNS), ("winner",), plain_turns, winner_name),
    # lmsys/chatbot_arena_conversations on the Hub.
    "chatbot_arena": Format(
        ("question_id", "conversation_a", "conversation_b"), ("winner",), conversations, winner_name, id="question_id"
    ),
    # TRL's preference rows: `chosen` and `rejected`, with `prompt` or not.
    "preference": Format(("chosen", "rejected"), (), chosen_and_rejected, lambda row, _: "model_a", sides_by_id=True),
}
# For prediction: votes may be missing.
FORMATS_TO_PREDICT = {
    "lmsys": Format(("id", *TURN_COLUMNS), (), patient_turns, vote_if_any),
    "chatbot_arena": replace(FORMATS["chatbot_arena"], vote_columns=(), vote=vote_if_any),
    "preference": FORMATS["preference"],
}


def _json_list(cell, column: str, changes: Counter) -> list:
    turns = cell
    if isinstance(cell, str):
        try:
            turns = json.loads(cell)
        except (ValueError, RecursionError):
            turns = None
    if not isinstance(turns, list):
        raise RowError(f"column {column}: expected a JSON list with one text a turn", f", found {_shown(cell, 40)}")
    if not turns:
        changes["empty lists, read as one missing turn"] += 1
        return [None]
    return turns


def _rounds(messages, column: str, changes: Counter) -> tuple[list, list]:
    """The user's turns and the assistant's, in turn; what the system says goes before the first."""
    messages = _json_list(messages, column, Counter())
    if not all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages):
        raise RowError(f"column {column}: expected a list of messages with role and content")
    system = []
    while messages and messages[0]["role"] == "system":
        system, messages = [*system, messages[0]["content"]], messages[1:]
    roles = [message["role"] for message in messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        found = _shown(" ".join(map(str, roles)), 40)
        raise RowError(f"column {column}: expected user and assistant in turn", f", found {found}")
    turns = [message["content"] for message in messages]
    if any(system):
        changes["system messages, put before the first prompt"] += 1
        turns[0] = "\n\n".join(str(text) for text in (*system, turns[0]) if text)
    return turns[::2], turns[1::2]


def _clean_turn(turn, changes: Counter) -> str:
    if not isinstance(turn, str):
        changes["turns that are not text, kept as their JSON text"] += 1
        turn = json.dumps(turn, ensure_ascii=False, default=str)
    return _clean(turn, changes)


def _clean(text: str, changes: Counter) -> str:
    text, num_replaced = replace_surrogates(text)
    if num_replaced:
        changes["lone surrogates, replaced by U+FFFD"] += num_replaced
    return text


def _texts(battle: dict) -> str:
    return "\x1e".join("\x1f".join(turn or "" for turn in battle[column]) for column in TURN_COLUMNS)


def _shown(value, length: int) -> str:
    text = ascii(value)
    return text if len(text) <= length + 2 else text[:length] + "..."
