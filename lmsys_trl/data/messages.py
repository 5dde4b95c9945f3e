"""Messages, content in parts, and transcripts of a cell -> turns."""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from .columns import DroppedRow, Reading, RowError, shorten

ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatbot": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
SPEAKERS = {"Human": "user", "Assistant": "assistant"}  # of transcripts
Text = str | None
Message = tuple[str, Text]  # role and text


class Messages(list[Message]):
    """A conversation, or a part of one."""


class Turns(NamedTuple):
    """The texts of a battle, one a turn, and the system text before the first prompt."""

    prompt: list[Text]
    response_a: list[Text]
    response_b: list[Text]
    system: str


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
    for role, text in said:
        if joined and joined[-1][0] == role:  # one speaker may speak twice
            text = f"{joined.pop()[1]}\n\n{text}"
        joined.append((role, text))
    return Messages(joined)


def part_text(content, column: str, reading: Reading) -> Text:
    """
    The text of a message's content: text, or parts of which some are text.

    Raises:
        DroppedRow: If a part is an image, or another thing that is not text, and such rows are dropped.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(map(is_part, content)):
        return json_text(content, reading)
    texts = [part if isinstance(part, str) else part.get("text", part.get("value")) for part in content]
    others = [part for part, text in zip(content, texts, strict=True) if not isinstance(text, str)]
    if others:
        kind = str(others[0].get("type"))
        if reading.images == "drop" and not reading.lenient:
            raise DroppedRow(f"column {column}: a part is not text (set images: text to read the others)", f": {kind}")
        reading.changes["parts of messages that are not text, left out"] += len(others)
    return "\n\n".join(text for text in texts if isinstance(text, str) and text)


def read_message(message: dict, column: str, reading: Reading) -> Message:
    role, content = (message["role"], message["content"]) if "role" in message else (message["from"], message["value"])
    known = ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        raise RowError(f"column {column}: expected messages of user, assistant and system", f", found {role!r:.40}")
    return known, part_text(content, column, reading)


def is_message(value) -> bool:
    return isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def is_part(value) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and ("type" in value or "text" in value))


def json_text(value, reading: Reading) -> str:
    reading.changes["turns that are not text, read as their JSON text"] += 1
    return json.dumps(value, ensure_ascii=False, default=str)


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
