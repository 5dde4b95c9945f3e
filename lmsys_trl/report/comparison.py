"""A judge's predictions of battles between models -> who wins how often, where, and how sure that is."""

from typing import Any

import numpy as np
import pandas as pd

from ..battle import prompt_group
from ..errors import UserError
from ..predictions.features import FEATURES, feature_matrix
from ..predictions.table import PROBABILITIES
from .bootstrap import GroupBootstrap, figure
from .length_control import length_controlled_win_rate
from .ratings import linked_groups, resampled_ratings, style_controlled_ratings

OUTCOMES = ("win", "loss", "tie")
NUM_EXAMPLES = 5  # of the clearest wins of each of two models
MUCH_LONGER = 1.25  # times the characters
DIFFERENCES = [place for place, name in enumerate(FEATURES) if name.endswith("_difference")]
FORMATTING = [FEATURES.index(f"{name}_difference") for name in ("list_items", "headings_and_bold", "code")]


def comparison_figures(battles: list[dict], predictions: pd.DataFrame) -> dict:
    """
    Compare models by a judge.

    Args:
        battles (`list[dict]`): As from [`pair_outputs`].
        predictions (`DataFrame`): A judge's predictions of them in both orders (`tta="swap"`).

    Returns:
        `dict`: `num_battles`, `num_groups` (of prompts); `flip_rate`, the fraction of verdicts that change when the
        answers are swapped; `pairs`, a list with `models` (two names), `num_battles`, `flip_rate`, and the `win_rate`
        of the first, in which a tie is half a win. With two models also what [`_details`] says; with more of them
        `models`, best first: `model`, `num_battles`, and figures: `rating` (Bradley-Terry from the probabilities, on
        the Elo scale with a mean of 1000), `style_controlled_rating` (at equal length and formatting), `win_rate`.
        A figure is as in a report.

    Raises:
        UserError: If there are no battles, or some were not predicted in both orders.
    """
    if not battles:
        raise UserError("battles: there are none to compare models by")
    probabilities = {order: _probabilities(battles, predictions, order) for order in ("ab", "ba", "mean")}
    verdicts = {order: rows.argmax(axis=1) for order, rows in probabilities.items()}
    mean = probabilities["mean"]
    points = mean[:, 0] + mean[:, 2] / 2  # a tie is half a win
    bootstrap = GroupBootstrap([prompt_group(battle) for battle in battles])
    flips = verdicts["ab"] != verdicts["ba"]
    names = list(dict.fromkeys(battle[side] for battle in battles for side in ("model_a", "model_b")))
    a, b = (np.array([names.index(battle[side]) for battle in battles]) for side in ("model_a", "model_b"))
    features = feature_matrix(battles)
    found: dict[str, Any] = {
        "num_battles": len(battles),
        "num_groups": bootstrap.num_groups,
        "flip_rate": bootstrap.mean(flips.astype(float)),
        "pairs": [],
    }
    for pair in dict.fromkeys(zip(a.tolist(), b.tolist(), strict=True)):
        places = np.flatnonzero((a == pair[0]) & (b == pair[1]))
        own = [battles[place] for place in places]
        details = _details(own, mean[places], features[places]) if len(names) == 2 else {}
        subset = np.isin(np.arange(len(battles)), places)
        found["pairs"].append(
            {
                "models": [names[k] for k in pair],
                "num_battles": len(places),
                "win_rate": bootstrap.mean(points, subset),
                "flip_rate": bootstrap.mean(flips.astype(float), subset),
                **details,
            }
        )
    if len(names) > 2:
        plain = resampled_ratings(a, b, np.ones(len(a), dtype=bool), mean, len(names), bootstrap)
        controlled = style_controlled_ratings(a, b, points, features[:, DIFFERENCES], len(names), bootstrap)
        models = [
            {
                "model": name,
                "num_battles": int((takes_part := (a == k) | (b == k)).sum()),
                "rating": figure(plain[0][k], plain[1][:, k]),
                "style_controlled_rating": figure(controlled[0][k], controlled[1][:, k]),
                "win_rate": bootstrap.mean(np.where(a == k, points, 1 - points), takes_part),
            }
            for k, name in enumerate(names)
        ]
        found["models"] = sorted(models, key=lambda model: -model["rating"]["value"])
    return found


