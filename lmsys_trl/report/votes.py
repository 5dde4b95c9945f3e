"""What a report is about: the votes, what is known of their battles, and each judge's predictions of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..artifacts import file_fingerprint, strip_local_paths
from ..battle import prompt_group
from ..data.config import BattlesConfig
from ..data.dataset import load_battles
from ..data.dedup import item_key
from ..data.inputs import labelled_battles, original_votes
from ..errors import UserError, collect_problems, raise_problems
from ..predictions.features import features_table
from ..predictions.table import (
    PROBABILITIES,
    VOTE_COLUMNS,
    best_order,
    has_vote,
    is_distribution,
    load_predictions,
    load_predictions_of_all,
    vote_columns,
    vote_fractions,
)


@dataclass
class JudgePredictions:
    """
    One judge's predictions, in the order of the votes.

    Args:
        orders (`dict[str, ndarray]`): "ab", "ba" and "mean" -> probabilities of shape `(battles, 3)`, in terms of the
            battle as given, NaN where an order was not predicted.
        num_tokens (`ndarray`): The length of each battle's example, of shape `(battles,)`.
    """

    orders: dict[str, np.ndarray]
    num_tokens: np.ndarray

    @property
    def final(self) -> np.ndarray:
        """The mean of both orders if there is one, else the order given; of shape `(battles, 3)`."""
        return np.where(np.isnan(self.orders["mean"]), self.orders["ab"], self.orders["mean"])

    @property
    def complete_orders(self) -> dict[str, np.ndarray]:
        """The orders in which all battles were predicted."""
        return {order: predictions for order, predictions in self.orders.items() if not np.isnan(predictions).any()}

    @property
    def has_both_orders(self) -> np.ndarray:
        """The battles that were predicted in both orders, as a boolean mask of shape `(battles,)`."""
        return ~np.isnan(self.orders["ab"] + self.orders["ba"]).any(axis=1)


def votes_table(battles: list[dict]) -> pd.DataFrame:
    """
    Args:
        battles (`list[dict]`): Battles with a vote, with a `group` or not.

    Returns:
        `DataFrame`: By id: [`VOTE_COLUMNS`], `group`, `item` and `swapped` as returned by [`item_key`], `turns`,
        `source`, `language`, `identical`, `model_a`, `model_b`.
    """
    rows = []
    for battle in battles:
        item, swapped = item_key(battle)
        rows.append(
            {
                "id": battle["id"],
                **dict(zip(VOTE_COLUMNS, battle["vote"], strict=True)),
                "group": prompt_group(battle),
                "item": item,
                "swapped": swapped,
                "turns": len(battle["prompt"]),
                "identical": battle["response_a"] == battle["response_b"],
                **{key: battle.get(key) for key in ("source", "language", "model_a", "model_b")},
            }
        )
    return pd.DataFrame(rows).set_index("id")


def votes_from_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """The votes of a predictions file, by id: [`VOTE_COLUMNS`], and `group`, the id itself where none is known."""
    votes = predictions[has_vote(predictions)].drop_duplicates("id").set_index("id", drop=False)
    if votes.empty:
        raise UserError("predictions: the first file has no votes. Name them with --test_file or --dataset_name")
    groups = votes["group"].fillna(votes["id"]) if "group" in votes else votes["id"]
    return pd.DataFrame(vote_columns(vote_fractions(votes)), votes.index).assign(group=groups)


def load_votes(
    config: BattlesConfig, paths: list[str], files: dict[str, pd.DataFrame]
) -> tuple[list[dict], pd.DataFrame, str | list[str]]:
    """
    Load the votes of a report.

    Args:
        config (`BattlesConfig`): Where the battles are. If it names none, the first predictions file has the votes.
        paths (`list[str]`), files (`dict[str, DataFrame]`): Predictions files, and their tables.

    Returns:
        `tuple[list[dict], DataFrame, str | list[str]]`: The battles (empty if there are only predictions), the votes
        as made by [`votes_table`], and the fingerprint of the data or of each predictions file.
    """
    if not config.test_file and not config.dataset_name:
        votes = votes_from_predictions(next(iter(files.values())))
        return [], votes, [file_fingerprint(path) for path in paths]
    battles, fingerprint = labelled_battles(config)
    return battles, votes_table(battles), fingerprint


def baseline_features(battles: list[dict], votes: pd.DataFrame) -> pd.DataFrame:
    """What baselines predict from: as [`features_table`], or votes and `group` alone if no texts are known."""
    if battles:
        return features_table(battles)
    return votes[[*VOTE_COLUMNS, "group"]].assign(winner=None)


def training_split(config: BattlesConfig) -> dict[str, pd.DataFrame | None]:
    """The features of the data set whose validation split is looked at, as those of a judge; nothing of a file."""
    if config.dataset_name is None:
        return {}
    return {"": features_table(original_votes(load_battles(config.dataset_name)["train"]))}


def read_known_probabilities(path: str | None, ids: pd.Index) -> np.ndarray | None:
    """
    The probabilities that votes were drawn from, of shape `(battles, 3)`.

    Args:
        path (`str`, *optional*): A CSV with `id` and the three probabilities.
        ids (`Index`): The ids of the battles.

    Raises:
        UserError: If it is not such a file, or battles are missing.
    """
    if path is None:
        return None
    known = load_predictions(path)
    known = known[known["order"] == best_order(known)].set_index("id")
    missing = ids.difference(known.index)
    if len(missing):
        raise UserError(f"known_probabilities: {path} lacks {len(missing)} of the battles, the first {missing[0]}")
    return known.loc[ids, PROBABILITIES].to_numpy()


def read_predictions(paths: list[str]) -> dict[str, pd.DataFrame]:
    """
    Read predictions files.

    Returns:
        `dict[str, DataFrame]`: A table for each judge, by its file's path (its folder's for `predictions.parquet`), or
        by the name that a report of several judges has written.

    Raises:
        UserError: If files cannot be read, are not predictions files, or have the same name.
    """
    tables: dict[str, pd.DataFrame] = {}
    problems: list[str] = []
    for path in paths:
        judge = strip_local_paths(path).removesuffix(".parquet").removesuffix("/predictions")
        with collect_problems(problems):
            for name, table in load_predictions_of_all(path).items():
                name = name or judge
                if name in tables:
                    problems.append(f"predictions {path}: another file has predictions of {name} too. Rename the file")
                tables[name] = table
    raise_problems(problems)
    return tables


def judge_predictions(name: str, predictions: pd.DataFrame, votes: pd.DataFrame) -> JudgePredictions:
    """
    Match a judge's predictions with the votes.

    Args:
        name (`str`): What messages call the judge.
        predictions (`DataFrame`): A predictions table. Its battles without a vote are skipped.
        votes (`DataFrame`): As made by [`votes_table`].

    Raises:
        UserError: If battles are predicted twice, not at all, or with other votes, or if probabilities are invalid.
    """
    problems = []
    labelled = predictions[has_vote(predictions) | predictions["id"].isin(votes.index)]
    ids = pd.Index(labelled["id"])
    for what, affected in (
        ("predicted twice", ids[labelled.duplicated(["id", "order"])]),
        ("not predicted", votes.index.difference(ids[labelled["order"].isin(["ab", "mean"])])),
        ("not among the votes", ids.difference(votes.index)),
    ):
        if len(affected):
            problems.append(f"{len(affected)} battles are {what}, the first with id {affected[0]}")
    known = labelled[has_vote(labelled) & labelled["id"].isin(votes.index)]
    other = known[~np.isclose(vote_fractions(known), votes[VOTE_COLUMNS].reindex(known["id"])).all(axis=1)]
    if len(other):
        problems.append(
            f"{other['id'].nunique()} battles have another vote than the file of battles, the first with id "
            f"{other['id'].iloc[0]}"
        )
    values = labelled[PROBABILITIES].to_numpy()
    invalid = labelled[~is_distribution(values)]
    if len(invalid):
        problems.append(
            f"the probabilities in {len(invalid)} rows are negative or do not sum to 1, the first with id "
            f"{invalid['id'].iloc[0]}"
        )
    raise_problems(problems, f"predictions of {name} (each judge must predict the same battles):")
    by_order = {order: rows.set_index("id").reindex(votes.index) for order, rows in labelled.groupby("order")}
    nothing = np.full((len(votes), 3), np.nan)
    lengths = labelled.drop_duplicates("id").set_index("id")["num_tokens"]
    return JudgePredictions(
        orders={
            order: by_order[order][PROBABILITIES].to_numpy() if order in by_order else nothing
            for order in ("ab", "ba", "mean")
        },
        num_tokens=lengths.reindex(votes.index).to_numpy(),
    )
