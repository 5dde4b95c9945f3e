"""Where a judge is good and where it is not: slices, annotator agreement, and high-confidence errors."""

from typing import Any

import numpy as np
import pandas as pd

from ..battle import WINNERS, swap_probabilities, winner_of
from ..metrics.functions import correct, log_losses
from ..predictions.table import VOTE_COLUMNS
from .bootstrap import GroupBootstrap
from .votes import JudgePredictions

MIN_BATTLES = 10  # smaller slices are merged
NUM_ERRORS = 8
TRUNCATED = {  # the fraction of its tokens that an example lacks, at most
    0: "not truncated",
    0.25: "truncated by up to a quarter",
    0.5: "truncated by a quarter to a half",
    1: "truncated by more than half",
}


def battle_attributes(
    votes: pd.DataFrame, num_tokens: np.ndarray, complete_lengths: np.ndarray | None = None
) -> pd.DataFrame:
    """
    Describe battles by what figures are sliced by.

    Args:
        votes (`DataFrame`): As made by [`votes_table`] or [`votes_from_predictions`].
        num_tokens (`ndarray`): The length of each battle's example, of shape `(battles,)`.
        complete_lengths (`ndarray`, *optional*): How long the examples would be if nothing were dropped or truncated.

    Returns:
        `DataFrame`: A row for each battle and a column for each attribute, as text.
    """
    shares = votes[VOTE_COLUMNS].to_numpy()
    winner = np.array(["A wins", "B wins", "tie"], dtype=object)[shares.argmax(axis=1)]
    table: dict[str, Any] = {"vote": np.where(shares.max(axis=1) == 1, winner, "divided vote")}
    table["length"] = _ranges(num_tokens)
    if complete_lengths is not None:
        dropped = 1 - num_tokens / complete_lengths
        table["truncation"] = np.asarray(pd.cut(dropped, [-np.inf, *TRUNCATED], labels=list(TRUNCATED.values())))
    if "turns" in votes:
        turns = {1: "1 turn", 2: "2 turns", 3: "3 turns"}
        table["turns"] = votes["turns"].map(turns).fillna("4 turns or more").to_numpy()
        table["answers"] = np.where(votes["identical"], "identical answers", "different answers")
        table["source"] = votes["source"].to_numpy()
        table["language"] = votes["language"].to_numpy()
        pairs = zip(votes["model_a"], votes["model_b"], strict=True)
        # One name may be missing, which pandas makes NaN.
        known = (sorted(name for name in pair if isinstance(name, str) and name) for pair in pairs)
        table["pair of models"] = [" – ".join(pair) if len(pair) == 2 else None for pair in known]
    return pd.DataFrame(table, index=votes.index)


def _ranges(lengths: np.ndarray) -> np.ndarray:
    """The quarter of the lengths that each is in, as `60 to 90 tokens`."""
    edges = np.unique(np.quantile(lengths, (0.25, 0.5, 0.75), method="lower"))
    quarters = np.searchsorted(edges, lengths, side="left")
    names = {}
    for quarter in np.unique(quarters):
        low, high = lengths[quarters == quarter].min(), lengths[quarters == quarter].max()
        names[quarter] = f"{low:,} to {high:,} tokens" if low < high else f"{low:,} tokens"
    return np.array([names[q] for q in quarters], dtype=object)


