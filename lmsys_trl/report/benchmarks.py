"""Predictions of a benchmark's battles -> its own score, and what stands beside it."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..artifacts import read_json
from ..battle import WINNERS, winner_of
from ..data.benchmarks import BENCHMARKS, Benchmark
from ..errors import UserError
from ..predictions.table import ORDERS, PROBABILITIES
from .bootstrap import GroupBootstrap, figure, format_figure
from .summary import ORDERS as ORDER_NAMES

BENCHMARK_VERSION = 1  # of benchmark.json
PUBLISHED = Path(__file__).with_name("published.json")
SCORES = {  # what a benchmark's own score is, by `Benchmark.score`
    "sections": "mean of the sections' accuracies in the mean of both orders",
    "accuracy": "accuracy without ties, in the mean of both orders",
    "consistent": "right in both orders",
    "agreement": "agreement with the votes where neither vote nor verdict is a tie",
}
FORCED_CHOICE = "A tie's probability is split evenly between both answers, except in the agreement with votes."


def benchmark_figures(name: str, battles: list[dict], predictions: pd.DataFrame) -> dict:
    """
    All figures of a benchmark, with intervals over prompts.

    Args:
        name (`str`): One of [`BENCHMARKS`].
        battles (`list[dict]`): As from [`load_benchmark`].
        predictions (`DataFrame`): Their predictions in both orders, and the mean.

    Raises:
        UserError: If no vote is for A or B.
    """
    benchmark = BENCHMARKS[name]
    table = pd.DataFrame(battles)[["id", "item", "subset", "group"]]
    table["winner"] = [winner_of(battle["vote"]) for battle in battles]
    tables = {order: predictions[predictions["order"] == order].set_index("id") for order in ORDERS}
    orders = {order: rows.loc[table["id"], PROBABILITIES].to_numpy() for order, rows in tables.items()}
    chosen = (table["winner"] != "tie").to_numpy()
    if not chosen.any():
        raise UserError(f"benchmark {name}: none of its {len(table)} votes is for A or B")
    items = item_results(table[chosen], {order: p[chosen] for order, p in orders.items()})
    scored = items.assign(value=items["both" if benchmark.score == "consistent" else "mean"])
    bootstrap = GroupBootstrap(list(items["group"]))
    figures = {
        "title": benchmark.title,
        "score_name": SCORES[benchmark.score],
        "caveat": benchmark.caveat,
        "num_items": len(items),
        "num_prompts": bootstrap.num_groups,
        "num_battles": len(table),
        "accuracy": {order: bootstrap.mean(items[order].to_numpy()) for order in ORDERS},
        "consistent_accuracy": bootstrap.mean(items["both"].to_numpy()),
        "flip_rate": bootstrap.mean(items["flipped"].to_numpy()),
    }
    if benchmark.score == "agreement" or not chosen.all():
        votes = vote_results(table, orders["mean"])
        decided = votes[votes["decided"]]
        figures["agreement"] = {"with_ties": _mean(votes), "without_ties": _mean(decided)}
        figures["num_votes"] = {"with_ties": len(votes), "without_ties": len(decided)}
        scored = decided if benchmark.score == "agreement" else scored
    figures["subsets"] = [
        {"subset": subset, "num_items": len(rows), **_mean(rows)} for subset, rows in scored.groupby("subset")
    ]
    figures |= {"score": _mean(scored), "num_scored": len(scored)}
    if benchmark.sections:
        figures["score"], figures["sections"] = section_scores(scored, benchmark)
    return figures


def item_results(table: pd.DataFrame, orders: dict[str, np.ndarray]) -> pd.DataFrame:
    """
    Which items are right, where the judge must choose: an evenly split tie leaves P(A) - P(B) as it is.

    Args:
        table (`DataFrame`): `item`, `subset`, `group` and `winner`, A or B, of each battle.
        orders (`dict[str, ndarray]`): The probabilities of the battles by order, of shape `(battles, 3)`.

    Returns:
        `DataFrame`: For each item `subset` and `group`; `ab`, `ba` and `mean`: 1 if the right answer beats all others
        in this order, 0 if one beats it, 1 / n if it is one of n that are equally probable; `both`: 1 if it is
        right in both orders, or in one and equal in the other, as JudgeBench counts; `flipped`: the fraction of its
        battles whose more probable answer changes with the order.
    """
    sign = np.where(table["winner"] == WINNERS[1], -1, 1)
    margins = {order: sign * (p[:, 0] - p[:, 1]) for order, p in orders.items()}
    flipped = (np.sign(margins["ab"]) != np.sign(margins["ba"])).astype(float)
    grouped = table.assign(flipped=flipped).groupby("item", sort=False)
    items = grouped.agg(subset=("subset", "first"), group=("group", "first"), flipped=("flipped", "mean"))
    numbers = pd.factorize(table["item"])[0]
    for order, margin in margins.items():
        lost, equal = (np.bincount(numbers, mask) for mask in (margin < 0, margin == 0))
        items[order] = np.where(lost > 0, 0, 1 / (1 + equal))
    return items.assign(both=(items["ab"] + items["ba"] > 1).astype(float))


def vote_results(table: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """
    Which votes a judge's verdicts agree with: the most probable of A, B and tie.

    Args:
        table (`DataFrame`): `subset`, `group` and `winner` of each vote.
        probabilities (`ndarray`): The judge's, of shape `(votes, 3)`.

    Returns:
        `DataFrame`: The table with `value`, 1 if the verdict is the vote, and `decided`, whether neither is a tie.
    """
    verdicts = np.array(WINNERS)[probabilities.argmax(axis=1)]
    decided = (verdicts != "tie") & (table["winner"] != "tie")
    return table.assign(value=(verdicts == table["winner"]).astype(float), decided=decided)


def section_scores(items: pd.DataFrame, benchmark: Benchmark) -> tuple[dict, list[dict]]:
    """
    The mean over sections, and the accuracy of each section: the weighted mean over its subsets. Subsets and sections
    without an item are left out.

    Args:
        items (`DataFrame`): `subset`, `group` and `value` of each item.
        benchmark (`Benchmark`): Has the weights of the subsets.
    """
    subsets = sorted(set(items["subset"]))
    weights = {
        name: np.array([section.get(subset, 0.0) for subset in subsets])
        for name, section in benchmark.sections.items()
        if set(section) & set(subsets)
    }
    is_in = (items["subset"].to_numpy()[:, None] == subsets).astype(float)
    values = np.stack([is_in * items["value"].to_numpy()[:, None], is_in])  # (2, items, subsets)

    def accuracies(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Of shape `(..., subsets)` -> `(..., sections)`; NaN where a resample has no item of a section."""
        present = [weight * (counts > 0) for weight in weights.values()]
        with np.errstate(invalid="ignore"):
            means = [(sums / np.maximum(counts, 1) * weight).sum(-1) / weight.sum(-1) for weight in present]
        return np.stack(means, axis=-1)

    bootstrap = GroupBootstrap(list(items["group"]))
    found = accuracies(*values.sum(axis=1))
    drawn = accuracies(*map(bootstrap.sums, values)) if bootstrap.num_groups > 1 else None
    sections = [
        {"section": name, **figure(found[i], None if drawn is None else drawn[:, i])} for i, name in enumerate(weights)
    ]
    return figure(found.mean(), None if drawn is None else drawn.mean(axis=1)), sections


