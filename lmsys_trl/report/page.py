"""The files of a report, and its page, which needs no network."""

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..artifacts import atomic_write, write_json
from ..metrics.functions import log_losses
from ..predictions.table import VOTE_COLUMNS, save_predictions
from .bootstrap import GroupBootstrap
from .plots import confusion_matrix, flips_plot, known_plot, loss_by_length, ratings_plot, reliability_diagram
from .summary import score_rows
from .votes import JudgePredictions

MAX_TEXT_LENGTH = 700  # characters of a prompt or an answer that are shown
REPORT_FILES = ("report.html", "metrics.json", "predictions.parquet", "plots")
NUM_SLICES = 12  # of an attribute that are shown; metrics.json has all


def write_report(
    output_dir: Path,
    figures: dict,
    record: dict,
    votes: pd.DataFrame,
    judges: dict[str, JudgePredictions],
    predictions: dict[str, pd.DataFrame],
    battles: list[dict],
    known: np.ndarray | None = None,
) -> None:
    """
    Write `predictions.parquet`, `plots/*.png`, `report.html` and, last, `metrics.json`.

    Args:
        output_dir (`Path`): The folder.
        figures (`dict`): As made by [`report_figures`].
        record (`dict`): What the report says about how it was made.
        votes (`DataFrame`), judges (`dict[str, JudgePredictions]`): As for [`report_figures`].
        predictions (`dict[str, DataFrame]`): Each judge's predictions table.
        battles (`list[dict]`): The battles whose texts are known.
        known (`ndarray`, *optional*): The known probabilities, as for [`report_figures`].
    """
    (output_dir / "plots").mkdir(parents=True, exist_ok=True)
    bootstrap, labels = GroupBootstrap(list(votes["group"])), votes[VOTE_COLUMNS].to_numpy()
    plots = {
        name: _judge_plots(name, judge, labels, figures["ratings"], known, bootstrap) for name, judge in judges.items()
    }
    for number, images in enumerate(plots.values(), 1):
        for title, image in images.items():
            file = title.lower().replace(" ", "_") + (f"_{number}" if len(plots) > 1 else "")
            (output_dir / "plots" / f"{file}.png").write_bytes(image)
    several = [table.assign(judge=name) if len(predictions) > 1 else table for name, table in predictions.items()]
    save_predictions(pd.concat(several), output_dir / "predictions.parquet")
    page = render_page(figures, plots, {battle["id"]: battle for battle in battles}, record)
    with atomic_write(output_dir / "report.html") as draft:
        draft.write_text(page, encoding="utf-8")
    write_json(output_dir / "metrics.json", figures | record)


def _judge_plots(
    name: str,
    judge: JudgePredictions,
    labels: np.ndarray,
    ratings: dict | None,
    known: np.ndarray | None,
    bootstrap: GroupBootstrap,
) -> dict[str, bytes]:
    """The plots of one judge by their titles, those that have something to show."""
    final, both = judge.final, judge.has_both_orders
    plots = {"Reliability": reliability_diagram(final, labels), "Votes and verdicts": confusion_matrix(final, labels)}
    plots["Log loss by length"] = loss_by_length(log_losses(final, labels), judge.num_tokens, bootstrap)
    if both.any():
        plots["Both orders"] = flips_plot(judge.orders["ab"][both], judge.orders["ba"][both])
    if ratings is not None:
        plots["Ratings"] = ratings_plot(ratings["models"], name)
    if known is not None:
        plots["Known probabilities"] = known_plot(final, known)
    return plots


def render_page(figures: dict, plots: dict[str, dict[str, bytes]], texts: dict[str, dict], record: dict) -> str:
    """
    Render the page of a report.

    Args:
        figures (`dict`): As made by [`report_figures`].
        plots (`dict[str, dict[str, bytes]]`): For each judge, PNG files by their titles.
        texts (`dict[str, dict]`): The battles whose texts are known, by id.
        record (`dict`): What the page says about how it was made: `battles`, `baselines_fitted` and more.

    Returns:
        `str`: A self-contained HTML page without scripts. All values are escaped.
    """
    slices: dict[str, list[dict]] = {}
    for row in figures["slices"]:
        slices.setdefault(row["attribute"], []).append(row)
    return (
        page_environment()
        .get_template("page.html")
        .render(
            figures=figures,
            rows=score_rows(figures),
            slices={attribute: rows[:NUM_SLICES] for attribute, rows in slices.items()},
            num_slices={attribute: len(rows) for attribute, rows in slices.items()},
            images={
                judge: {title: b64encode(image).decode() for title, image in images.items()}
                for judge, images in plots.items()
            },
            texts=texts,
            record=record,
            details=json.dumps(record, indent=2),
        )
    )


def page_environment() -> Environment:
    """Templates of pages, in which all values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["truncated"] = truncated
    return environment


def truncated(turns: list[str | None]) -> str:
    """The turns as one text of a readable length."""
    text = "\n\n".join(turn or "" for turn in turns)
    return text if len(text) <= MAX_TEXT_LENGTH else f"{text[:MAX_TEXT_LENGTH]} … ({len(text):,} characters)"
