"""Where votes come from -> battles, and a ledger of what was read, changed and removed."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from .downloads import fetch
from .files import DAMAGE, find_files, read_rows
from .formats import FORMATS, FORMATS_TO_PREDICT, BlankVote, Format, RowError, to_battle
from .provenance import file_fingerprint

NUM_ERRORS_SHOWN = 5
MAX_BROKEN_SHARE = 0.1  # a source with more broken rows is of another format than it was taken for


@dataclass
class Source:
    """Votes from one place, as they stand in a YAML."""

    path: str  # a file, an archive, a folder, hub:owner/name[@revision], kaggle:owner/name or kaggle:competition
    name: str | None = None  # in the data set: the file's name without ending, or what follows hub: or kaggle:
    file: str | None = None  # which file of an archive, folder or repository, such as train*.parquet
    format: Literal["lmsys", "wsdm", "chatbot_arena", "preference"] | None = None  # found by the columns unless told
    blank_winner: Literal["tie", "drop"] | None = None  # what a blank vote means
    sample: int | None = None  # take this many battles only
    swap: int | Literal["all"] | None = None  # take this many, or all, a second time with A and B exchanged
    license: str | None = None  # such as cc-by-4.0; read from its card if it comes from the Hub

    def __post_init__(self):
        if self.name is None:
            scheme, _, name = self.path.rpartition(":")
            self.name = name.split("@")[0] if scheme in ("hub", "kaggle") else Path(self.path).name.split(".")[0]


def _as_source(value):
    """What may stand in a YAML's `sources`: a path, or the keys of a [`Source`]."""
    if isinstance(value, str):
        return {"path": value}
    known = [f.name for f in fields(Source)]
    for key in value if isinstance(value, dict) else ():
        if key not in known:
            nearest = get_close_matches(str(key), known, n=1) or [", ".join(known)]
            raise ValueError(f"unknown key {key}. Did you mean {nearest[0]}?")
    return value


Sources = list[Annotated[Source, BeforeValidator(_as_source)]]


@dataclass
class Ledger:
    """What was read, changed and removed, by source."""

    facts: dict = field(default_factory=dict)  # source -> revision, licence and fingerprints of its files
    read: Counter = field(default_factory=Counter)  # source -> rows
    changes: defaultdict = field(default_factory=lambda: defaultdict(Counter))  # source -> what -> how often
    removed: list[dict] = field(default_factory=list)  # source, row (from 1), id, reason and the row as JSON

    def remove(self, source: str, row: int, battle_id: str | None, reason: str, content: dict) -> None:
        content = json.dumps(content, default=str)
        self.removed.append({"source": source, "row": row, "id": battle_id, "reason": reason, "content": content})


