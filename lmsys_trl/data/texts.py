"""Cells of a row -> the turns of a battle, however a file writes them: texts, lists, messages, transcripts."""

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..battle import replace_surrogates
from .columns import DroppedRow, RowError, is_blank, shorten

ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatbot": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
SPEAKERS = {"Human": "user", "Assistant": "assistant"}  # of transcripts
Text = str | None
Message = tuple[str, Text]  # role and text


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
    """

    changes: Counter = field(default_factory=Counter)
    images: Literal["drop", "text"] = "drop"
    as_lists: bool = False
    lenient: bool = False
    unused: list[str] = field(default_factory=list)


class Messages(list[Message]):
    """A conversation, or a part of one."""


class Turns(NamedTuple):
    """The texts of a battle, one a turn, and the system text before the first prompt."""

    prompt: list[Text]
    response_a: list[Text]
    response_b: list[Text]
    system: str


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
    texts = [row[name] for row in rows for name in cells if isinstance(row.get(name), str) and row[name]]
    num_json = sum(_is_list_of_texts(_loads(text)) for text in texts if text.lstrip()[:1] == "[")
    num_python = sum(_is_python_list(text) for text in texts)
    if num_python > len(texts) / 2:
        raise RowError(
            f"columns {', '.join(cells)}: hold Python lists ({shorten(texts[0], 30)}), which are not read. Write the "
            "lists as JSON, with json.dumps"
        )
    return num_json > len(texts) / 2


def read_turns(named_cells: dict, reading: Reading) -> Turns:
    """
    The turns of a prompt and two answers: texts, lists with one text a turn, or messages.

    Args:
        named_cells (`dict`): The three cells, by the names of their columns.
        reading (`Reading`): How they are read.
    """
    names = list(named_cells)
    cells = [_read(cell, name, reading) for name, cell in named_cells.items()]
    if any(isinstance(cell, Messages) for cell in cells):
        prompt, *sides = cells
        before = prompt if isinstance(prompt, Messages) else Messages((("user", _one(prompt, names[0])),))
        side_a, side_b = (_after(before, side, name) for side, name in zip(sides, names[1:], strict=True))
        return split_roles(side_a, side_b, names[1:])
    columns = [list(cell) if isinstance(cell, list) else [cell] for cell in cells]
    for turns in columns:
        if not turns:
            reading.changes["empty lists, read as one missing turn"] += 1
            turns.append(None)
    num_turns = max(map(len, columns))
    for turns in columns if reading.lenient else ():
        if len(turns) < num_turns:
            reading.changes["missing turns, filled with empty text"] += num_turns - len(turns)
            turns += [""] * (num_turns - len(turns))
    return Turns(columns[0], columns[1], columns[2], "")


def split_roles(side_a: Messages, side_b: Messages, names: Sequence[str]) -> Turns:
    """
    The turns of two conversations, in which the user says the same.

    Raises:
        RowError: If that is not so, or roles do not alternate.
    """
    prompt, response_a, system = _split_roles(side_a, names[0])
    prompt_b, response_b, system_b = _split_roles(side_b, names[1])
    if (prompt, system) != (prompt_b, system_b):
        raise RowError(f"columns {names[0]} and {names[1]}: the user says different things in them")
    return Turns(prompt, response_a, response_b, system)


def read_messages(cell, column: str, reading: Reading) -> Messages:
    """A conversation: a list of messages, or its JSON text."""
    messages = _read(cell, column, reading)
    if not isinstance(messages, Messages):
        expected = "expected a list of messages with role and content"
        raise RowError(f"column {column}: {expected}", f", found {shorten(cell, 40)}")
    return messages


def read_transcript(cell):
    """A text that is a transcript, with `Human:` and `Assistant:` after empty lines, as messages; else the cell."""
    if not isinstance(cell, str) or not re.match(r"\s*(Human|Assistant): ?", cell):
        return cell
    starts = list(re.finditer(r"(?:\A\s*|\n\n)(Human|Assistant):[ ]?", cell))
    ends = [match.start() for match in starts[1:]] + [len(cell)]
    said = [(SPEAKERS[match[1]], cell[match.end() : end]) for match, end in zip(starts, ends, strict=True)]
    if said[-1] == ("assistant", ""):  # where the answer is to begin
        said.pop()
    joined: list[Message] = []
    for role, text in said:  # one speaker may speak twice
        joined[-1:] = [(role, f"{joined[-1][1]}\n\n{text}")] if joined and joined[-1][0] == role else [
            *joined[-1:], (role, text)
        ]  # fmt: skip
    return Messages(joined)


def part_text(content, column: str, reading: Reading) -> Text:
    """
    The text of a message's content: text, or parts of which some are text.

    Raises:
        DroppedRow: If a part is an image, or another thing that is not text, and such rows are dropped.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(map(_is_part, content)):
        return _json_text(content, reading)
    texts = [part if isinstance(part, str) else part.get("text") for part in content]
    others = [part for part in content if isinstance(part, dict) and not isinstance(part.get("text"), str)]
    if others:
        kind = str(others[0].get("type"))
        if reading.images == "drop" and not reading.lenient:
            raise DroppedRow(f"column {column}: a part is not text (set images: text to read the others)", f": {kind}")
        reading.changes["parts of messages that are not text, left out"] += len(others)
    return "\n\n".join(text for text in texts if text)


