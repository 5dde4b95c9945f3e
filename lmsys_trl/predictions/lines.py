"""Predictions as JSON lines: one a battle, with the fields of its row that were not read."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from ..artifacts import atomic_write
from ..data.inputs import extra_fields
from .table import best_order


def prediction_lines(predictions: pd.DataFrame, battles: Iterable[dict]) -> Iterator[str]:
    """
    The lines of a predictions table: of the mean of both orders, if there are both. What is missing is left out.

    Args:
        predictions (`DataFrame`): As from [`Judge.predict_dataset`].
        battles (`Iterable[dict]`): What was predicted, in the same order, with the fields that are passed on.
    """
    rows = predictions[predictions["order"] == best_order(predictions)].drop(columns=["fold", "group"])
    for row, battle in zip(rows.astype(object).to_dict("records"), battles, strict=True):
        known = {name: value for name, value in row.items() if not pd.isna(value)}
        # ASCII, so that no text of a battle acts on a terminal.
        yield json.dumps({"id": row["id"], **extra_fields(battle), **known}) + "\n"


def save_lines(predictions: pd.DataFrame, battles: Iterable[dict], path: Path) -> None:
    """Write [`prediction_lines`] to a file, atomically."""
    with atomic_write(path) as draft, draft.open("w", encoding="utf-8") as file:
        file.writelines(prediction_lines(predictions, battles))
