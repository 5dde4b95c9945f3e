"""What votes say before any judge is trained: how far annotators agree, and what they favor."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from ..data.columns import VOTE_COLUMNS
from ..data.dedup import swap_where
from ..data.splits import sample_by_hash
from ..data.text_store import take_rows
from ..predictions.features import battle_features
from ..report.bootstrap import GroupBootstrap, figure

NUM_SAMPLED = 2000  # battles whose texts are looked at
MAX_VOTES = 30  # on one item, whose voters are compared
MAX_ANNOTATORS = 20
MIN_COUNTED = 10  # votes, below which a fraction says nothing
NUM_RESAMPLES = 200
FORMATTING = ("list_items_difference", "headings_and_bold_difference", "code_difference")


@dataclass
class VoteStatistics:
    """
    What votes say. A figure is a `dict` with `value`, `low` and `high`, a 95% interval.

    Args:
        num_votes (`int`), num_ties (`int`): Votes, and those for neither answer.
        favors (`dict[str, dict]`): How often the first, the longer and the more formatted answer wins, of the votes
            for one answer: figures with `battles`, their number.
        num_repeated (`int`): Items with several votes.
        num_contradictory (`int`): Those with votes for either answer.
        alpha (`dict`, *optional*): Krippendorff's alpha of the votes on the same item, a figure.
        annotators (`list[dict]`): Those with most votes: `name`, `votes`, and `agreement` with the others' votes on
            the same items, of which there are `compared`.
    """

    num_votes: int
    num_ties: int
    favors: dict[str, dict]
    num_repeated: int
    num_contradictory: int
    alpha: dict | None
    annotators: list[dict]

    def lines(self) -> list[str]:
        """The statistics as sentences."""
        lines = [f"{self.num_votes} votes, {self.num_ties / max(self.num_votes, 1):.0%} of them ties."]
        for name, wins in self.favors.items():
            lines.append(f"The {name} answer wins {_percent(wins)} of {wins['battles']} votes for one answer.")
        if self.num_repeated:
            lines.append(
                f"{self.num_repeated} items have several votes; on {self.num_contradictory} of them some are for A "
                "and some for B."
            )
        if self.alpha is not None:
            value, low, high = (self.alpha[key] for key in ("value", "low", "high"))
            lines.append(
                f"Krippendorff's alpha of the votes on the same item is {value:.2f} ({low:.2f} to {high:.2f}): 1 is "
                "full agreement, 0 what chance would give."
            )
        return lines


def vote_statistics(battles: pd.DataFrame, texts: pa.Table) -> VoteStatistics:
    """
    Compute what votes say.

    Args:
        battles (`DataFrame`): As from [`store_battles`], before repeated battles are removed.
        texts (`Table`): Their texts.
    """
    # In one order of an item's answers, so that votes on it can be compared.
    votes = swap_where(battles["flipped"], battles[VOTE_COLUMNS].to_numpy())
    choice = pd.Series(np.where(_is_decided(votes), votes.argmax(axis=1), 2), index=battles.index)
    # What two sources have is one vote twice.
    item = battles.groupby(["source", "item"], observed=True, sort=False).ngroup()
    several = choice[item.duplicated(keep=False)]
    items = item[several.index]
    for_either = pd.DataFrame({winner: several == winner for winner in (0, 1)}).groupby(items).any()
    return VoteStatistics(
        num_votes=len(battles),
        num_ties=int((choice == 2).sum()),
        favors=_favors(battles, texts),
        num_repeated=len(for_either),
        num_contradictory=int(for_either.all(axis=1).sum()),
        alpha=krippendorff_alpha(pd.crosstab(items, several).to_numpy()),
        annotators=_annotators(battles["annotator"][several.index], several, items, battles["annotator"]),
    )


def _favors(battles: pd.DataFrame, texts: pa.Table) -> dict[str, dict]:
    rows = np.sort(battles.index[sample_by_hash(battles["id"].tolist(), NUM_SAMPLED, "vote statistics")])
    sampled = battles.loc[rows]
    votes = sampled[VOTE_COLUMNS].to_numpy()
    features = pd.DataFrame([battle_features(battle) for battle in take_rows(texts, rows).to_pylist()])
    choice = votes.argmax(axis=1)
    has_winner = _is_decided(votes) & (choice < 2)
    won = np.where(choice == 0, 1, -1)  # by A, by B
    bootstrap = GroupBootstrap(sampled["prompt"].tolist())
    favors = {}
    for name, difference in (
        ("first", np.ones(len(sampled))),
        ("longer", features["length_difference"].to_numpy()),
        ("more formatted", features[list(FORMATTING)].sum(axis=1).to_numpy()),
    ):
        mask = has_winner & (difference != 0)
        if mask.sum() >= MIN_COUNTED:
            wins = bootstrap.mean((np.sign(difference) == won).astype(float), mask)
            favors[name] = wins | {"battles": int(mask.sum())}
    return favors


def _is_decided(votes: np.ndarray) -> np.ndarray:
    """Whether a vote has a winner, one of A, B and tie."""
    return (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1


def krippendorff_alpha(counts: np.ndarray) -> dict | None:
    """
    [Krippendorff's alpha](https://repository.upenn.edu/handle/20.500.14332/2089) of nominal votes, and its interval
    by resampling items.

    Args:
        counts (`ndarray`): How many votes each item has for each class, two at least, of shape `(items, classes)`.

    Returns:
        `dict`, *optional*: A figure; None with a single item, or if all votes are the same.
    """
    num_items = len(counts)
    if num_items < 2 or np.count_nonzero(counts.sum(axis=0)) < 2:
        return None
    num_votes = counts.sum(axis=1)
    disagreement = (num_votes**2 - (counts**2).sum(axis=1)) / (num_votes - 1)
    per_item = np.column_stack([disagreement, counts])
    random = np.random.default_rng(0)
    draws = (random.integers(0, num_items, num_items) for _ in range(NUM_RESAMPLES))
    resampled = [np.bincount(draw, minlength=num_items) @ per_item for draw in draws]
    observed, *totals = np.array([per_item.sum(axis=0), *resampled]).T
    total = np.sum(totals, axis=0)
    expected = (total**2 - np.square(totals).sum(axis=0)) / (total - 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample may have votes for one class only
        value, *resampled = np.where(expected > 0, 1 - observed / expected, np.nan)
    return figure(value, np.array(resampled))


def _annotators(annotator: pd.Series, choice: pd.Series, items: pd.Series, everyone: pd.Series) -> list[dict]:
    """Pairs of votes of different people on the same item, by one of the two."""
    table = pd.DataFrame({"who": annotator.astype(object), "choice": choice, "item": items}).dropna()
    table = table[table.groupby("item").cumcount() < MAX_VOTES]
    pairs = table.merge(table, on="item", suffixes=("", "_other"))
    pairs = pairs[pairs["who"] != pairs["who_other"]]
    agreement = (pairs["choice"] == pairs["choice_other"]).groupby(pairs["who"]).agg(["mean", "size"])
    return [
        {
            "name": name,
            "votes": int(votes),
            "agreement": float(agreement["mean"].get(name, np.nan)),
            "compared": int(agreement["size"].get(name, 0)),
        }
        for name, votes in everyone.value_counts().head(MAX_ANNOTATORS).items()
    ]


def _percent(share: dict) -> str:
    interval = "" if share["low"] is None else f" ({share['low']:.0%} to {share['high']:.0%})"
    return f"{share['value']:.0%}{interval}"