def unlinked_models(battles: list[dict]) -> list[str]:
    """A note on models that no chain of battles links, so that one scale for all of them says nothing."""
    names, places = np.unique([[battle["model_a"], battle["model_b"]] for battle in battles], return_inverse=True)
    a, b = places.reshape(-1, 2).T
    groups = linked_groups(a, b, len(names))
    if not groups.any():  # all are in the first
        return []
    listed = " | ".join(", ".join(names[groups == group]) for group in np.unique(groups))
    return [f"No battle links these groups of models, whose ratings can't be compared with each other: {listed}"]


def _probabilities(battles: list[dict], predictions: pd.DataFrame, order: str) -> np.ndarray:
    """Of A, B and tie, of shape `(battles, 3)`."""
    rows = predictions[predictions["order"] == order].set_index("id")
    ids = [battle["id"] for battle in battles]
    missing = set(ids) - set(rows.index)
    if missing:
        raise UserError(
            f"predictions: {len(missing)} battles were not predicted in both orders, such as {min(missing)}"
        )
    return rows.loc[ids, PROBABILITIES].to_numpy()


def _details(battles: list[dict], mean: np.ndarray, features: np.ndarray) -> dict:
    """
    What is known of two models beyond the win rate.

    Args:
        battles (`list[dict]`): In all of them the first model is `model_a`.
        mean (`ndarray`): Probabilities in both orders, of shape `(battles, 3)`.
        features (`ndarray`): As from [`feature_matrix`].

    Returns:
        `dict`: Figures of the first model: `expected`: `win`, `loss`, `tie`, the means of the probabilities;
        `verdicts`: the same of the most likely outcomes; `length_controlled_win_rate`. `slices`: a list of
        `attribute`, `slice`, `num_battles` and `win_rate`. `clearest`: by model `id` and `probability` of clear wins.
    """
    models = [battles[0]["model_a"], battles[0]["model_b"]]
    bootstrap = GroupBootstrap([prompt_group(battle) for battle in battles])
    points, verdicts = mean[:, 0] + mean[:, 2] / 2, mean.argmax(axis=1)
    lengths = np.array(
        [[_num_characters(battle[side]) for side in ("response_a", "response_b")] for battle in battles]
    )
    return {
        "expected": {outcome: bootstrap.mean(mean[:, k]) for k, outcome in enumerate(OUTCOMES)},
        "verdicts": {outcome: bootstrap.mean((verdicts == k).astype(float)) for k, outcome in enumerate(OUTCOMES)},
        "length_controlled_win_rate": length_controlled_win_rate(points, lengths[:, 0] - lengths[:, 1], bootstrap),
        "slices": _slices(battles, models, lengths, features, points, bootstrap),
        "clearest": {
            model: [
                {"id": battles[place]["id"], "probability": float(mean[place, k])}
                for place in np.argsort(-mean[:, k], kind="stable")[:NUM_EXAMPLES]
                if verdicts[place] == k
            ]
            for k, model in enumerate(models)
        },
    }


def _slices(
    battles: list[dict],
    models: list[str],
    lengths: np.ndarray,
    features: np.ndarray,
    points: np.ndarray,
    bootstrap: GroupBootstrap,
) -> list[dict]:
    first, second = models
    ratio, formatting = (lengths[:, 0] + 1) / (lengths[:, 1] + 1), features[:, FORMATTING].sum(axis=1)
    attributes = {
        "length": np.select(
            [ratio > MUCH_LONGER, ratio < 1 / MUCH_LONGER],
            [f"{first} is longer", f"{second} is longer"],
            "about equal",
        ),
        "formatting": np.select(
            [formatting > 0, formatting < 0], [f"{first} has more", f"{second} has more"], "equal"
        ),
        "turns": np.array([str(len(battle["prompt"])) for battle in battles]),
    }
    rows = []
    for attribute, values in attributes.items():
        names, subsets = np.unique(values, return_inverse=True)
        for name, count, win_rate in zip(names, np.bincount(subsets), bootstrap.means(points, subsets), strict=True):
            rows.append({"attribute": attribute, "slice": str(name), "num_battles": int(count), "win_rate": win_rate})
    return rows


def _num_characters(turns: list[str | None]) -> int:
    return sum(len(turn or "") for turn in turns)
