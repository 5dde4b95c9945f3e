"""Sources of votes -> battles; what was read, changed and removed goes into a ledger."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..artifacts import file_fingerprint
from ..battle import replace_surrogates
from ..errors import NUM_SHOWN, UserError
from .columns import TURN_COLUMNS, BlankVote, DroppedRow, Reading, RowError, where_it_ends
from .downloads import download
from .files import STANDARD_INPUT, DataFile, as_json, find_files, read_rows
from .formats import OWN_COLUMNS, Format, as_tuple, find_format, mapped_format
from .ledger import Ledger
from .rows import BLANK_TIE, ballots, kept_text, read_id, to_battle
from .source import ANSWERS, FIELDS, Source
from .texts import lists_of_turns

ANNOTATOR = "annotator"
SWAPPED_FROM = OWN_COLUMNS[-1]
NUM_ROWS_SEEN = 100  # rows that decide the format of a file
EXTRA = "fields that are not read"  # of a battle: those of its row, as JSON
MAX_BROKEN_FRACTION = 0.1  # a source with more broken rows is probably in another format


def read_source(
    source: Source,
    ledger: Ledger,
    lenient: bool = False,
    max_broken_fraction: float = MAX_BROKEN_FRACTION,
    with_extra: bool = False,
) -> Iterator[dict]:
    """
    Read the battles of a source, in its order. Broken rows go into the ledger.

    Args:
        source (`Source`): Where the votes are.
        ledger (`Ledger`): Records every row, change and removal.
        lenient (`bool`): For prediction, see [`read_battles`]. The path `-` is then JSONL from standard input.
        max_broken_fraction (`float`): The fraction of broken rows above which the source is refused.
        with_extra (`bool`): Give each battle [`EXTRA`].

    Yields:
        Rows of [`BATTLE_SCHEMA`], with what [`to_battle`] adds, and `kept`: the cells of the columns to keep.

    Raises:
        UserError: If a file is not what its name says, of an unknown format, without rows, with too many broken ones,
            or if votes are blank and `blank_winner` does not say what that means. One message counts all errors and
            shows the first few with row and column (row 1 is the first below the header).
    """
    is_stdin = lenient and source.path == "-"
    where = str(STANDARD_INPUT.path) if is_stdin else source.path
    path, origin = download(source.path, source.file)
    source.license = source.license or origin.pop("license", None)
    ledger.origins[source.name] = {"license": source.license, **origin, "sha256": {}}
    seen: set[str] = set()
    num_made_ids: Counter = Counter()
    errors: dict[str, list[str]] = {}
    blank_rows: list[str] = []
    met: set[str] = set()
    unused = ledger.unused.setdefault(source.name, [])
    files = [STANDARD_INPUT] if is_stdin else find_files(path, source.file)
    for file in files:
        name = file.path.relative_to(path).as_posix() if file.path != path and not is_stdin else file.name
        in_file = f"{name} " if len(files) > 1 else ""
        if not is_stdin:
            ledger.origins[source.name]["sha256"][name] = file_fingerprint(file.path)
        fmt, reading, rows = _open(file, source, lenient)
        reading.changes = ledger.changes[source.name]
        unused += [column for column in reading.unused if column not in unused]
        for place, (row, problem) in enumerate(rows, start=1):
            ledger.num_rows[source.name] = number = ledger.num_rows[source.name] + 1
            row_id = None
            if problem is None and not row.keys() <= reading.known:  # columns that the first rows do not have
                unused += [column for column in row if column not in reading.known and column not in unused]
                reading.known.update(row)
            try:
                if problem is not None:
                    reason, colon, details = problem.partition(":")
                    raise RowError(reason, colon + details)
                if not lenient and row.get(SWAPPED_FROM) and reading.known.issuperset(OWN_COLUMNS):
                    raise DroppedRow("a swapped copy of another row, whose vote it repeats")
                row_id = read_id(row, fmt)
                battles = _row_battles(row, row_id, fmt, source, reading)
                if with_extra:
                    extra = _extra_fields(row, fmt.used())
                    battles = [battle | {EXTRA: extra} for battle in battles]
                for battle in battles if row_id is None else ():  # a hash of the texts, which may have several votes
                    num_made_ids[battle["id"]] += 1
                    battle["id"] += f"-{num_made_ids[battle['id']]}"
                ids = {battle["id"] for battle in battles}
                if not seen.isdisjoint(ids):
                    raise RowError(
                        f"column {', '.join(as_tuple(fmt.paths.get('id', 'id')))}: an earlier row has the same id"
                    )
            except DroppedRow as error:
                ledger.remove(source.name, number, row_id, error.reason, row)
            except BlankVote as error:
                blank_rows.append(f"{in_file}row {place}")
                ledger.remove(source.name, number, row_id, error.reason, row)
            except RowError as error:
                known = "" if row_id is None else f" (id {row_id})"
                errors.setdefault(str(error), []).append(f"{in_file}row {place}{known}")
                ledger.remove(source.name, number, row_id, error.reason, row)
            else:
                seen |= ids
                yield from battles
        met |= reading.met
    if source.votes and not lenient:
        ledger.never_met[source.name] = sorted(set(source.votes) - met - {"yes", "on", "no", "off", "true", "false"})
    num_rows = ledger.num_rows[source.name]
    if num_rows and not lenient and num_rows in (len(blank_rows), ledger.changes[source.name][BLANK_TIE]):
        column = fmt.paths.get("vote") or ", ".join(fmt.fractions)
        raise UserError(
            f"{where}: all {num_rows} votes are blank: {column} holds none. Say where vote is with columns"
        )
    if blank_rows and source.blank_winner != "drop":
        _refuse_blank_votes(blank_rows, num_rows, fmt, where)
    if sum(map(len, errors.values())) > max_broken_fraction * num_rows:
        _refuse_broken_rows(errors, num_rows, max_broken_fraction, where)
    if not num_rows and not lenient:
        raise UserError(f"{where}: has no rows")


def _refuse_blank_votes(blank_rows: list[str], num_rows: int, fmt: Format, where: str) -> None:
    arena = (
        ". One circulating copy of chatbot_arena_conversations has blanks for 'tie (bothbad)'"
        if fmt.paths.get("conversation_a") == "conversation_a"
        else ""
    )
    raise UserError(
        f"{where}: {len(blank_rows)} of {num_rows} votes are blank, the first in {blank_rows[0]}{arena}. Say "
        "what they mean with blank_winner: tie, or drop these rows with blank_winner: drop"
    )


def _refuse_broken_rows(errors: dict[str, list[str]], num_rows: int, max_broken_fraction: float, where: str) -> None:
    """One message with the number of all errors, and the first few with their rows."""
    num_errors = sum(map(len, errors.values()))
    shown = [f"{_and_others(rows)}, {error}" for error, rows in list(errors.items())[:NUM_SHOWN]]
    if num_left := num_errors - sum(map(len, list(errors.values())[:NUM_SHOWN])):
        shown.append(f"and {num_left} more")
    hint = "" if max_broken_fraction else ". lmsys-trl prepare removes such rows and makes a data set of the others"
    raise UserError(shown, f"{where}: {num_errors} error{'s' * (num_errors > 1)} in {num_rows} rows{hint}:")


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


def read_battles(source: Source | str | Path, lenient: bool = False) -> tuple[list[dict], Counter]:
    """
    Read all battles of a file.

    Args:
        source (`Source`, `str` or `Path`): The file.
        lenient (`bool`): For prediction, where every id must get an answer: votes may be missing, cells that are not
            a JSON list where the others are become one turn of text, missing turns are filled with empty text, and
            images are left out. All are counted.

    Returns:
        `tuple[list[dict], Counter]`: The battles in file order, and how often each change was made.

    Raises:
        UserError: As [`read_source`], and if any row is broken.
    """
    source, ledger = source if isinstance(source, Source) else Source(str(source)), Ledger()
    battles = list(read_source(source, ledger, lenient, max_broken_fraction=0))
    return battles, ledger.changes[source.name]


def _and_others(rows: list[str]) -> str:
    """The first of some rows, and how many others there are."""
    return rows[0] if len(rows) == 1 else f"{rows[0]} and {len(rows) - 1} others"


def _open(file: DataFile, source: Source, lenient: bool) -> tuple[Format, Reading, Iterator[Any]]:
    """The format of a file, how its cells are read, and its rows. Its first rows decide."""
    rows = read_rows(file, source.max_size_gb, source.max_nesting)
    columns = next(rows)
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        named = ", ".join(name or "columns without a name" for name in repeated)
        raise UserError(f"{file.path}: columns: {named} occur twice. Rename one of each")
    first = list(islice(rows, NUM_ROWS_SEEN))
    if not columns and all(problem is not None for _, problem in first):
        raise UserError(f"{file.path}: " + (f"no row can be read. Row 1: {first[0][1]}" if first else "is empty"))
    columns = list(dict.fromkeys([*columns, *(name for row, problem in first if problem is None for name in row)]))
    reading = Reading(images=source.images, lenient=lenient)
    try:
        fmt = _format_of(source, columns, lenient)
        _refuse_dead_ends(fmt, source, [row for row, problem in first if problem is None], lenient)
        texts = [str(fmt.paths.get(column)) for column in TURN_COLUMNS]
        if "response_a" in fmt.paths and fmt.expand is None:
            reading.as_lists = lists_of_turns([row for row, problem in first if problem is None], texts)
    except (UserError, RowError) as error:
        raise UserError([f"{file.path}: {problem}" for problem in getattr(error, "problems", [str(error)])]) from error
    used = {*fmt.used(), *(source.keep or ())}
    ours = OWN_COLUMNS if set(OWN_COLUMNS) <= set(columns) else ()
    reading.unused = [replace_surrogates(name)[0] for name in columns if name not in used and name not in ours]
    reading.known = used.union(columns, ours)
    return fmt, reading, chain(first, rows)


def _refuse_dead_ends(fmt: Format, source: Source, rows: list[dict], lenient: bool) -> None:
    """Refuse paths into nested values that none of the first rows has: their cells would be read as empty."""
    needed = {"prompt", "id", *chain(*ANSWERS)} | (set() if lenient else set(source.columns or ()))
    problems = []
    for name in [name for name in FIELDS if name in needed and name in fmt.paths and rows and fmt.expand is None]:
        for path in as_tuple(fmt.paths[name]):
            nested = "." in path and not (name == "vote" and "*" in path)
            ends = [where_it_ends(row, path) for row in rows] if nested else []
            if ends and all(ends):
                fix = (
                    "Only a vote may be in several entries, *" if "*" in path else f"Say where {name} is with columns"
                )
                problems.append(f"{path} leads to nothing in the first {len(rows)} rows: {ends[0]}. {fix}")
    if problems:
        raise UserError(problems)


def _format_of(source: Source, columns: list[str], lenient: bool) -> Format:
    known = {*columns, ANNOTATOR}
    missing = [path for path in source.keep or () if not {path, path.split(".")[0]} & known]
    if missing:
        raise UserError(f"keep: there is no column {', '.join(missing)}. There are {', '.join(columns)}")
    if source.columns:
        base = find_format(source.format, columns, lenient) if source.format else None
        fmt = mapped_format(source.columns, base, columns, lenient)
    else:
        fmt = find_format(source.format, columns, lenient)
    return replace(fmt, votes=source.votes) if source.votes else fmt


def _extra_fields(row: dict, used: set[str]) -> str:
    """The fields of a row that are not read, as JSON."""
    return as_json({name: value for name, value in row.items() if name not in used})


def _row_battles(row: dict, row_id: str | None, fmt: Format, source: Source, reading: Reading) -> list[dict]:
    """The battles of a row: one for each vote on it. Whatever goes wrong is a [`RowError`]."""
    battles = []
    try:
        for part in fmt.expand(row) if fmt.expand else [row]:
            part_id = read_id(part, fmt) if fmt.expand else row_id
            for ballot in ballots(part, fmt, reading.lenient):
                battles.append(to_battle(part, part_id, ballot, fmt, source.name, reading, source.blank_winner))
        if not source.keep:
            return battles
        kept = {path: kept_text(row, path) for path in source.keep if path != ANNOTATOR}
        if ANNOTATOR in source.keep:  # which may be the name of a column with votes
            return [battle | {"kept": {**kept, ANNOTATOR: battle.get(ANNOTATOR)}} for battle in battles]
    except RowError:
        raise
    except KeyError as error:
        raise RowError(f"column {error.args[0]}: missing") from error
    except Exception as error:  # a row must not end the reading of all others, whatever is in it
        raise RowError("cannot be read", f": {type(error).__name__}: {error}") from error
    return [battle | {"kept": kept} for battle in battles]