def slice_figures(
    attributes: pd.DataFrame, labels: np.ndarray, finals: dict[str, np.ndarray], bootstrap: GroupBootstrap
) -> list[dict]:
    """
    Compute log loss and accuracy of each slice of the battles.

    Args:
        attributes (`DataFrame`): As made by [`battle_attributes`].
        labels (`ndarray`): The votes.
        finals (`dict[str, ndarray]`): Each judge's predictions, of shape `(battles, 3)`.
        bootstrap (`GroupBootstrap`): Of the same battles.

    Returns:
        `list[dict]`: For each slice `attribute`, `slice`, `num_battles`, and `log_loss` and `accuracy` by judge; the
        slices of an attribute worst first by the first judge's log loss. An attribute with one value is skipped.
    """
    slices = []
    for attribute in attributes:
        values = attributes[attribute].dropna()
        counts = values.value_counts()
        few = counts.index[counts < MIN_BATTLES]
        if len(few) > 1:
            values = values.mask(values.isin(few), f"{len(few)} others, each with few battles")
        names = sorted(values.unique())
        if len(names) < 2:
            continue
        subsets = pd.Index(names).get_indexer(values.reindex(attributes.index))
        losses = {judge: bootstrap.means(log_losses(final, labels), subsets) for judge, final in finals.items()}
        accuracies = {judge: bootstrap.means(correct(final, labels), subsets) for judge, final in finals.items()}
        by_name = [
            {
                "attribute": attribute,
                "slice": name,
                "num_battles": int((subsets == i).sum()),
                "log_loss": {judge: means[i] for judge, means in losses.items()},
                "accuracy": {judge: means[i] for judge, means in accuracies.items()},
            }
            for i, name in enumerate(names)
        ]
        slices += sorted(by_name, key=lambda entry: -next(iter(entry["log_loss"].values()))["value"])
    return slices


def annotator_agreement(votes: pd.DataFrame, finals: dict[str, np.ndarray], bootstrap: GroupBootstrap) -> dict | None:
    """
    How often annotators agree on the same item, in either order of its answers, and the upper bound that this sets
    for a judge.

    Args:
        votes (`DataFrame`): As made by [`votes_table`].
        finals (`dict[str, ndarray]`): Each judge's predictions, of shape `(battles, 3)`.
        bootstrap (`GroupBootstrap`): Of the same battles.

    Returns:
        `dict` or None: `num_battles` (votes on items that have several), `num_items`, `annotators` (the probability
        that another vote on the item is the same), `best_accuracy` and `best_log_loss` (the best that a judge with
        one prediction for each item can reach on these votes) and `judges`, with `accuracy` and `log_loss` of each
        on the same votes. None without such items.
    """
    if "item" not in votes:
        return None
    label = votes[VOTE_COLUMNS].to_numpy()
    same_order = np.where(votes["swapped"].to_numpy()[:, None], swap_probabilities(label), label)
    by_item = pd.DataFrame(same_order).groupby(votes["item"].to_numpy(), sort=False)
    count, sums = by_item[0].transform("size").to_numpy(), by_item.transform("sum").to_numpy()
    same = (same_order * (sums - same_order)).sum(axis=1)  # with the other votes
    several = count > 1
    if not several.any():
        return None
    return {
        "num_battles": int(several.sum()),
        "num_items": int(votes["item"][several].nunique()),
        "annotators": bootstrap.mean(same / np.maximum(count - 1, 1), several),
        "best_accuracy": bootstrap.mean(sums.max(axis=1) / count, several),
        "best_log_loss": bootstrap.mean(log_losses(sums / count[:, None], same_order), several),
        "judges": {
            judge: {
                "accuracy": bootstrap.mean(correct(final, label), several),
                "log_loss": bootstrap.mean(log_losses(final, label), several),
            }
            for judge, final in finals.items()
        },
    }


def high_confidence_errors(votes: pd.DataFrame, judge: JudgePredictions) -> list[dict]:
    """
    The `id`, `vote` and `prediction` of the wrong verdicts with the highest probability, one for each item. Wrong is a
    verdict for what has less of the vote than another.
    """
    shares, final = votes[VOTE_COLUMNS].to_numpy(), judge.final
    wrong = correct(final, shares == shares.max(axis=1, keepdims=True)) == 0
    order = np.argsort(-np.where(wrong, final.max(axis=1), -1), kind="stable")[: wrong.sum()]
    items = votes["item"].iloc[order] if "item" in votes else votes.index[order]
    order = order[~pd.Series(items).duplicated().to_numpy()][:NUM_ERRORS]
    return [
        {
            "id": votes.index[i],
            "vote": winner_of(shares[i])
            if shares[i].max() == 1
            else dict(zip(WINNERS, map(float, shares[i]), strict=True)),
            "prediction": dict(zip(WINNERS, map(float, final[i]), strict=True)),
        }
        for i in order
    ]
