"""A source of votes, as a YAML or a command line names it. Imports nothing heavy, so that `--help` is fast."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ..errors import UserError

ANSWERS = (("response_a", "response_b"), ("conversation_a", "conversation_b"), ("chosen", "rejected"))
VOTE_FIELDS = ("vote", "vote_a", "vote_b", "vote_tie")
LABELS = ("model_a", "model_b", "language", "annotator")
# What a mapping of columns may name.
FIELDS = ("prompt", "system", *(name for pair in ANSWERS for name in pair), *VOTE_FIELDS, *LABELS, "id", "group")
DROP = "drop"
MEANINGS = ("model_a", "model_b", "tie", DROP)
Paths = str | tuple[str, ...] | list[str]  # of one column, or of several
Meaning = str | list[float]  # one of MEANINGS, or the fractions of A, B and tie
FormatName = Literal[
    "lmsys", "lmsys_trl", "wsdm", "mt_bench", "chatbot_arena", "openai_preference", "preference", "alpaca_eval",
    "arena_hard", "helpsteer3", "shp", "pandalm", "label_studio",
]  # fmt: skip


def vote_key(value) -> str:
    """A value of a vote as it is compared with the keys of `votes`: 1, 1.0 and "1" are the same, and so are cases."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().casefold()
    number = re.fullmatch(r"\+?(-?\d+)(?:(\.\d*?)0*)?", text)
    return number[1] + (number[2] or "").rstrip(".") if number else text


def vote_problem(names: Iterable[str]) -> str | None:
    """What is wrong with which fields of a vote are named. Two fractions are those of A and B, one is that of A."""
    fractions = [name for name in VOTE_FIELDS[1:] if name in names]
    if fractions and "vote" in names:
        return f"columns: vote and {fractions[0]} are both named. Name one of them"
    if fractions != list(VOTE_FIELDS[1 : 1 + len(fractions)]):
        return f"columns: {' and '.join(fractions)} alone: name vote_a, vote_a and vote_b, or all three fractions"
    return None


def _pairs(value, separate) -> dict:
    """The pairs of a YAML's mapping, or of words such as `vote=winner` on a command line, or of its JSON."""
    words = [value] if isinstance(value, str) else value
    if isinstance(words, list) and len(words) == 1 and str(words[0]).lstrip().startswith("{"):
        try:
            value = json.loads(words[0])
        except ValueError as error:
            raise UserError(f"not JSON: {error}") from error
    if isinstance(value, dict):
        return value
    if not isinstance(words, list) or not all(isinstance(word, str) and "=" in word for word in words):
        raise UserError("input should be pairs such as key=value, or one JSON object")
    return {key: value.strip("[]").split(",") if "," in value else value for key, _, value in map(separate, words)}


def _parse_columns(value):
    columns = _pairs(value, lambda word: word.partition("="))
    for name, where in columns.items():
        if name not in FIELDS:
            near = get_close_matches(str(name), FIELDS, n=1) or [", ".join(FIELDS)]
            raise UserError(f"there is no field {name}. Did you mean {near[0]}?")
        if not isinstance(where, (str, list)) or not where or not all(isinstance(path, str) for path in where):
            raise UserError(f"{name}: expected the name of a column, or a list of names")
        if isinstance(where, list) and name not in ("prompt", "vote", "id"):
            raise UserError(f"{name}: takes one column. A name with a comma in it goes into a YAML or into JSON")
        if isinstance(where, list) and len(set(where)) < len(where):
            raise UserError(f"{name}: names a column twice")
    return columns


