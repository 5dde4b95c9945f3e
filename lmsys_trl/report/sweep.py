"""The validation predictions of a sweep's runs -> which is best, how sure that is, and the files that say so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..artifacts import atomic_write, write_json
from ..errors import UserError
from ..metrics.functions import correct, flips, log_losses
from ..predictions.table import PROBABILITIES, has_vote, votes_and_groups
from ..terminal import aligned
from .bootstrap import GroupBootstrap, format_figure
from .plots import sweep_plot
from .summary import MIN_GROUPS, ORDERS

SWEEP_VERSION = 1  # of sweep.json
RECORD = "sweep.json"
SWEEP_FILES = (RECORD, "sweep.md", "sweep.png")


def sweep_figures(tables: Mapping[str, pd.DataFrame], order: str) -> dict[str, Any]:
    """
    Compare runs by their predictions of the same battles.

    Args:
        tables (`Mapping[str, DataFrame]`): A predictions table for each run, by its name.
        order (`str`): The order of the answers that is scored, "ab" or "mean".

    Returns:
        `dict`: `order`; `num_battles` and `num_groups`; `runs`, a list with the lowest log loss first: `name`, and the
        figures `log_loss`, `accuracy`, `minus_best` (the log loss minus the best run's on the same battles, None for
        that run) and, of predictions in both orders, `flip_rate`; `num_not_worse`, the number of the other runs that
        are not shown to be worse than the best.

    Raises:
        UserError: If runs have predicted different battles.
    """
    first = next(iter(tables.values()))
    chosen = first[(first["order"] == order) & has_vote(first)].sort_values("id")
    labels, groups = votes_and_groups(chosen)
    bootstrap = GroupBootstrap(list(groups))
    losses: dict[str, np.ndarray] = {}
    runs: list[dict[str, Any]] = []
    for name, table in tables.items():
        rows = {key: part.set_index("id") for key, part in table.groupby("order")}
        if not set(chosen["id"]) <= set(rows[order].index):
            raise UserError(f"{name}: has predicted other battles than {next(iter(tables))}. Remove its predictions")
        probabilities = {key: part.loc[chosen["id"], PROBABILITIES].to_numpy() for key, part in rows.items()}
        losses[name] = log_losses(probabilities[order], labels)
        figures = {
            "log_loss": bootstrap.mean(losses[name]),
            "accuracy": bootstrap.mean(correct(probabilities[order], labels)),
        }
        if order == "mean":
            figures["flip_rate"] = bootstrap.mean(flips(probabilities["ab"], probabilities["ba"]).astype(float))
        runs.append({"name": name, **figures})
    runs.sort(key=lambda run: run["log_loss"]["value"])
    best = runs[0]["name"]
    for run in runs:
        run["minus_best"] = None if run["name"] == best else bootstrap.mean(losses[run["name"]] - losses[best])
    return {
        "order": order,
        "num_battles": len(labels),
        "num_groups": bootstrap.num_groups,
        "num_not_worse": sum(not _is_worse(run["minus_best"]) for run in runs[1:]),
        "runs": runs,
    }


def _is_worse(difference: dict) -> bool:
    return difference["low"] is not None and difference["low"] > 0


def sweep_table(figures: dict) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the table of runs."""
    header = ["run", "log loss", "minus the best", "accuracy"]
    rows = [
        [
            run["name"],
            *(format_figure(run[key], ".4f") if run[key] else "" for key in ("log_loss", "minus_best")),
            format_figure(run["accuracy"], ".1%"),
        ]
        for run in figures["runs"]
    ]
    if figures["order"] == "mean":
        header.append("verdicts that flip")
        rows = [[*row, format_figure(run["flip_rate"], ".1%")] for row, run in zip(rows, figures["runs"], strict=True)]
    return header, rows


def sweep_notes(figures: dict) -> list[str]:
    """What the table is of, what it shows, and what it does not."""
    num_others, best = len(figures["runs"]) - 1, figures["runs"][0]["name"]
    notes = [
        f"{figures['num_battles']:,} validation battles, {figures['num_groups']:,} groups of prompts, "
        f"{ORDERS[figures['order']]}. Intervals are 95%, by a bootstrap over groups of prompts; differences are on "
        "the same battles."
    ]
    if figures["num_groups"] < MIN_GROUPS:
        notes.append(f"Only {figures['num_groups']} groups of prompts: the intervals say little.")
    if num_others:
        notes += [
            f"{figures['num_not_worse']} of the {num_others} other runs are not shown to be worse than {best}.",
            f"{best} was chosen as the best of {num_others + 1} runs with these battles in sight, so its log loss "
            "here is optimistic, and so are the differences to it. Confirm it on other votes, by which no run was "
            "chosen.",
        ]
    return notes


def format_sweep(figures: dict, failed: Mapping[str, str]) -> str:
    """The table and its notes for the terminal."""
    header, rows = sweep_table(figures)
    lines = [*aligned([header, *rows]), *sweep_notes(figures)]
    return "\n".join([*lines, *(f"failed: {name}: {why}" for name, why in failed.items())])


def write_sweep(output_dir: Path, figures: dict, failed: Mapping[str, str], record: dict) -> None:
    """
    Write `sweep.png`, `sweep.md` and, last, `sweep.json`.

    Args:
        output_dir (`Path`): The folder.
        figures (`dict`): As made by [`sweep_figures`], with the `settings` of each run.
        failed (`Mapping[str, str]`): Why runs failed, by their names.
        record (`dict`): How the sweep was made.
    """
    header, rows = sweep_table(figures)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))
    parts = ["# Sweep", table, *sweep_notes(figures), "![The log loss of each run](sweep.png)"]
    if failed:
        parts.append("Failed:\n\n" + "\n".join(f"- {name}: `{why}`" for name, why in failed.items()))
    with atomic_write(output_dir / "sweep.png") as draft:
        draft.write_bytes(sweep_plot(figures["runs"]))
    with atomic_write(output_dir / "sweep.md") as draft:
        draft.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    write_json(output_dir / RECORD, {"version": SWEEP_VERSION, **figures, "failed": dict(failed), **record})
