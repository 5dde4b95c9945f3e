"""Sources of votes -> battles, and a ledger of what was read, changed and removed."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..artifacts import file_fingerprint
from ..errors import UserError
from .columns import RowError
from .downloads import download
from .files import READ_ERRORS, find_files, read_rows
from .formats import FORMATS, LENIENT_FORMATS, BlankVote, Format, to_battle
from .source import Source

NUM_ERRORS_SHOWN = 5
MAX_BROKEN_FRACTION = 0.1  # a source with more broken rows is probably in another format


@dataclass
class Ledger:
    """What was read, changed and removed, by source."""

    origins: dict[str, dict] = field(default_factory=dict)  # source -> revision, license and hashes of its files
    num_rows: Counter = field(default_factory=Counter)  # source -> rows read
    changes: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))  # source -> change -> how often
    removed: list[dict] = field(default_factory=list)  # source, row (from 1), id, reason and the row as JSON

    def remove(self, source: str, row: int, battle_id: str | None, reason: str, content: dict) -> None:
        """Record a row that is not used."""
        text = json.dumps(content, default=str)
        self.removed.append({"source": source, "row": row, "id": battle_id, "reason": reason, "content": text})


def read_source(
    source: Source, ledger: Ledger, lenient: bool = False, max_broken_fraction: float = MAX_BROKEN_FRACTION
) -> Iterator[dict]:
    """
    Read the battles of a source, in its order. Broken rows go into the ledger.

    Args:
        source (`Source`): Where the votes are.
        ledger (`Ledger`): Records every row, change and removal.
        lenient (`bool`): For prediction, see [`read_battles`].
        max_broken_fraction (`float`): The fraction of broken rows above which the source is refused.

    Yields:
        Rows of [`BATTLE_FEATURES`].

    Raises:
        UserError: If a file is not what its name says, of an unknown format, without rows, with too many broken ones,
            or if votes are blank and `blank_winner` does not say what that means. One message counts all errors and
            shows the first few with row and column (row 1 is the first below the header).
    """
    path, origin = download(source.path, source.file)
    source.license = source.license or origin.pop("license", None)
    ledger.origins[source.name] = {"license": source.license, **origin, "sha256": {}}
    formats, changes = LENIENT_FORMATS if lenient else FORMATS, ledger.changes[source.name]
    seen: set[str] = set()
    num_made_ids: Counter = Counter()
    errors: list[str] = []
    blank_rows: list[int] = []
    for file in find_files(path, source.file):
        ledger.origins[source.name]["sha256"][file.name] = file_fingerprint(file.path)
        rows = _readable(read_rows(file), file.path)
        fmt = _find_format(source.format, formats, file.path, columns=next(rows))
        for row, problem in rows:
            ledger.num_rows[source.name] += 1
            number, battle_id = ledger.num_rows[source.name], row.get(fmt.id)
            try:
                if problem is not None:
                    reason, colon, details = problem.partition(":")
                    raise RowError(reason, colon + details)
                battle = to_battle(row, fmt, source.name, changes, source.blank_winner)
                if battle_id is None:  # the id is a hash of the texts, which may have several votes
                    num_made_ids[battle["id"]] += 1
                    battle["id"] += f"-{num_made_ids[battle['id']]}"
                battle_id = battle["id"]
                if battle_id in seen:
                    raise RowError(f"column {fmt.id}: an earlier row has the same id")
            except BlankVote as error:
                blank_rows.append(number)
                ledger.remove(source.name, number, battle_id, error.reason, row)
            except RowError as error:
                errors.append(f"row {number} (id {battle_id}), {error}")
                ledger.remove(source.name, number, battle_id, error.reason, row)
            else:
                seen.add(battle_id)
                yield battle
    num_rows = ledger.num_rows[source.name]
    if blank_rows and source.blank_winner != "drop":
        raise UserError(
            f"{source.path}: {len(blank_rows)} of {num_rows} votes are blank, the first in row {blank_rows[0]}. One "
            "circulating copy of chatbot_arena_conversations has blanks for 'tie (bothbad)'. Say what they mean with "
            "blank_winner: tie, or drop these rows with blank_winner: drop"
        )
    if len(errors) > max_broken_fraction * num_rows:
        shown = errors[:NUM_ERRORS_SHOWN]
        if len(errors) > NUM_ERRORS_SHOWN:
            shown.append(f"and {len(errors) - NUM_ERRORS_SHOWN} more")
        raise UserError(shown, f"{source.path}: {len(errors)} error{'s' * (len(errors) > 1)} in {num_rows} rows:")
    if not num_rows and not lenient:
        raise UserError(f"{source.path}: has no rows")


def read_sources(sources: Iterable[Source], ledger: Ledger) -> Iterator[dict]:
    """
    Read the battles of several sources as [`read_source`].

    Raises:
        UserError: After the last source, with what is wrong with any of them.
    """
    problems = []
    for source in sources:
        try:
            yield from read_source(source, ledger)
        except UserError as error:
            problems.append(str(error))
    if problems:
        problems[-1] += "\nNothing was written."
        raise UserError(problems)


def read_battles(path: str | Path, lenient: bool = False) -> tuple[list[dict], Counter]:
    """
    Read all battles of a file.

    Args:
        path (`str` or `Path`): The file.
        lenient (`bool`): For prediction, where every id must get an answer: votes may be missing, cells that are not
            a JSON list are read as one turn of text, and missing turns are filled with empty text. All are counted.

    Returns:
        `tuple[list[dict], Counter]`: The battles in file order, and how often each change was made.

    Raises:
        UserError: As [`read_source`], and if any row is broken.
    """
    source, ledger = Source(str(path)), Ledger()
    battles = list(read_source(source, ledger, lenient, max_broken_fraction=0))
    return battles, ledger.changes[source.name]


def _find_format(name: str | None, formats: dict[str, Format], path: Path, columns: list[str]) -> Format:
    """The format with this name, or the first one whose columns the file has."""
    needed = {known: (*fmt.columns, *fmt.vote_columns) for known, fmt in formats.items()}
    missing = {known: [column for column in needed[known] if column not in columns] for known in needed}
    candidates = [name] if name is not None and name in formats else list(formats)
    matching = [known for known in candidates if not missing[known]]
    if matching:
        return formats[matching[0]]
    nearest = min(candidates, key=lambda known: len(missing[known]) / len(needed[known]))
    listed = "\n".join(f"  {known}: {', '.join(needed[known])}" for known in formats)
    raise UserError(
        f"{path}: not a file of battles: column{'s' * (len(missing[nearest]) > 1)} {', '.join(missing[nearest])} "
        f"missing. It has {_shorten_names(columns)}. The columns of each format are\n{listed}"
    )


def _shorten_names(columns: list[str]) -> str:
    names = ascii(", ".join(map(str, columns)))
    return names if len(names) < 200 else names[:200] + "..."


def _readable(rows: Iterator[Any], path: Path) -> Iterator[Any]:
    """The rows, with one message for whatever a reader raises at unexpected bytes."""
    number = -1  # the first item holds the names of the columns
    try:
        for number, row in enumerate(rows):  # noqa: B007
            yield row
    except READ_ERRORS as error:
        kind = "".join(path.suffixes).lstrip(".").upper()
        raise UserError(f"{path}: damaged, or not a {kind} file: {error} after row {max(number, 0)}") from error
