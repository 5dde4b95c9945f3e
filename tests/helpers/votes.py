"""Votes in files, and tables of simulated predictions."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd

from lmsys_trl.battle import WINNERS, winner_of
from lmsys_trl.predictions.table import PROBABILITIES, predictions_table


def write_votes(path: Path, battles: list[dict]) -> Path:
    """A Kaggle-format CSV file."""
    texts = ("prompt", "response_a", "response_b")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "model_a", "model_b", *texts, *PROBABILITIES])
        for battle in battles:
            models, winner = (battle["model_a"], battle["model_b"]), winner_of(battle["vote"])
            contents = [json.dumps(battle[key]) for key in texts]
            writer.writerow([battle["id"], *models, *contents, *(int(winner == name) for name in WINNERS)])
    return path


def simulated(num_battles: int, num_members: int, seed: int = 0) -> np.ndarray:
    """Random predictions of several judges, of shape `(battles, members, 3)`."""
    logits = np.random.default_rng(seed).normal(size=(num_battles, num_members, 3))
    return np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)


def draw(probabilities: np.ndarray, seed: int = 1) -> np.ndarray:
    """Votes drawn from probabilities of shape `(battles, 3)`, as indices into `WINNERS`."""
    return (np.random.default_rng(seed).random((len(probabilities), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)


def table(probabilities, lengths=None, order="ab", labels=None, ids=None) -> pd.DataFrame:
    """A predictions table with two battles in each group."""
    rows = [
        {
            "id": ids[i] if ids else f"b{i}",
            "order": order,
            **dict(zip(PROBABILITIES, triple, strict=True)),
            "winner": WINNERS[labels[i]] if labels is not None else None,
            "num_tokens": lengths[i] if lengths is not None else 100,
            "group": f"g{i // 2}",
        }
        for i, triple in enumerate(probabilities)
    ]
    return predictions_table(rows)
