"""Forecasts that need no judge: what a judge must beat."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .battle import WINNERS, first_prompt

FEATURES_FILE = "baseline_features.parquet"

_STYLE = {  # what people see at a glance, besides the length
    "lines": re.compile(r"\n"),
    "list_items": re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE),
    "headings_and_bold": re.compile(r"^#|\*\*", re.MULTILINE),
    "code": re.compile(r"```"),
    "digits": re.compile(r"\d"),
}


def battle_features(battle: dict) -> dict[str, float]:
    """Length and style of a battle's texts as numbers: counts on a log scale, and A's less B's."""
    prompt, a, b = ("\n".join(turn or "" for turn in battle[key]) for key in ("prompt", "response_a", "response_b"))
    features = {
        "turns": len(battle["prompt"]),
        "prompt_length": math.log1p(len(prompt)),
        "mean_length": (math.log1p(len(a)) + math.log1p(len(b))) / 2,
        "length_difference": math.log1p(len(a)) - math.log1p(len(b)),
        "identical": float(a == b),
        "empty_difference": float(not a.strip()) - float(not b.strip()),
    }
    for name, pattern in _STYLE.items():
        counts = [math.log1p(len(pattern.findall(text))) for text in (a, b)]
        features[f"{name}_difference"] = counts[0] - counts[1]
    return features


def features_table(battles: Iterable[dict]) -> pd.DataFrame:
    """One row a battle: its features, `winner`, and `group`, a hash of the first prompt. It holds no text."""
    rows = [
        {
            **battle_features(battle),
            "winner": battle["winner"],
            "group": sha256(first_prompt(battle).encode()).hexdigest(),
        }
        for battle in battles
    ]
    return pd.DataFrame(rows)


def save_features(battles: Iterable[dict], adapter: Path) -> None:
    """Keep the training votes as features beside the adapter, so that any later report has its baselines."""
    features_table(battles).to_parquet(adapter / FEATURES_FILE, index=False)


def baseline_forecasts(table: pd.DataFrame, training: pd.DataFrame | None) -> tuple[dict[str, np.ndarray], str]:
    """
    Args:
        table (`DataFrame`): The battles to forecast, as made by [`features_table`], or `winner` and `group` alone:
            then there is no logistic regression.
        training (`DataFrame`, *optional*): The judge's training battles. Without them each battle is forecast from
            the others in `table`, those of the same first prompt left out.

    Returns:
        `tuple[dict[str, ndarray], str]`: Probabilities of shape `(battles, 3)` by name of the baseline, and a
        sentence that says on what they were fitted.
    """
    forecasts, fits = {"uniform": np.full((len(table), 3), 1 / 3)}, {"class_prior": _class_prior}
    if len(table.columns) > 2:
        fits["logistic_regression"] = _logistic_regression
    if training is not None:
        forecasts |= {name: fit(training, table) for name, fit in fits.items()}
        return forecasts, f"fitted on the judge's {len(training)} training votes"
    num_folds = min(5, table["group"].nunique())
    for name, fit in fits.items():
        forecasts[name] = np.full((len(table), 3), 1 / 3)
        if num_folds > 1:
            for others, fold in GroupKFold(num_folds).split(table, groups=table["group"]):
                forecasts[name][fold] = fit(table.iloc[others], table.iloc[fold])
    return forecasts, f"cross-fitted by prompt on the {len(table)} votes of this report, in {num_folds} folds"


def _class_prior(training: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    wins = Counter(training["winner"])
    counts = np.array([wins[winner] + 1 for winner in WINNERS])  # one more each, so that none is impossible
    return np.tile(counts / counts.sum(), (len(table), 1))


def _logistic_regression(training: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    forecast = _class_prior(training, table)
    if training["winner"].nunique() < 2:
        return forecast
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    features = training.columns.drop(["winner", "group"])
    model.fit(training[features], training["winner"])
    seen = [WINNERS.index(winner) for winner in model.classes_]
    # A winner that the training votes never had keeps its share of the prior.
    forecast[:, seen] = model.predict_proba(table[features]) * forecast[:, seen].sum(axis=1, keepdims=True)
    return forecast
