"""Cells of a row -> the turns of a battle, however a file writes them."""

import ast
import json
import re
from collections.abc import Sequence

from ..battle import replace_surrogates
from .columns import Reading, RowError, cell_if_any, is_blank, shorten
from .messages import (
    Messages,
    Text,
    Turns,
    is_message,
    is_part,
    json_text,
    part_text,
    read_message,
    split_roles,
)

TEXT_TYPES = frozenset((str, type(None)))
DECODER = json.JSONDecoder()
NOT_UTF8 = "bytes that are not UTF-8, or lone surrogates, replaced by U+FFFD"


def lists_of_turns(rows: list[dict], cells: list[str]) -> bool:
    """
    Whether texts are JSON lists with one text a turn, decided for a whole file by most of its cells: an answer may
    look like a list too.

    Args:
        rows (`list[dict]`): The first rows.
        cells (`list[str]`): The columns of the texts.

    Raises:
        RowError: If most cells are Python lists.
    """
    given = [cell_if_any(row, name) for row in rows for name in cells]
    texts = [cell for cell in given if isinstance(cell, str) and cell]
    num_json = sum(_is_list_of_texts(_loads(text)) for text in texts if text.lstrip()[:1] == "[")
    num_python = sum(_is_python_list(text) for text in texts)
    if num_python > len(texts) / 2:
        raise RowError(
            f"columns {', '.join(cells)}: hold Python lists ({shorten(texts[0], 30)}), which are not read. Write the "
            "lists as JSON, with json.dumps"
        )
    return num_json > len(texts) / 2


def read_turns(given: Sequence, names: Sequence[str], reading: Reading) -> Turns:
    """
    The turns of a prompt and two answers: texts, lists with one text a turn, or messages.

    Args:
        given (`Sequence`), names (`Sequence[str]`): The three cells, and the names of their columns.
        reading (`Reading`): How they are read.
    """
    cells = [
        _read_text(cell, name, reading) if isinstance(cell, str) else _read(cell, name, reading)
        for cell, name in zip(given, names, strict=True)
    ]
    if (type(cells[1]) is Messages) != (type(cells[2]) is Messages):  # one answer is text that looks like messages
        cells[1:] = [text if isinstance(text, str) else cell for text, cell in zip(given[1:], cells[1:], strict=True)]
    if Messages in map(type, cells):
        prompt, *sides = cells
        before = prompt if isinstance(prompt, Messages) else Messages((("user", _one(prompt, names[0])),))
        side_a, side_b = (_after(before, side, name) for side, name in zip(sides, names[1:], strict=True))
        return split_roles(side_a, side_b, names[1:])
    columns = [cell if isinstance(cell, list) else [cell] for cell in cells]
    if num_empty := columns.count([]):
        reading.changes["empty lists, read as one missing turn"] += num_empty
        columns = [turns or [None] for turns in columns]
    if reading.lenient and (num_missing := 3 * max(map(len, columns)) - sum(map(len, columns))):
        reading.changes["missing turns, filled with empty text"] += num_missing
        columns = [turns + [""] * (max(map(len, columns)) - len(turns)) for turns in columns]
    prompt, response_a, response_b = columns
    return Turns(prompt, response_a, response_b, "")


def read_messages(cell, column: str, reading: Reading) -> Messages:
    """A conversation: a list of messages, or its JSON text."""
    messages = _read(cell, column, reading)
    if not isinstance(messages, Messages):
        expected = "expected a list of messages with role and content"
        raise RowError(f"column {column}: {expected}", f", found {shorten(cell, 40)}")
    return messages


def clean(text, reading: Reading) -> str:
    """A cell as text, without lone surrogates."""
    if isinstance(text, str) and text.isascii():
        return text
    if not isinstance(text, str):
        text = json_text(text, reading)
    text, num_replaced = replace_surrogates(text)
    if num_replaced:
        reading.changes[NOT_UTF8] += num_replaced
    return text


def _read(cell, column: str, reading: Reading):
    """A text, a list with one text a turn, or [`Messages`]."""
    if isinstance(cell, str):
        return _read_text(cell, column, reading)
    if isinstance(cell, Messages):
        return cell
    if is_blank(cell):
        return None if not reading.as_lists else _no_list(cell, column, reading)
    if isinstance(cell, dict) and is_message(cell):
        return Messages((read_message(cell, column, reading),))
    if isinstance(cell, list):
        if _is_list_of_texts(cell):
            return cell
        if cell and all(map(is_message, cell)):
            return Messages(read_message(message, column, reading) for message in cell)
        if cell and all(isinstance(part, dict) and is_part(part) for part in cell):
            return part_text(cell, column, reading)
        return [turn if turn is None or isinstance(turn, str) else json_text(turn, reading) for turn in cell]
    return _no_list(cell, column, reading) if reading.as_lists else json_text(cell, reading)


def _read_text(cell: str, column: str, reading: Reading):
    if reading.as_lists:
        value = _loads(cell)
        if _is_list_of_texts(value):
            return value
        return _read(value, column, reading) if isinstance(value, list) else _no_list(cell, column, reading)
    if re.match(r"\s*\[?\s*\{", cell):  # perhaps messages
        value = _loads(cell)
        if isinstance(value, (list, dict)):
            found = _read(value, column, Reading(images=reading.images, lenient=reading.lenient))
            if isinstance(found, Messages):
                return found
        elif re.match(r"\s*\[?\s*\{\s*'(role|from|content|value)'\s*:", cell):
            raise RowError(
                f"column {column}: holds messages as Python writes them, which are not read. Write them as JSON, with "
                "json.dumps", f", found {shorten(cell, 30)}"
            )  # fmt: skip
    return cell or None


def _no_list(cell, column: str, reading: Reading) -> Text:
    """A cell in the place of a JSON list: an error, or for prediction one turn."""
    is_python = isinstance(cell, str) and _is_python_list(cell)
    if is_python or not reading.lenient:
        hint = ", not a Python list. Write it with json.dumps" if is_python else ""
        raise RowError(
            f"column {column}: expected a JSON list with one text per turn{hint}", f", found {shorten(cell, 40)}"
        )
    reading.changes["cells that are not a JSON list, read as one turn"] += 1
    return cell if cell is None or isinstance(cell, str) else json_text(cell, reading)


def _loads(text: str):
    """As `json.loads` without its detours, and None for what is not JSON."""
    text = text.strip(" \t\n\r")
    try:
        value, end = DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if end == len(text) else None


def _is_list_of_texts(value) -> bool:
    return isinstance(value, list) and TEXT_TYPES.issuperset(map(type, value))


def _is_python_list(text: str) -> bool:
    if text[:2] not in ("['", '["') and not text.startswith("[None"):
        return False
    if _loads(text) is not None or len(text) > 10**6:
        return False
    try:
        return _is_list_of_texts(ast.literal_eval(text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False


def _one(cell, column: str) -> Text:
    if isinstance(cell, list):
        if len(cell) != 1:
            raise RowError(
                f"column {column}: expected one text or messages beside messages", f", found {len(cell)} texts"
            )
        return cell[0]
    return cell


def _after(prompt: Messages, side, column: str) -> Messages:
    """A whole conversation: an answer after the prompt, or a conversation that repeats the prompt."""
    if not isinstance(side, Messages):
        return Messages((*prompt, ("assistant", _one(side, column))))
    if side and side[0][0] != "assistant":
        return side
    return Messages((*prompt, *side))