def _parse_votes(value):
    votes: dict[str, Any] = {}
    for key, meaning in _pairs(value, lambda word: word.rpartition("=")).items():
        if isinstance(meaning, list):
            try:
                meaning = [float(fraction) for fraction in meaning]
            except (TypeError, ValueError):
                meaning = None
            if meaning is None or len(meaning) != 3 or not (min(meaning) >= 0 and abs(sum(meaning) - 1) <= 1e-3):
                raise UserError(f"{key}: expected the fractions of A, B and tie, which sum to 1")
        elif meaning not in MEANINGS:
            raise UserError(f"{key}: expected {', '.join(MEANINGS)}, or the fractions of A, B and tie")
        # YAML reads yes and on as true.
        names = ("true", "yes", "on") if key is True else ("false", "no", "off") if key is False else (vote_key(key),)
        if votes.get(names[0], meaning) != meaning:
            raise UserError(f"{key}: means {votes[names[0]]} and {meaning}")
        votes |= dict.fromkeys(names, meaning)
    return votes


Columns = Annotated[dict[str, Any], BeforeValidator(_parse_columns)]
Votes = Annotated[dict[str, Any], BeforeValidator(_parse_votes)]
Positive = Annotated[int, Field(ge=1)]


@dataclass
class Source:
    """
    Votes from one place.

    Args:
        path (`str`): A file, an archive, a folder, `hub:owner/name[@revision]`, `kaggle:owner/name` (a data set) or
            `kaggle:name` (a competition).
        name (`str`): Its name in the data set. Default: the file's name without suffix, or what follows `hub:` or
            `kaggle:`.
        file (`str`, *optional*): Which file of an archive, folder or repository, such as `train*.parquet`.
        format (`str`, *optional*): Default: the first one whose columns the file has.
        columns (`dict`, *optional*): Where the file has the prompt, the answers, the vote and more.
        votes (`dict`, *optional*): What each value of the vote means.
        keep (`list[str]`, *optional*): Columns that are carried into the data set.
        images (`str`): What to do with rows in which a message has an image: "drop" them, or read their "text".
        blank_winner (`str`, *optional*): What a blank vote means: a "tie", or "drop" the row.
        sample (`int`, *optional*): Use only this many of its battles.
        swap (`int` or `str`, *optional*): Add swapped copies of this many of its battles, or of "all".
        license (`str`, *optional*): Such as `cc-by-4.0`. Default: that of its card, if it comes from the Hub.
        max_size_gb (`float`): What a compressed file may become.
        max_nesting (`int`): How deep lists and objects of a row may be nested.
    """

    path: str
    name: str = ""
    file: str | None = None
    format: FormatName | None = None
    columns: Columns | None = None
    votes: Votes | None = None
    keep: list[str] | None = None
    images: Literal["drop", "text"] = "drop"
    blank_winner: Literal["tie", "drop"] | None = None
    sample: Positive | None = None
    swap: Positive | Literal["all"] | None = None
    license: str | None = None
    max_size_gb: Annotated[float, Field(gt=0)] = 4
    max_nesting: Annotated[int, Field(ge=1, le=500)] = 100

    def __post_init__(self):
        self.columns = _parse_columns(self.columns) if self.columns else None
        self.votes = _parse_votes(self.votes) if self.votes else None
        if not self.name:
            scheme, _, name = self.path.rpartition(":")
            file = Path(os.path.abspath(self.path)).name.lstrip(".")  # of "." and "..", the folder's
            self.name = name.split("@")[0] if scheme in ("hub", "kaggle") else file.split(".")[0]

    def given(self) -> dict:
        """The values that are set."""
        defaults = {known.name: known.default for known in fields(self)}
        return {key: value for key, value in asdict(self).items() if value != defaults[key]}


def _parse_source(value):
    """What a YAML's `sources` may list: a path, or the keys of a [`Source`]."""
    if isinstance(value, str):
        return {"path": value}
    names = [field.name for field in fields(Source)]
    for key in value if isinstance(value, dict) else ():
        if key not in names:
            nearest = get_close_matches(str(key), names, n=1) or [", ".join(names)]
            raise UserError(f"unknown key {key}. Did you mean {nearest[0]}?")
    return value


Sources = list[Annotated[Source, BeforeValidator(_parse_source)]]
