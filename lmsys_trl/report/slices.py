"""Where a judge is good and where it is not: slices, agreement between people, and the most confident mistakes."""

import numpy as np
import pandas as pd

from ..battle import WINNERS
from ..metrics.accuracy.accuracy import correct
from ..metrics.log_loss.log_loss import log_losses
from .bootstrap import GroupBootstrap
from .votes import Forecasts

MIN_BATTLES = 10  # smaller slices are counted together
NUM_MISTAKES = 8


def attributes(votes: pd.DataFrame, num_tokens: np.ndarray, whole_lengths: np.ndarray | None = None) -> pd.DataFrame:
    """
    Args:
        votes (`DataFrame`): As made by [`votes_table`] or [`votes_of_predictions`].
        num_tokens (`ndarray`): The length of each battle's row.
        whole_lengths (`ndarray`, *optional*): How long the rows would be if nothing were left out or cut.

    Returns:
        `DataFrame`: A row each battle and a column each attribute by which figures are sliced, as text.
    """
    table = {"vote": np.array(["A wins", "B wins", "tie"], dtype=object)[votes["label"]]}
    table["tokens"] = _ranges(num_tokens)
    if whole_lengths is not None:
        share = 1 - num_tokens / whole_lengths
        table["cut off"] = np.select(
            [share <= 0, share <= 0.25, share <= 0.5], ["nothing", "up to 25%", "25 to 50%"], "more"
        )
    if "turns" in votes:
        table["turns"] = votes["turns"].map(lambda turns: str(turns) if turns < 4 else "4 or more").to_numpy()
        table["answers"] = np.where(votes["identical"], "identical", "different")
        table["source"] = votes["source"].to_numpy()
        table["language"] = votes["language"].to_numpy()
        pairs = zip(votes["model_a"], votes["model_b"], strict=True)
        table["models"] = [" – ".join(sorted(pair)) if all(pair) else None for pair in pairs]
    return pd.DataFrame(table, index=votes.index)


def _ranges(lengths: np.ndarray) -> np.ndarray:
    """The quarter of the lengths in which each is, as `from–to`."""
    edges = np.unique(np.quantile(lengths, (0.25, 0.5, 0.75), method="lower"))
    quarters = np.searchsorted(edges, lengths, side="left")
    names = {q: f"{lengths[quarters == q].min()}–{lengths[quarters == q].max()}" for q in np.unique(quarters)}
    return np.array([names[q] for q in quarters], dtype=object)


def slice_figures(
    table: pd.DataFrame, labels: np.ndarray, finals: dict[str, np.ndarray], bootstrap: GroupBootstrap
) -> list[dict]:
    """
    Args:
        table (`DataFrame`): As made by [`attributes`].
        labels (`ndarray`): The votes.
        finals (`dict[str, ndarray]`): Each judge's forecasts, of shape `(battles, 3)`.
        bootstrap (`GroupBootstrap`): Of the same battles.

    Returns:
        `list[dict]`: For each slice `attribute`, `slice`, `num_battles`, and `log_loss` and `accuracy` by judge; the
        slices of an attribute worst first by the first judge's log loss. An attribute with one value is left out.
    """
    found = []
    for attribute in table:
        values = table[attribute].dropna()
        counts = values.value_counts()
        few = counts.index[counts < MIN_BATTLES]
        if len(few) > 1:
            values = values.mask(values.isin(few), f"{len(few)} others")
        names = sorted(values.unique())
        if len(names) < 2:
            continue
        parts = pd.Index(names).get_indexer(values.reindex(table.index))
        by_judge = {
            judge: (bootstrap.means(log_losses(final, labels), parts), bootstrap.means(correct(final, labels), parts))
            for judge, final in finals.items()
        }
        slices = [
            {
                "attribute": attribute,
                "slice": name,
                "num_battles": int((parts == i).sum()),
                "log_loss": {judge: losses[i] for judge, (losses, _) in by_judge.items()},
                "accuracy": {judge: hits[i] for judge, (_, hits) in by_judge.items()},
            }
            for i, name in enumerate(names)
        ]
        found += sorted(slices, key=lambda one: -next(iter(one["log_loss"].values()))["value"])
    return found


def agreement(votes: pd.DataFrame, finals: dict[str, np.ndarray], bootstrap: GroupBootstrap) -> dict | None:
    """
    How often people agree on the same item, in whichever order its answers stood, and what that leaves to a judge.

    Returns:
        `dict` or None: `num_battles` (votes on items that have several), `num_items`, `people` (the chance that
        another vote on the item is the same), `best_accuracy` and `best_log_loss` (what no forecast that is one for
        each item can surpass on these votes) and `judges`, with `accuracy` and `log_loss` of each on the same votes;
        None without such items.
    """
    if "item" not in votes:
        return None
    label = votes["label"].to_numpy()
    turned = np.where(votes["flipped"], np.array([1, 0, 2])[label], label)
    table = pd.DataFrame({"item": votes["item"].to_numpy(), "turned": turned})
    count = table.groupby("item")["turned"].transform("size").to_numpy()
    table["same"] = table.groupby(["item", "turned"])["turned"].transform("size")
    same, most = table["same"].to_numpy(), table.groupby("item")["same"].transform("max").to_numpy()
    several = count > 1
    if not several.any():
        return None
    return {
        "num_battles": int(several.sum()),
        "num_items": int(table["item"][several].nunique()),
        "people": bootstrap.mean((same - 1) / np.maximum(count - 1, 1), several),
        "best_accuracy": bootstrap.mean(most / count, several),
        "best_log_loss": bootstrap.mean(-np.log(same / count), several),
        "judges": {
            judge: {
                "accuracy": bootstrap.mean(correct(final, label), several),
                "log_loss": bootstrap.mean(log_losses(final, label), several),
            }
            for judge, final in finals.items()
        },
    }


def confident_mistakes(votes: pd.DataFrame, forecasts: Forecasts) -> list[dict]:
    """The ids, votes and forecasts of the wrong verdicts with the highest probability, one of each item."""
    labels, final = votes["label"].to_numpy(), forecasts.final
    wrong = ~correct(final, labels)
    order = np.argsort(-np.where(wrong, final.max(axis=1), -1), kind="stable")[: wrong.sum()]
    items = votes["item"].iloc[order] if "item" in votes else votes.index[order]
    order = order[~pd.Series(items).duplicated().to_numpy()][:NUM_MISTAKES]
    return [
        {
            "id": votes.index[i],
            "vote": WINNERS[labels[i]],
            "forecast": dict(zip(WINNERS, map(float, final[i]), strict=True)),
        }
        for i in order
    ]