def read_source(
    source: Source, ledger: Ledger, patient: bool = False, max_broken_share: float = MAX_BROKEN_SHARE
) -> Iterator[dict]:
    """
    Yields the battles of a source, in its order, as rows of [`BATTLE_FEATURES`]. Broken rows go into the ledger.

    Args:
        source (`Source`): Where the votes are.
        ledger (`Ledger`): Is told of every row, change and removal.
        patient (`bool`): For prediction: see [`read_battles`].
        max_broken_share (`float`): Share of broken rows with which the source is still taken.

    Raises:
        ValueError: If a file is not what its name says, of no known format, without rows, with too many broken ones,
            or if votes are blank and nothing says what that means. One message counts all that is wrong and shows the
            first few with row and column (row 1 is the first below the header).
    """
    path, facts = fetch(source.path, source.file)
    source.license = source.license or facts.pop("license", None)
    ledger.facts[source.name] = {"license": source.license, **facts, "sha256": {}}
    changes, seen, num_made_ids = ledger.changes[source.name], set(), Counter()
    errors, blank = [], []
    for file in find_files(path, source.file):
        ledger.facts[source.name]["sha256"][file.name] = file_fingerprint(file.path)
        rows = _readable(read_rows(file), file.path)
        columns = next(rows)
        form = _find_format(source.format, FORMATS_TO_PREDICT if patient else FORMATS, file.path, columns)
        for row, problem in rows:
            ledger.read[source.name] += 1
            number, battle_id = ledger.read[source.name], row.get(form.id)
            try:
                if problem is not None:
                    reason, *found = problem.partition(":")
                    raise RowError(reason, "".join(found))
                battle = to_battle(row, form, source.name, changes, source.blank_winner)
                if battle_id is None:  # made of the texts, which people may have voted on more than once
                    num_made_ids[battle["id"]] += 1
                    battle["id"] += f"-{num_made_ids[battle['id']]}"
                battle_id = battle["id"]
                if battle_id in seen:
                    raise RowError(f"column {form.id}: stands in an earlier row too")
            except BlankVote as error:
                blank.append(number)
                ledger.remove(source.name, number, battle_id, error.reason, row)
            except RowError as error:
                errors.append(f"row {number} (id {battle_id}), {error}")
                ledger.remove(source.name, number, battle_id, error.reason, row)
            else:
                seen.add(battle_id)
                yield battle
    num_rows = ledger.read[source.name]
    if blank and source.blank_winner != "drop":
        raise ValueError(
            f"{source.path}: {len(blank)} of {num_rows} votes are blank, the first in row {blank[0]}. One circulating "
            "copy of chatbot_arena_conversations leaves 'tie (bothbad)' blank. Say what they mean with blank_winner: "
            "tie, or leave them out with blank_winner: drop"
        )
    if len(errors) > max_broken_share * num_rows:
        shown = "".join(f"\n  {error}" for error in errors[:NUM_ERRORS_SHOWN])
        more = f"\n  and {len(errors) - NUM_ERRORS_SHOWN} more" if len(errors) > NUM_ERRORS_SHOWN else ""
        raise ValueError(
            f"{source.path}: {len(errors)} error{'s' * (len(errors) > 1)} in {num_rows} rows:{shown}{more}"
        )
    if not num_rows and not patient:
        raise ValueError(f"{source.path}: has no rows")


def read_battles(path: str | Path, patient: bool = False) -> tuple[list[dict], Counter]:
    """
    All battles of a file, none missing.

    Args:
        path (`str` or `Path`): The file.
        patient (`bool`): For prediction, where every id must get an answer: votes may be missing, cells that are no
            JSON list are taken as one turn of text, and missing turns are filled with empty text. All are counted.

    Returns:
        `tuple[list[dict], Counter]`: The battles in file order, and how often each change was made.

    Raises:
        ValueError: As [`read_source`], and if any row is broken.
    """
    source, ledger = Source(str(path)), Ledger()
    battles = list(read_source(source, ledger, patient, max_broken_share=0))
    return battles, ledger.changes[source.name]


def _find_format(name: str | None, formats: dict[str, Format], path: Path, columns: list[str]) -> Format:
    needed = {known: (*form.columns, *form.vote_columns) for known, form in formats.items()}
    missing = {known: [column for column in needed[known] if column not in columns] for known in needed}
    found = [known for known in ([name] if name in formats else formats) if not missing[known]]
    if found:
        return formats[found[0]]
    nearest = name or min(missing, key=lambda known: len(missing[known]) / len(needed[known]))
    listed = "\n".join(f"  {known}: {', '.join(needed[known])}" for known in formats)
    raise ValueError(
        f"{path}: not a file of battles: column{'s' * (len(missing[nearest]) > 1)} {', '.join(missing[nearest])} "
        f"missing. It has {_listed(columns)}. The columns of each format are\n{listed}"
    )


def _listed(columns: list[str]) -> str:
    listed = ascii(", ".join(map(str, columns)))
    return listed if len(listed) < 200 else listed[:200] + "..."


def _readable(rows: Iterator, path: Path) -> Iterator:
    """The rows, and one message for whatever a reader raises at bytes that are not what they should be."""
    number = -1  # the names of the columns come first
    try:
        for number, row in enumerate(rows):  # noqa: B007
            yield row
    except DAMAGE as error:
        kind = "".join(path.suffixes).lstrip(".").upper()
        raise ValueError(f"{path}: damaged, or not a {kind} file: {error} after row {max(number, 0)}") from error
