"""Cells of a row -> the vote: the fractions of A, B and tie."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ..battle import WINNERS, vote_for
from .columns import DroppedRow, Reading, RowError, shorten
from .source import DROP, Meaning, vote_key

NAMES = {"tie (bothbad)": "tie", "both_bad": "tie", "bothbad": "tie"} | {winner: winner for winner in WINNERS}

BOOLEANS = {"true": 1, "false": 0}  # as spreadsheets write them


def read_winner(cell, column: str, meanings: Mapping[str, Meaning], row: dict, reading: Reading) -> list[float]:
    """
    A vote in one cell.

    Args:
        cell, column (`str`): The cell, and where it is.
        meanings (`Mapping`): What each value means, by [`vote_key`]. What is not in it may be one of the names that
            the arenas use, the name of a model, or a list of three fractions.
        row (`dict`): Has the names of the models, if they are known.
        reading (`Reading`): Counts what had to be changed.

    Raises:
        DroppedRow: If the value means "drop".
        RowError: If it means nothing.
    """
    meaning = meanings.get(key := vote_key(cell))
    reading.met.add(key)
    if meaning is None and isinstance(cell, (list, str)):
        meaning = _fractions_in(cell)
    if meaning is None and not meanings and isinstance(cell, str):
        meaning = NAMES.get(cell)
        if meaning is not None and meaning != cell:
            reading.changes[f"votes for {cell}, read as {meaning}"] += 1
    if meaning is None and isinstance(cell, str):
        named = [winner for winner in WINNERS[:2] if row.get(winner) == cell]
        meaning = named[0] if len(named) == 1 else None
    if meaning == DROP:
        raise DroppedRow(f"column {column}: {shorten(cell, 20)}, which votes says to drop")
    if meaning is None:
        expected = f"expected one of {', '.join(meanings or NAMES)}"
        raise RowError(f"column {column}: {expected}", f", found {shorten(cell, 20)}. Say what it means with votes")
    return meaning if isinstance(meaning, list) else vote_for(meaning)  # type: ignore[return-value]


def read_fractions(cells: list, columns: Sequence[str]) -> list[float]:
    """
    A vote in three cells: one 1 and two 0, or three fractions that sum to 1. Of A and B alone the rest is a tie, and
    of A alone the rest is B's.
    """
    cells = [BOOLEANS.get(str(cell).strip().casefold(), cell) for cell in cells]
    if len(cells) < len(WINNERS):
        with suppress(TypeError, ValueError, OverflowError):
            rest = 1 - sum(map(float, cells))
            rest = 0.0 if abs(rest) < 1e-9 else rest
            cells = [*cells, rest] if len(cells) == 2 else [*cells, rest, 0.0]
    vote = to_fractions(cells)
    if vote is None:
        raise RowError(
            f"columns {', '.join(columns)}: expected one 1 and two 0, one true, or fractions that sum to 1",
            f", found {', '.join(shorten(cell, 20) for cell in cells)}",
        )
    return vote


def read_preference(cell, column: str) -> list[float]:
    """A preference from 1, the first answer, to 2, the second. 1.5 is a tie, and what lies between is divided."""
    try:
        second = float(cell) - 1
    except (TypeError, ValueError, OverflowError):
        second = math.nan
    if not 0 <= second <= 1:
        raise RowError(f"column {column}: expected a number from 1 to 2", f", found {shorten(cell, 20)}")
    return [0.0, 0.0, 1.0] if second == 0.5 else [1 - second, second, 0.0]


def to_fractions(cells: list) -> list[float] | None:
    """Three numbers that sum to 1, or None if the cells are anything else."""
    try:
        fractions = list(map(float, cells))
    except (TypeError, ValueError, OverflowError):
        return None
    total = sum(fractions)
    if len(fractions) != len(WINNERS):
        return None
    if not abs(total - 1) <= 1e-3 or min(fractions) < 0 or max(fractions) > 1:  # no comparison holds for NaN
        return None
    # What is normalized already stays the same, bit for bit.
    return fractions if math.isclose(total, 1, rel_tol=1e-12) else [fraction / total for fraction in fractions]


def _fractions_in(cell) -> list[float] | None:
    if isinstance(cell, str):
        if not cell.lstrip().startswith("["):
            return None
        with suppress(ValueError, RecursionError):
            cell = json.loads(cell)
    return to_fractions(cell) if isinstance(cell, list) and len(cell) == len(WINNERS) else None
