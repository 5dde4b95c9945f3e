"""Length and style of battles as numbers: what baselines are fitted on, and what votes are compared with."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..artifacts import atomic_write
from ..battle import prompt_group, winner_of
from ..errors import UserError
from .table import VOTE_COLUMNS, has_vote, read_parquet

FEATURES_FILE, EARLIER_FILE = "baseline_features.parquet", "earlier_prompts.parquet"

_STYLE = {  # what annotators see at a glance, besides the length
    "lines": re.compile(r"\n"),
    "list_items": re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE),
    "headings_and_bold": re.compile(r"^#|\*\*", re.MULTILINE),
    "code": re.compile(r"```"),
    "digits": re.compile(r"\d"),
}


def battle_features(battle: dict) -> dict[str, float]:
    """Length and style of a battle's texts as numbers: counts on a log scale, and A's minus B's."""
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


FEATURES = tuple(battle_features({"prompt": [], "response_a": [], "response_b": []}))
_SIGNS_WHEN_SWAPPED = np.array([-1.0 if name.endswith("_difference") else 1.0 for name in FEATURES])


def feature_matrix(battles: Iterable[dict]) -> np.ndarray:
    """The features of battles, of shape `(battles, features)`."""
    return np.array([list(battle_features(battle).values()) for battle in battles]).reshape(-1, len(FEATURES))


def swap_features(features: np.ndarray) -> np.ndarray:
    """The features of the same battles with their answers swapped."""
    return features * _SIGNS_WHEN_SWAPPED


def features_of(battles: list[dict], predictions: pd.DataFrame) -> pd.DataFrame:
    """
    The features of the battles in a predictions table that have a vote, by id.

    Raises:
        UserError: If battles are missing, or have another first prompt.
    """
    by_id = {battle["id"]: battle for battle in battles}
    rows = predictions[has_vote(predictions)]
    missing = set(rows["id"]) - by_id.keys()
    others = [
        battle_id
        for battle_id, group in (zip(rows["id"], rows["group"], strict=True) if "group" in rows else ())
        if battle_id in by_id and group == group and group != prompt_group({**by_id[battle_id], "first_prompt": None})
    ]
    for problem, ids in (("lacks", missing), ("has another prompt for", set(others))):
        if ids:
            raise UserError(
                f"test_file or dataset_name: {problem} {len(ids)} of the predicted battles, such as {min(ids)}. Name "
                "the battles that were predicted"
            )
    return pd.DataFrame(feature_matrix(by_id.values()), list(by_id), FEATURES)


def features_table(battles: Iterable[dict]) -> pd.DataFrame:
    """
    One row per battle with a vote: its features, `winner`, [`VOTE_COLUMNS`], and `group`, a hash of the first prompt.
    No texts.
    """
    rows = [
        {
            **battle_features(battle),
            "winner": winner_of(battle["vote"]),
            **dict(zip(VOTE_COLUMNS, battle["vote"], strict=True)),
            # With a system text before the first prompt, which a data set keeps, and not as a file's reader has it.
            "group": prompt_group({**battle, "group": None, "first_prompt": None}),
        }
        for battle in battles
    ]
    return pd.DataFrame(rows)


def save_features(battles: Iterable[dict], adapter: Path, earlier: Path | None = None) -> None:
    """
    Save the features of the training battles beside the adapter, so that any later report has its baselines, and knows
    the prompts; those of the judge that the training started from as well.
    """
    if earlier is None:
        (adapter / EARLIER_FILE).unlink(missing_ok=True)  # of an earlier run in this folder
    else:
        known = sorted(load_training_prompts(earlier) or ())
        with atomic_write(adapter / EARLIER_FILE) as draft:
            pd.DataFrame({"group": known}, dtype="string").to_parquet(draft, index=False)
    with atomic_write(adapter / FEATURES_FILE) as draft:
        features_table(battles).to_parquet(draft, index=False)


def load_training_prompts(adapter: Path) -> set[str] | None:
    """Hashes of the first prompts of all battles that a judge was trained on, in any stage, or None if unknown."""
    training = load_features(adapter)
    if training is None:
        return None
    path = adapter / EARLIER_FILE  # which older judges lack
    earlier = read_parquet(path, "Train the judge again")["group"] if path.is_file() else ()
    return {*training["group"], *earlier}


def load_features(adapter: Path) -> pd.DataFrame | None:
    """The features of an adapter's training battles, or None if they were not saved. Damage is a [`UserError`]."""
    path = adapter / FEATURES_FILE
    if not path.is_file():
        return None
    return read_parquet(path, "Remove it: baselines are then fitted on votes of the report")
