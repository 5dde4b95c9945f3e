"""A row of a file, read in its format -> battles."""

import json
from hashlib import blake2b
from typing import Any, NamedTuple

from ..battle import replace_surrogates, swap_battle, vote_for, winner_of
from .columns import TURN_COLUMNS, BlankVote, Reading, RowError, cell_at, cell_if_any, cells_at, each_cell_at, is_blank
from .formats import Format, as_tuple
from .messages import Turns, read_transcript, split_roles
from .source import LABELS, Paths
from .texts import clean, read_messages, read_turns
from .votes import read_fractions, read_winner

BLANK_TIE = "blank votes, read as tie"


class Ballot(NamedTuple):
    """One of the votes of a row."""

    cell: Any
    path: str
    annotator: Any
    suffix: str  # of the battle's id


def digest(text: str) -> int:
    """A 64-bit hash of a text. Among a million different texts, two collide with a probability of 3 in 100 million."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def ballots(row: dict, fmt: Format, lenient: bool) -> list[Ballot]:
    """
    The votes of a row. Several become a battle each; blank ones among them are left out. For prediction (`lenient`) a
    row without a vote has a blank one.

    Raises:
        KeyError: If the row lacks the column.
    """
    where = fmt.paths.get("vote")
    annotator = _optional(row, fmt.paths.get("annotator"))
    if isinstance(where, str):
        if where.split(".")[0] not in row and where not in row and lenient:
            return [Ballot(None, where, annotator, "")]
        found = cells_at(row, where)
        if "*" not in where or where in row:
            return [Ballot(found[0], where, annotator, "")]
        several = [Ballot(cell, where, annotator, f"-{number}") for number, cell in enumerate(found, start=1)]
    elif where is not None:
        several = [Ballot(_optional(row, path), path, path, f"-{path}") for path in where]
    else:
        cells = [_optional(row, path) for path in fmt.fractions] if lenient else each_cell_at(row, fmt.fractions)
        return [Ballot(cells, "", annotator, "")]
    given = [ballot for ballot in several if not is_blank(ballot.cell)]
    return given or [Ballot(None, str(where), annotator, "")]


def to_battle(
    row: dict,
    row_id: str | None,
    ballot: Ballot,
    fmt: Format,
    source: str,
    reading: Reading,
    blank_winner: str | None = None,
) -> dict:
    """
    Convert a row of a file to a battle.

    Args:
        row (`dict`), row_id (`str`, *optional*): The row, and its id as from [`read_id`].
        ballot (`Ballot`): One of its votes.
        fmt (`Format`): The format of the file.
        source (`str`): The name of the source.
        reading (`Reading`): How cells are read. Counts what had to be changed.
        blank_winner (`str`, *optional*): "tie" to read a blank vote as a tie.

    Returns:
        `dict`: A row of [`BATTLE_SCHEMA`]. It may have `annotator`, `given_group`, and `first_prompt`: what the user
        wrote first, where a system text stands before it. Without an id in the row, the id is a hash of the texts.

    Raises:
        RowError: If the row is not a battle.
    """
    battle: dict = {"id": None if row_id is None else row_id + ballot.suffix, "source": source}
    for name, path in fmt.labels:
        battle[name] = _name(row[path] if path in row else _optional(row, path), reading)
    if ballot.annotator is not None and (annotator := _name(ballot.annotator, reading)):
        battle["annotator"] = annotator
    if "group" in fmt.paths and not is_blank(group := _optional(row, fmt.paths["group"])):
        battle["given_group"] = _label(group)
    turns = _read_texts(row, fmt, reading)
    for column, texts in zip(TURN_COLUMNS, turns, strict=False):
        battle[column] = [text if text is None or text.isascii() else clean(text, reading) for text in texts]
    own_system = _joined(row, fmt.paths["system"], reading) if "system" in fmt.paths else None
    if own_system or turns.system:
        system = "\n\n".join(filter(None, [own_system, turns.system]))
        reading.changes["system messages, put before the first prompt"] += 1
        battle["first_prompt"] = battle["prompt"][0]
        battle["prompt"][0] = "\n\n".join(filter(None, [clean(system, reading), battle["prompt"][0]]))
    if not len(turns.prompt) == len(turns.response_a) == len(turns.response_b):
        num_turns = max(map(len, turns[:3]))
        column = next(column for column in TURN_COLUMNS if len(battle[column]) < num_turns)
        details = f": {len(battle[column])} turns where another column has {num_turns}"
        raise RowError(f"column {column}: turns are missing", details)
    battle["vote"] = _read_vote(ballot, row, fmt, reading, blank_winner)
    _note_oddities(battle, reading)
    if row_id is None:
        battle["id"] = f"{digest(_texts(battle)):016x}"
    # The chosen answer is always in the same column, so a hash of the id decides whether it becomes A or B.
    return swap_battle(battle) if "chosen" in fmt.paths and digest(battle["id"]) % 2 else battle


def read_id(row: dict, fmt: Format) -> str | None:
    """
    The id of a row as text, or None if it has none.

    Raises:
        RowError: If it is blank, or a number that has lost digits.
    """
    where = fmt.paths.get("id", ())
    if isinstance(where, str) and isinstance(known := row.get(where), str) and known.isascii() and known.strip():
        return known  # nearly all
    cells = [_optional(row, path) for path in as_tuple(where)]
    if not cells or any(cell is None or cell != cell for cell in cells):  # null or NaN
        return None
    name = ", ".join(as_tuple(where))
    # Ids go everywhere, and names of people must not.
    texts = [
        f"{digest(_label(cell)):016x}"[:8] if path == fmt.paths.get("annotator") else _label(cell)
        for path, cell in zip(as_tuple(where), cells, strict=True)
    ]
    if any(isinstance(cell, float) and abs(cell) >= 2**53 for cell in cells):
        raise RowError(f"column {name}: a number that has lost its last digits. Write ids as text")
    if not all(text.strip() for text in texts) or any(replace_surrogates(text)[1] for text in texts):
        raise RowError(f"column {name}: empty, or not valid UTF-8")
    return "-".join(texts)


def kept_text(row: dict, path: str) -> str | None:
    """A cell that is carried along, as text."""
    cell = _optional(row, path)
    return None if is_blank(cell) else replace_surrogates(_label(cell))[0]


def _read_texts(row: dict, fmt: Format, reading: Reading) -> Turns:
    if "conversation_a" in fmt.paths:
        names = [str(fmt.paths[name]) for name in ("conversation_a", "conversation_b")]
        side_a, side_b = (read_messages(cell_at(row, name), name, reading) for name in names)
        turns = split_roles(side_a, side_b, names)
        if "num_turns" not in fmt.paths:
            return turns
        shown = int(cell_at(row, str(fmt.paths["num_turns"])))
        return Turns(turns.prompt[:shown], turns.response_a[:shown], turns.response_b[:shown], turns.system)
    if "chosen" in fmt.paths:
        return _read_preference(row, fmt, reading)
    if isinstance(prompt := fmt.paths["prompt"], str):
        return read_turns(each_cell_at(row, fmt.texts), fmt.texts, reading)
    return read_turns([_joined(row, prompt, reading), *each_cell_at(row, fmt.texts[1:])], fmt.texts, reading)


def _read_preference(row: dict, fmt: Format, reading: Reading) -> Turns:
    """Preference rows. The prompt is in a column of its own, or both conversations begin with it."""
    chosen, rejected = (cell_at(row, str(fmt.paths[name])) for name in ("chosen", "rejected"))
    if is_blank(chosen) or is_blank(rejected) or chosen == rejected or [] in (chosen, rejected):
        raise RowError("columns chosen and rejected: one is empty, or they are the same")
    where = fmt.paths.get("prompt", ())
    prompt = _optional(row, where) if isinstance(where, str) else _joined(row, where, reading)
    cells = [read_transcript(cell) for cell in (prompt, chosen, rejected)]
    turns = read_turns(cells, ("prompt", "chosen", "rejected"), reading)
    if not turns.prompt[0]:
        unused = ", ".join(reading.unused) or "none"
        raise RowError(f"there is no prompt. Name its column with columns. Not used are {unused}")
    return turns


def _read_vote(
    ballot: Ballot, row: dict, fmt: Format, reading: Reading, blank_winner: str | None
) -> list[float] | None:
    if "chosen" in fmt.paths:
        return vote_for("model_a")
    names = fmt.fractions
    blank = all(map(is_blank, ballot.cell)) if names else is_blank(ballot.cell) and "" not in fmt.votes
    if blank:
        if reading.lenient:
            return None
        if blank_winner != "tie":
            raise BlankVote(f"column {', '.join(names) or ballot.path}: no vote")
        reading.changes[BLANK_TIE] += 1
        return vote_for("tie")
    try:
        if names:
            return read_fractions(ballot.cell, names)
        if fmt.vote is not None and not fmt.votes:
            return fmt.vote(ballot.cell, ballot.path)
        models = {name: _optional(row, fmt.paths[name]) for name in LABELS[:2] if name in fmt.paths}
        return read_winner(ballot.cell, ballot.path, fmt.votes, models, reading)
    except RowError:
        if reading.lenient:
            return None
        raise


def _note_oddities(battle: dict, reading: Reading) -> None:
    if not battle["prompt"][0]:
        reading.changes["the first prompt is empty: kept as it is"] += 1
    if not any(battle["response_a"]) and not any(battle["response_b"]):
        reading.changes["both answers are missing: kept as it is"] += 1
    if battle["response_a"] == battle["response_b"] and winner_of(battle["vote"]) not in ("tie", None):
        reading.changes["both answers are the same, and yet one won: kept as it is"] += 1


def _optional(row: dict, path: Paths | None):
    """The cell at a path; None if there is no single path, or the row lacks the column."""
    return cell_if_any(row, path) if isinstance(path, str) else None


def _joined(row: dict, paths: Paths, reading: Reading):
    """Texts joined by an empty line; a single cell as it is."""
    cells = [_optional(row, path) for path in as_tuple(paths)]
    given = [cell for cell in cells if not is_blank(cell)]
    if not given:
        return None
    return given[0] if len(given) == 1 else "\n\n".join(clean(cell, reading) for cell in given)


def _name(cell, reading: Reading) -> str | None:
    """A cell as text without lone surrogates; None if it is blank."""
    if isinstance(cell, str):
        return clean(cell, reading) or None
    return None if is_blank(cell) else clean(_label(cell), reading)


def _label(cell) -> str:
    """A cell as text: whole numbers without a fraction, bytes as UTF-8, objects as JSON."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "surrogateescape")
    return json.dumps(cell, default=str) if isinstance(cell, (list, dict)) else str(cell)


def _texts(battle: dict) -> str:
    return "\x1e".join("\x1f".join(turn or "" for turn in battle[column]) for column in TURN_COLUMNS)