def _mean(rows: pd.DataFrame) -> dict[str, float | None]:
    """The mean of `value` as a figure, of None if there are no rows."""
    if rows.empty:
        return {"value": None, "low": None, "high": None}
    return GroupBootstrap(list(rows["group"])).mean(rows["value"].to_numpy())


def published(name: str) -> list[dict]:
    """The published figures beside a benchmark's, if there are any: `system`, `value`, `what`, `source`, `date`."""
    known = read_json(PUBLISHED).get(name, {"systems": {}})
    systems = known.pop("systems")
    return [{"system": system, "value": value, **known} for system, value in systems.items()]


def figure_rows(figures: dict) -> list[tuple[str, int, str]]:
    """The figures of a benchmark as rows of a table: what it is, of how many, and the figure in per cent."""
    num_items = figures["num_items"]
    rows = [(f"score: {figures['score_name']}", figures["num_scored"], figures["score"])]
    rows += [(f"accuracy, {ORDER_NAMES[order]}", num_items, value) for order, value in figures["accuracy"].items()]
    rows += [("accuracy, right in both orders", num_items, figures["consistent_accuracy"])]
    rows += [("flips when the answers are swapped", num_items, figures["flip_rate"])]
    for key, value in figures.get("agreement", {}).items():
        rows.append((f"agreement with votes, {key.replace('_', ' ')}", figures["num_votes"][key], value))
    rows += [(f"section {row['section']}", num_items, row) for row in figures.get("sections", ())]
    rows += [(f"subset {row['subset']}", row["num_items"], row) for row in figures["subsets"]]
    return [(what, count, _per_cent(value)) for what, count, value in rows]


def _per_cent(value: dict) -> str:
    return "none" if value["value"] is None else format_figure(value, ".1%")


def format_benchmark(figures: dict) -> str:
    """A benchmark as a table for the terminal."""
    rows = [(what, f"{count:,}", text) for what, count, text in figure_rows(figures)]
    rows += [(f"published: {row['system']}, {row['what']}", "", f"{row['value']}%") for row in figures["published"]]
    width = max(len(what) for what, _, _ in rows)
    lines = [figures["title"].ljust(width) + "       n"]
    lines += [f"{what:{width}} {count:>7}  {text}" for what, count, text in rows]
    if figures["caveat"]:
        lines.append(f"The score cannot be compared with published ones: {figures['caveat']}.")
    return "\n".join(lines)
