"""Where a row has its cells, and what is wrong with one."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from ..battle import WINNERS

TURN_COLUMNS = ("prompt", "response_a", "response_b")
WINNER_COLUMNS = tuple(f"winner_{winner}" for winner in WINNERS)
VOTE_COLUMNS = [f"vote_{winner}" for winner in WINNERS]  # the fractions of a vote


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


class DroppedRow(RowError):
    """A row that is left out because that was asked for, and not because it is broken."""


class BlankVote(RowError):
    """A row with a blank vote."""


@dataclass
class Reading:
    """
    How the cells of a file are read.

    Args:
        changes (`Counter`): Counts what had to be changed.
        images (`str`): "drop" rows with images and other parts that are not text, or read their "text".
        as_lists (`bool`): The texts of this file are JSON lists with one text a turn; otherwise plain text.
        lenient (`bool`): For prediction, where every id must get an answer.
        unused (`list[str]`): The columns of the file that are not read.
        known (`set[str]`): The columns that are read or in `unused`.
        met (`set[str]`): The values of votes with a meaning that have occurred.
    """

    changes: Counter = field(default_factory=Counter)
    images: Literal["drop", "text"] = "drop"
    as_lists: bool = False
    lenient: bool = False
    unused: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    met: set[str] = field(default_factory=set)


def is_blank(cell) -> bool:
    """Whether a cell is empty: null, no text, or NaN."""
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def cell_at(row: dict, path: str):
    """
    The cell at a path.

    Args:
        row (`dict`): The row.
        path (`str`): The name of a column, or dotted steps into one: keys of objects, and numbers of lists from 0.
            Text on the way is read as JSON.

    Returns:
        The cell, or None if the path ends before.

    Raises:
        KeyError: If the row lacks the column.
    """
    if path in row:
        return row[path]
    column, *steps = path.split(".")
    value = row[column]
    for step in steps:
        value = _step(value, step)
    return value


def cell_if_any(row: dict, path: str):
    """As [`cell_at`], and None if the row lacks the column."""
    if path in row:
        return row[path]
    return cell_at(row, path) if path.partition(".")[0] in row else None


def each_cell_at(row: dict, paths: Sequence[str]) -> list:
    """The cells at several paths, as from [`cell_at`]."""
    try:
        return [row[path] for path in paths]  # nearly all
    except KeyError:
        return [cell_at(row, path) for path in paths]


def cells_at(row: dict, path: str) -> list:
    """The cells at a path in which a step may be `*`, for each entry of a list."""
    before, star, after = path.partition(".*")
    if not star or path in row:
        return [cell_at(row, path)]
    entries = parsed(cell_at(row, before))
    if not isinstance(entries, list):
        return []
    return [cell for entry in entries for cell in (cells_at({"": entry}, after) if after else [entry])]


def where_it_ends(row: dict, path: str) -> str | None:
    """Where a path ends before it is followed to its end in a row, in words, or None if the row has all of it."""
    if path in row:
        return None
    walked, *steps = path.split(".")
    value = parsed(row.get(walked))
    for step in steps:
        inner = value.get(step, value) if isinstance(value, dict) else _step(value, step)
        if inner is value or (inner is None and not isinstance(value, dict)):
            names = ", ".join(list(map(str, value))[:10]) if isinstance(value, dict) else "no names"
            held = f"{len(value)} entries, numbered from 0" if isinstance(value, list) else names
            return f"{walked} has {held}"
        walked, value = f"{walked}.{step}", parsed(inner)
    return None


def _step(value, step: str):
    value = parsed(value)
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    return None


def parsed(value):
    """Text that is JSON as what it says, and anything else as it is."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def shorten(value, length: int) -> str:
    """A value as ASCII for a message, of some characters at most."""
    text = ascii(value)
    return text if len(text) <= length + 2 else text[:length] + "..."
