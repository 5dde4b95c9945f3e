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
    "num_tokens": "int64",
    "fold": "Int64",
}


def predictions_table(rows: list[dict]) -> pd.DataFrame:
    """The rows of [`Judge.predict_battles`] as a table with the columns of a predictions file."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def probabilities_of(predictions: pd.DataFrame, order: str) -> np.ndarray:
    """The forecasts in one order, of shape `(battles, 3)`."""
    return predictions.loc[predictions["order"] == order, PROBABILITIES].to_numpy()


def save_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Write a predictions file (parquet), whole or not at all."""
    _save(path, predictions.to_parquet)


def save_submission(predictions: pd.DataFrame, path: Path) -> None:
    """Write `id` and the three probabilities of each battle as CSV: the mean of both orders where there are both."""
    order = "mean" if (predictions["order"] == "mean").any() else "ab"
    _save(path, predictions.loc[predictions["order"] == order, ["id", *PROBABILITIES]].to_csv)


def _save(path: Path, write) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    write(draft, index=False)
    draft.replace(path)
