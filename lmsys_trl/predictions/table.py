"""Tables of predictions, on disk and in memory."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..artifacts import atomic_write
from ..battle import WINNERS, vote_for
from ..data.columns import VOTE_COLUMNS, WINNER_COLUMNS
from ..errors import UserError, collect_problems, first_line, raise_problems
from ..outputs import check_shards, shards_of
from ..terminal import logger

PROBABILITIES = list(WINNER_COLUMNS)  # pandas selects columns by lists
ORDERS = ("ab", "ba", "mean")
PREDICTION_COLUMNS = {
    "id": "string",
    "order": "string",  # "ab" as given, "ba" swapped, "mean" of both; always in terms of the battle as given
    **dict.fromkeys(PROBABILITIES, "float64"),
    "model_a": "string",  # who answered, where that is known; in the order given, as the votes
    "model_b": "string",
    "winner": "string",  # of the vote, if there is one
    **dict.fromkeys(VOTE_COLUMNS, "float64"),  # the fractions of the vote, in older files the winner alone
    "num_tokens": "int64",  # of the examples that were read in the order given
    "fold": "Int64",
    "group": "string",  # battles of one group have the same first prompt, or a similar one
}

OPTIONAL_COLUMNS = ("model_a", "model_b", "fold", "group", *VOTE_COLUMNS)  # older files lack them
# Of the last example in the order given: tokens of its texts, and how many were read. Written if they are asked for.
LENGTH_COLUMNS = [
    "tokens_prompt", "kept_prompt", "tokens_a", "kept_a", "tokens_b", "kept_b", "turns_dropped",
]  # fmt: skip


def predictions_table(rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """Rows as from [`Judge.predict_battles`] as a table with the columns of a predictions file."""
    table = pd.DataFrame(rows)
    lengths = {name: "Int64" for name in LENGTH_COLUMNS if name in table}  # shards of older versions have none
    columns = {**PREDICTION_COLUMNS, **lengths}
    return table.reindex(columns=list(columns)).astype(columns)


def probabilities_of(predictions: pd.DataFrame, order: str) -> np.ndarray:
    """The predictions in one order, of shape `(battles, 3)`."""
    return predictions.loc[predictions["order"] == order, PROBABILITIES].to_numpy()


def best_order(predictions: pd.DataFrame) -> str:
    """ "mean" if battles were predicted in both orders, else "ab"."""
    return "mean" if (predictions["order"] == "mean").any() else "ab"


def load_predictions(path: str | Path) -> pd.DataFrame:
    """
    Read a predictions file, or a CSV with `id` and the three probabilities, of any judge. What a file says of the
    judge is in the table's `attrs["judge"]`.

    Raises:
        UserError: If there is none, if it is neither parquet nor CSV, if columns are missing, or if a row is not a
            prediction, or if it holds those of several judges.
    """
    tables = load_predictions_of_all(path)
    if len(tables) > 1:
        raise UserError(f"predictions {path}: holds those of {len(tables)} judges. Give a file of one")
    return next(iter(tables.values()))


def load_predictions_of_all(path: str | Path) -> dict[str | None, pd.DataFrame]:
    """What [`load_predictions`] reads, for each judge that a report has written into one file; else for None."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"predictions {path}: there is no such file. lmsys-trl predict makes it, as *.parquet")
    try:
        table = _read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        table = table.astype({name: dtype for name, dtype in PREDICTION_COLUMNS.items() if name in table})
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"predictions {path}: not a predictions file, or damaged: {error}") from error
    missing = [name for name in PREDICTION_COLUMNS if name not in table and name not in OPTIONAL_COLUMNS]
    if missing:
        raise UserError(f"predictions {path}: no columns {', '.join(missing)}. Make it with lmsys-trl predict")
    names = table.pop("judge") if "judge" in table else pd.Series(None, index=table.index)
    judges: list[str | None] = [*names.dropna().unique()] or [None]
    tables = {judge: table[names == judge] for judge in judges} if len(judges) > 1 else {judges[0]: table}
    problems = [problem for rows in tables.values() for problem in table_problems(rows)]
    if not len(table):
        problems = ["there are none in it"]
    judge = table.attrs.get("judge")
    if judge is not None and not (isinstance(judge, dict) and "calibrated" in judge):
        problems.append("what it says of its judge is damaged. Make it with lmsys-trl predict")
    raise_problems([f"predictions {path}: {problem}" for problem in problems])
    return tables


