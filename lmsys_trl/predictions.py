"""Tables of forecasts, on disk and in memory."""

from pathlib import Path

import numpy as np
import pandas as pd

from .battle import WINNERS

PROBABILITIES = [f"winner_{winner}" for winner in WINNERS]
COLUMNS = {
    "id": "string",
    "order": "string",  # "ab" as given, "ba" exchanged, "mean" of both; always in terms of the battle as given
    **dict.fromkeys(PROBABILITIES, "float64"),
    "winner": "string",  # the vote, where there is one
    "num_tokens": "int64",  # of the rows that were read in the order given
    "fold": "Int64",
    "group": "string",  # battles of one group have the same first prompt, or one like it
}


def predictions_table(rows: list[dict]) -> pd.DataFrame:
    """Rows as from [`Judge.predict_battles`] as a table with the columns of a predictions file."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def probabilities_of(predictions: pd.DataFrame, order: str) -> np.ndarray:
    """The forecasts in one order, of shape `(battles, 3)`."""
    return predictions.loc[predictions["order"] == order, PROBABILITIES].to_numpy()


def best_order(predictions: pd.DataFrame) -> str:
    """ "mean" where battles were predicted in both orders, else "ab"."""
    return "mean" if (predictions["order"] == "mean").any() else "ab"


def load_predictions(path: str | Path) -> pd.DataFrame:
    """
    Read a predictions file. What the judge said of itself is in the table's `attrs["judge"]`.

    Raises:
        ValueError: If there is none, if it is no parquet file, or columns are missing.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"predictions {path}: there is no such file. recipes/predict.py makes it, as *.parquet")
    try:
        table = pd.read_parquet(path)
        table = table.astype({name: dtype for name, dtype in COLUMNS.items() if name in table})
    except (OSError, ValueError) as error:
        raise ValueError(f"predictions {path}: not a file of forecasts, or damaged: {error}") from error
    # A group is needed for a fit only, and a fold never.
    missing = [name for name in COLUMNS if name not in table and name not in ("fold", "group")]
    if missing:
        raise ValueError(f"predictions {path}: no columns {', '.join(missing)}. Make it with recipes/predict.py")
    return table


def votes_and_groups(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """
    What a fit needs besides the forecasts: the votes as indices into `WINNERS`, and the groups. A battle without a
    group is one of its own.
    """
    groups = rows["group"] if "group" in rows else pd.Series(pd.NA, rows.index, dtype="string")
    labels = np.array([WINNERS.index(winner) for winner in rows["winner"]], dtype=int)
    return labels, groups.fillna("id " + rows["id"]).to_numpy(dtype=str)


def save_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Write a predictions file (parquet), whole or not at all."""
    _save(path, predictions.to_parquet)


def save_submission(predictions: pd.DataFrame, path: Path) -> None:
    """Write `id` and the three probabilities of each battle as CSV: the mean of both orders where there are both."""
    _save(path, predictions.loc[predictions["order"] == best_order(predictions), ["id", *PROBABILITIES]].to_csv)


def _save(path: Path, write) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    write(draft, index=False)
    draft.replace(path)
