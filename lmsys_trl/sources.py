"""Files of votes -> battles. Every format is read into the one schema of `battle.py`."""

import csv
import json
from collections import Counter
from pathlib import Path

from .battle import WINNERS, replace_surrogates

TURN_COLUMNS = ("prompt", "response_a", "response_b")
WINNER_COLUMNS = tuple(f"winner_{winner}" for winner in WINNERS)
NUM_ERRORS_SHOWN = 5

csv.field_size_limit(2**31 - 1)


def read_kaggle_csv(path: str | Path, patient: bool = False) -> tuple[list[dict], Counter]:
    """
    Read a CSV file in the columns of the [LMSYS competition](https://www.kaggle.com/competitions/lmsys-chatbot-arena).

    `prompt`, `response_a` and `response_b` hold a JSON list with one entry a turn. A turn may be `null`; other values
    that are not text become their JSON text; an empty list is one missing turn; lone surrogates, and bytes that are
    not UTF-8, become U+FFFD.

    Args:
        path (`str` or `Path`): The file.
        patient (`bool`): For prediction, where every id must get an answer: votes may be missing, cells that are no
            JSON list are taken as one turn of text, and missing turns are filled with empty text. All are counted.

    Returns:
        `tuple[list[dict], Counter]`: The battles in file order, and how often each change was made.

    Raises:
        ValueError: If the file is not such a CSV. One message counts all that is wrong and shows the first few with
            row and column (row 1 is the first below the header).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    battles, changes, errors, ids = [], Counter(), [], Counter()
    # Bytes that are not UTF-8 come in as lone surrogates, which `_clean` counts and replaces.
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file, strict=True)
        row = 0
        try:
            _check_header(path, reader.fieldnames, patient)
            for row, cells in enumerate(reader, start=1):  # noqa: B007
                if None in cells or None in cells.values():
                    expected = len(reader.fieldnames)
                    found = expected + len(cells.get(None, [])) - list(cells.values()).count(None)
                    errors.append(f"row {row}: {found} cells where the header has {expected}")
                    continue
                battle, problems = _to_battle(cells, path.stem, patient, changes)
                ids[battle["id"]] += 1
                if ids[battle["id"]] > 1:
                    problems.append(f"column id: {battle['id']!r} stands in an earlier row too")
                errors += [f"row {row} (id {battle['id']}), {problem}" for problem in problems]
                battles.append(battle)
        except csv.Error as error:
            raise ValueError(f"{path}: not a CSV file: {error} after row {row}") from error
    if errors:
        shown = "".join(f"\n  {error}" for error in errors[:NUM_ERRORS_SHOWN])
        more = f"\n  and {len(errors) - NUM_ERRORS_SHOWN} more" if len(errors) > NUM_ERRORS_SHOWN else ""
        raise ValueError(f"{path}: {len(errors)} error{'s' * (len(errors) > 1)} in {row} rows:{shown}{more}")
    if not battles and not patient:
        raise ValueError(f"{path}: the file has a header and no rows")
    return battles, changes


def _check_header(path: Path, columns: list[str] | None, patient: bool) -> None:
    required = ("id", *TURN_COLUMNS) if patient else ("id", *TURN_COLUMNS, *WINNER_COLUMNS)
    missing = [column for column in required if column not in (columns or [])]
    if missing:
        found = ascii(", ".join(columns or []))
        found = found if len(found) < 200 else found[:200] + "..."
        raise ValueError(
            f"{path}: not a CSV file of battles: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing from "
            f"its first line, which reads {found}"
        )


def _to_battle(cells: dict, source: str, patient: bool, changes: Counter) -> tuple[dict, list[str]]:
    problems = []
    battle = {"id": cells["id"], "source": source}
    if not cells["id"].strip() or cells["id"] != _clean(cells["id"], Counter()):
        problems.append("column id: empty, or not valid UTF-8")
    for column in ("model_a", "model_b"):
        battle[column] = _clean(cells[column], changes) if cells.get(column) else None
    for column in TURN_COLUMNS:
        try:
            battle[column] = _read_turns(cells[column], changes)
        except ValueError as error:
            if patient:
                changes["cells that are no JSON list, taken as one turn"] += 1
                battle[column] = [_clean(cells[column], changes)]
            else:
                problems.append(f"column {column}: {error}")
                battle[column] = None
    if not problems:
        num_turns = max(len(battle[column]) for column in TURN_COLUMNS)
        for column in TURN_COLUMNS:
            num_missing = num_turns - len(battle[column])
            if num_missing and patient:
                changes["missing turns, filled with empty text"] += num_missing
                battle[column] += [""] * num_missing
            elif num_missing:
                problems.append(f"column {column}: {len(battle[column])} turns where another column has {num_turns}")
    try:
        battle["winner"] = _read_winner([cells.get(column, "") for column in WINNER_COLUMNS])
    except ValueError as error:
        battle["winner"] = None
        if not patient:
            problems.append(f"columns {', '.join(WINNER_COLUMNS)}: {error}")
    return battle, problems


def _read_turns(cell: str, changes: Counter) -> list[str | None]:
    try:
        turns = json.loads(cell)
    except (ValueError, RecursionError):
        turns = None
    if not isinstance(turns, list):
        start = cell if len(cell) <= 40 else cell[:40] + "..."
        raise ValueError(f"expected a JSON list with one text a turn, found {ascii(start)}")
    if not turns:
        changes["empty lists, read as one missing turn"] += 1
        return [None]
    return [turn if turn is None else _read_turn(turn, changes) for turn in turns]


def _read_turn(turn, changes: Counter) -> str:
    if not isinstance(turn, str):
        changes["turns that are not text, kept as their JSON text"] += 1
        turn = json.dumps(turn, ensure_ascii=False)
    return _clean(turn, changes)


def _clean(text: str, changes: Counter) -> str:
    text, num_replaced = replace_surrogates(text)
    if num_replaced:
        changes["lone surrogates, replaced by U+FFFD"] += num_replaced
    return text


def _read_winner(cells: list[str]) -> str:
    try:
        votes = [float(cell) for cell in cells]
    except ValueError:
        votes = []
    if sorted(votes) != [0, 0, 1]:
        raise ValueError(f"expected one 1 and two 0, found {', '.join(ascii(cell[:20]) for cell in cells)}")
    return WINNERS[votes.index(1)]