def _read_csv(path: Path) -> pd.DataFrame:
    """A submission as a table of predictions in the order given, without votes."""
    table = pd.read_csv(path, dtype={"id": "string"})
    return table if "order" in table else table.assign(order="ab", winner=None, num_tokens=0)


def read_parquet(path: Path, fix: str) -> pd.DataFrame:
    """A parquet file that this project wrote. Damage is a [`UserError`] that says the fix."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged: {first_line(error)}. {fix}") from error


def table_problems(table: pd.DataFrame) -> list[str]:
    """What is wrong with the rows of a predictions table: each with its count and the first id."""
    p = table[PROBABILITIES].to_numpy(dtype=float, na_value=np.nan)
    winner, shares = table["winner"], table.reindex(columns=VOTE_COLUMNS)
    wrong = {
        "rows without an id": table["id"].isna(),
        f"rows whose order is not one of {', '.join(ORDERS)}": ~table["order"].isin(ORDERS),
        "rows with the id and order of another one": table.duplicated(["id", "order"]),
        "rows in the order ba whose battle has none in the order ab": (table["order"] == "ba")
        & ~table["id"].isin(table["id"][table["order"] == "ab"]),
        "rows are not probabilities: finite, not negative, with the sum 1": ~is_distribution(p),
        f"rows whose winner is not one of {', '.join(WINNERS)}": winner.notna() & ~winner.isin(WINNERS),
        "rows whose vote is not fractions: finite, not negative, with the sum 1": shares.notna().any(axis=1)
        & ~is_distribution(shares.to_numpy(dtype=float)),
    }
    masks = {what: np.asarray(mask, dtype=bool) for what, mask in wrong.items()}
    return [
        f"{mask.sum()} {what}, the first with id {table['id'].iloc[mask.argmax()]}"
        for what, mask in masks.items()
        if mask.any()
    ]


def is_distribution(probabilities: np.ndarray) -> np.ndarray:
    """A boolean mask of the rows that are finite, not negative, and sum to 1. Shape `(rows, 3)` -> `(rows,)`."""
    finite = np.isfinite(probabilities).all(axis=1)
    return finite & (probabilities >= 0).all(axis=1) & (abs(probabilities.sum(axis=1) - 1) < 1e-3)


def load_all_predictions(paths: Sequence[str | Path]) -> list[pd.DataFrame]:
    """
    Read several predictions files.

    Raises:
        UserError: With the problems of all files.
    """
    tables: list[pd.DataFrame] = []
    problems: list[str] = []
    for path in paths:
        with collect_problems(problems):
            tables.append(load_predictions(path))
    raise_problems(problems)
    return tables


def warn_of_emptied(predictions: pd.DataFrame) -> None:
    """Warn of answers of which nothing was read, with the first id; predictions with [`LENGTH_COLUMNS`]."""
    table = predictions.reindex(columns=["id", *LENGTH_COLUMNS])
    emptied = [(table[f"tokens_{x}"] > 0) & (table[f"kept_{x}"] == 0) for x in "ab"]
    ids = table["id"][(emptied[0] | emptied[1]).fillna(False).astype(bool)]
    if len(ids):
        logger.warning(
            "Of %d battles an answer was truncated to nothing, the first with id %s: max_length is too small to judge "
            "them", len(ids), ids.iloc[0],
        )  # fmt: skip


def vote_columns(votes: Iterable[Sequence[float] | None]) -> dict[str, np.ndarray]:
    """Votes as the columns [`VOTE_COLUMNS`], NaN where there is none."""
    rows = [[np.nan] * 3 if vote is None or len(vote) == 0 else vote for vote in votes]
    return dict(zip(VOTE_COLUMNS, np.reshape(rows, (-1, 3)).T, strict=True))


def vote_fractions(table: pd.DataFrame) -> np.ndarray:
    """
    The fractions of each row's vote, of shape `(rows, 3)`, NaN where there is none. Where a table has a winner alone
    it has all of the vote.
    """
    of_winner = pd.DataFrame(vote_columns(None if pd.isna(winner) else vote_for(winner) for winner in table["winner"]))
    shares = table.reindex(columns=VOTE_COLUMNS).to_numpy(dtype=float)
    return np.where(np.isnan(shares), of_winner.to_numpy(), shares)


def has_vote(table: pd.DataFrame) -> np.ndarray:
    """A boolean mask of the rows with a vote."""
    return ~np.isnan(vote_fractions(table)).any(axis=1)


def other_votes(first: pd.DataFrame, rows: pd.DataFrame) -> pd.Index:
    """The ids that have different votes in two tables with a row for each."""
    one, two = (pd.DataFrame(vote_fractions(table), index=table["id"]) for table in (first, rows))
    one = one[~one.index.duplicated()].reindex(two.index)
    return two.index[((one - two).abs() > 1e-6).any(axis=1)]  # no comparison holds for NaN


def votes_and_groups(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """
    What a fit needs besides the predictions: the votes as [`vote_fractions`], and the groups. A battle without a
    group is one of its own.
    """
    groups = rows["group"] if "group" in rows else pd.Series(pd.NA, rows.index, dtype="string")
    return vote_fractions(rows), groups.fillna("id " + rows["id"]).to_numpy(dtype=str)


def check_output_file(path: Path, suffixes: tuple[str, ...] = (".csv", ".parquet")) -> list[str]:
    """Problems with a file that predictions are to be written to, and with the folder for their shards."""
    if path.suffix not in suffixes:
        return [f"output_file: expected a name that ends in {' or '.join(suffixes)}, found {path}"]
    if path.is_dir():
        return [f"output_file: {path} is a folder. Choose another name"]
    foreign = path.exists() and path.stat().st_size and not _is_ours(path)
    problem = f"output_file: {path} exists and holds no predictions, so it is not replaced. Choose another name"
    return [*([problem] if foreign else []), *check_shards(shards_of(path))]


def _is_ours(path: Path) -> bool:
    """Whether a file is a submission, and not a table of votes, or a predictions file."""
    try:
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as file:
                return {"id", "order", *PROBABILITIES} <= set(json.loads(file.readline()))
        if path.suffix == ".parquet":
            return {"id", "order", *PROBABILITIES} <= set(pq.read_schema(path).names)
        table = pd.read_csv(path, nrows=1000)
        votes = np.isin(table[PROBABILITIES].to_numpy(), (0, 1)).all() if set(PROBABILITIES) <= set(table) else False
        return list(table) == ["id", *PROBABILITIES] and not votes
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return False


def save_predictions_as(predictions: pd.DataFrame, path: Path) -> None:
    """Write a submission to a `.csv` file, a predictions file to any other."""
    (save_submission if path.suffix == ".csv" else save_predictions)(predictions, path)


def save_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Write a predictions file (parquet), atomically."""
    with atomic_write(path) as draft:
        predictions.to_parquet(draft, index=False)


def save_submission(predictions: pd.DataFrame, path: Path) -> None:
    """Write `id` and the three probabilities of each battle as CSV: the mean of both orders if there are both."""
    rows = predictions.loc[predictions["order"] == best_order(predictions), ["id", *PROBABILITIES]]
    with atomic_write(path) as draft:
        rows.to_csv(draft, index=False)