def clean(text, reading: Reading) -> str:
    """A cell as text, without lone surrogates."""
    if isinstance(text, str) and text.isascii():
        return text
    if not isinstance(text, str):
        text = _json_text(text, reading)
    text, num_replaced = replace_surrogates(text)
    if num_replaced:
        reading.changes["lone surrogates, replaced by U+FFFD"] += num_replaced
    return text


def _read(cell, column: str, reading: Reading):
    """A text, a list with one text a turn, or [`Messages`]."""
    if isinstance(cell, Messages):
        return cell
    if isinstance(cell, str):
        return _read_text(cell, column, reading)
    if is_blank(cell):
        return None if not reading.as_lists else _no_list(cell, column, reading)
    if isinstance(cell, dict) and _is_message(cell):
        return Messages((_message(cell, column, reading),))
    if isinstance(cell, list):
        if _is_list_of_texts(cell):
            return cell
        if cell and all(map(_is_message, cell)):
            return Messages(_message(message, column, reading) for message in cell)
        if cell and all(isinstance(part, dict) and _is_part(part) for part in cell):
            return part_text(cell, column, reading)
        return [turn if turn is None or isinstance(turn, str) else _json_text(turn, reading) for turn in cell]
    return _no_list(cell, column, reading) if reading.as_lists else _json_text(cell, reading)


def _read_text(cell: str, column: str, reading: Reading):
    if reading.as_lists:
        value = _loads(cell)
        if isinstance(value, list):
            return value if _is_list_of_texts(value) else _read(value, column, reading)
        return _no_list(cell, column, reading)
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
    return cell if cell is None or isinstance(cell, str) else _json_text(cell, reading)


def _loads(text: str):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_list_of_texts(value) -> bool:
    if not isinstance(value, list):
        return False
    return {*map(type, value)} <= {str, type(None)}


def _is_python_list(text: str) -> bool:
    if text[:2] not in ("['", '["') and not text.startswith("[None"):
        return False
    if _loads(text) is not None or len(text) > 10**6:
        return False
    try:
        return _is_list_of_texts(ast.literal_eval(text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False


def _is_message(value) -> bool:
    return isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _is_part(value) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and ("type" in value or "text" in value))


def _message(message: dict, column: str, reading: Reading) -> Message:
    role, content = (message["role"], message["content"]) if "role" in message else (message["from"], message["value"])
    known = ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        raise RowError(f"column {column}: expected messages of user, assistant and system", f", found {role!r:.40}")
    return known, part_text(content, column, reading)


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


def _split_roles(messages: Messages, column: str) -> tuple[list[Text], list[Text], str]:
    """The user's messages, the assistant's, which alternate with them, and the system's, which come first."""
    num_system = next((i for i, (role, _) in enumerate(messages) if role != "system"), len(messages))
    rest = messages[num_system:]
    roles = [role for role, _ in rest]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        details = f", found {shorten(' '.join(roles), 40)}"
        raise RowError(f"column {column}: expected user and assistant in turn", details)
    texts = [text for _, text in rest]
    return texts[::2], texts[1::2], "\n\n".join(text for _, text in messages[:num_system] if text)


def _json_text(value, reading: Reading) -> str:
    reading.changes["turns that are not text, read as their JSON text"] += 1
    return json.dumps(value, ensure_ascii=False, default=str)
