"""What a report is about: the votes, what is known of their battles, and each judge's forecasts of them."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pandas as pd

from ..battle import WINNERS, first_prompt
from ..duplicates import item_key
from ..predictions import PROBABILITIES, load_predictions
from ..provenance import without_folders


@dataclass
class Forecasts:
    """
    One judge's forecasts, in the order of the votes.

    Args:
        orders (`dict[str, ndarray]`): "ab", "ba" and "mean" -> probabilities of shape `(battles, 3)`, in terms of the
            battle as given, NaN where an order was not predicted.
        num_tokens (`ndarray`): The length of each battle's row.
    """

    orders: dict[str, np.ndarray]
    num_tokens: np.ndarray

    @property
    def final(self) -> np.ndarray:
        """The mean of both orders where there is one, else the order given: what the judge is taken to say."""
        return np.where(np.isnan(self.orders["mean"]), self.orders["ab"], self.orders["mean"])

    @property
    def whole(self) -> dict[str, np.ndarray]:
        """The orders in which all battles were predicted."""
        return {order: forecast for order, forecast in self.orders.items() if not np.isnan(forecast).any()}


def votes_table(battles: list[dict]) -> pd.DataFrame:
    """
    Args:
        battles (`list[dict]`): Labelled rows of [`BATTLE_FEATURES`], with a `group` or not.

    Returns:
        `DataFrame`: By id: `label` (index into `WINNERS`), `group`, `item` and `flipped` as of [`item_key`], `turns`,
        `source`, `language`, `identical`, `model_a`, `model_b`.
    """
    rows = []
    for battle in battles:
        item, flipped = item_key(battle)
        rows.append(
            {
                "id": battle["id"],
                "label": WINNERS.index(battle["winner"]),
                "group": battle.get("group") or sha256(first_prompt(battle).encode()).hexdigest(),
                "item": item,
                "flipped": flipped,
                "turns": len(battle["prompt"]),
                "identical": battle["response_a"] == battle["response_b"],
                **{key: battle.get(key) for key in ("source", "language", "model_a", "model_b")},
            }
        )
    return pd.DataFrame(rows).set_index("id")


def votes_of_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """The labelled votes of a predictions file, by id: `label`, and `group`, the id itself where none is known."""
    votes = predictions.dropna(subset=["winner"]).drop_duplicates("id").set_index("id", drop=False)
    if votes.empty:
        raise ValueError("predictions: the first file holds no votes. Name them with --test_file or --dataset_name")
    groups = votes["group"].fillna(votes["id"]) if "group" in votes else votes["id"]
    return pd.DataFrame({"label": votes["winner"].map(WINNERS.index), "group": groups}, index=votes.index)


def read_predictions(paths: list[str]) -> dict[str, pd.DataFrame]:
    """
    Returns:
        `dict[str, DataFrame]`: A table for each judge, by its file's path (its folder's for `predictions.parquet`), or
        by the name that a report of several judges has written.

    Raises:
        ValueError: If files can't be read, are no predictions, or have the same name.
    """
    tables, problems = {}, []
    for path in paths:
        try:
            table = load_predictions(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        name = without_folders(path).removesuffix(".parquet").removesuffix("/predictions")
        names = table["judge"] if "judge" in table else pd.Series(name, index=table.index)
        for name, rows in table.drop(columns="judge", errors="ignore").groupby(names, sort=False):
            if name in tables:
                problems.append(f"{path}: there are predictions named {name} already. Rename the file")
            tables[name] = rows
    if problems:
        raise ValueError("predictions: " + "; ".join(problems))
    return tables


def forecasts_of(name: str, predictions: pd.DataFrame, votes: pd.DataFrame) -> Forecasts:
    """
    Args:
        name (`str`): What messages call the judge.
        predictions (`DataFrame`): A predictions table; unlabelled battles in it are passed over.
        votes (`DataFrame`): As made by [`votes_table`].

    Raises:
        ValueError: If battles are predicted twice, not at all, with other votes, or with what are no probabilities.
    """
    problems = []
    labelled = predictions[predictions["winner"].notna() | predictions["id"].isin(votes.index)]
    ids = pd.Index(labelled["id"])
    for what, those in (
        ("predicted twice", ids[labelled.duplicated(["id", "order"])]),
        ("not predicted", votes.index.difference(ids[labelled["order"].isin(["ab", "mean"])])),
        ("not among the votes", ids.difference(votes.index)),
    ):
        if len(those):
            problems.append(f"{len(those)} battles are {what}, the first with id {those[0]}")
    known = labelled[labelled["winner"].notna() & labelled["id"].isin(votes.index)]
    other = known[known["winner"].map(WINNERS.index).to_numpy() != votes["label"].reindex(known["id"]).to_numpy()]
    if len(other):
        problems.append(f"{other['id'].nunique()} votes are others, the first with id {other['id'].iloc[0]}")
    values = labelled[PROBABILITIES].to_numpy()
    wrong = labelled[~(np.isclose(values.sum(axis=1), 1, atol=1e-3) & (values >= 0).all(axis=1))]
    if len(wrong):
        problems.append(
            f"{len(wrong)} rows are no probabilities that sum to 1, the first with id {wrong['id'].iloc[0]}"
        )
    if problems:
        raise ValueError(f"predictions of {name}: {'; '.join(problems)}. Predict the same battles with each judge")
    by_order = {order: rows.set_index("id").reindex(votes.index) for order, rows in labelled.groupby("order")}
    nothing = np.full((len(votes), 3), np.nan)
    lengths = labelled.drop_duplicates("id").set_index("id")["num_tokens"]
    return Forecasts(
        orders={
            order: by_order[order][PROBABILITIES].to_numpy() if order in by_order else nothing
            for order in ("ab", "ba", "mean")
        },
        num_tokens=lengths.reindex(votes.index).to_numpy(),
    )
