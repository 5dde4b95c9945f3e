"""The files of a report: its page, which needs no network, and the same as Markdown."""

import json
import re
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..artifacts import atomic_write, write_json
from ..metrics.functions import log_losses
from ..predictions.table import VOTE_COLUMNS, save_predictions
from .bootstrap import GroupBootstrap
from .conclusion import best_first, conclusion
from .plots import confusion_matrix, flips_plot, known_plot, loss_by_length, ratings_plot, reliability_diagram
from .summary import not_out_of_sample, score_rows
from .votes import JudgePredictions

MAX_TEXT_LENGTH = 700  # characters of a prompt or an answer that are shown
REPORT_FILES = ("report.html", "report.md", "metrics.json", "predictions.parquet", "plots")
NUM_SLICES = 12  # of an attribute that are shown; metrics.json has all
FIRST_PLOTS = ("Reliability", "Votes and verdicts", "Log loss by length", "Both orders")  # at the top of the page
FEW_BATTLES = 10  # of a model, below which its rating is folded away


def write_report(
    output_dir: Path,
    figures: dict,
    record: dict,
    votes: pd.DataFrame,
    judges: dict[str, JudgePredictions],
    predictions: dict[str, pd.DataFrame],
    battles: list[dict],
    known: np.ndarray | None = None,
) -> list[Path]:
    """
    Write `predictions.parquet`, `plots/*.png`, `report.html`, `report.md` and, last, `metrics.json`.

    Args:
        output_dir (`Path`): The folder.
        figures (`dict`): As made by [`report_figures`].
        record (`dict`): What the report says about how it was made.
        votes (`DataFrame`), judges (`dict[str, JudgePredictions]`): As for [`report_figures`].
        predictions (`dict[str, DataFrame]`): Each judge's predictions table.
        battles (`list[dict]`): The battles whose texts are known.
        known (`ndarray`, *optional*): The known probabilities, as for [`report_figures`].

    Returns:
        `list[Path]`: The plots.
    """
    (output_dir / "plots").mkdir(parents=True, exist_ok=True)
    bootstrap, labels = GroupBootstrap(list(votes["group"])), votes[VOTE_COLUMNS].to_numpy()
    plots = {
        name: _judge_plots(name, judge, labels, figures["ratings"], known, bootstrap) for name, judge in judges.items()
    }
    files: dict[str, dict[str, str]] = {name: {} for name in plots}
    for number, (name, images) in enumerate(plots.items(), 1):
        for title, image in images.items():
            suffix = f"_{number}" if len(plots) > 1 else ""
            files[name][title] = f"plots/{title.lower().replace(' ', '_')}{suffix}.png"
            (output_dir / files[name][title]).write_bytes(image)
    several = [table.assign(judge=name) if len(predictions) > 1 else table for name, table in predictions.items()]
    save_predictions(pd.concat(several), output_dir / "predictions.parquet")
    pages = {
        "report.html": render_page(figures, plots, {battle["id"]: battle for battle in battles}, record),
        "report.md": render_markdown(figures, files, record),
    }
    for file, page in pages.items():
        with atomic_write(output_dir / file) as draft:
            draft.write_text(page, encoding="utf-8")
    write_json(output_dir / "metrics.json", figures | record)
    return [output_dir / file for of_judge in files.values() for file in of_judge.values()]


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
    if len(np.unique(judge.num_tokens)) > 1:
        plots["Log loss by length"] = loss_by_length(log_losses(final, labels), judge.num_tokens, bootstrap)
    if both.any():
        plots["Both orders"] = flips_plot(judge.orders["ab"][both], judge.orders["ba"][both])
    if ratings is not None:
        plots["Ratings"] = ratings_plot(_often_rated(ratings["models"]), name)
    if known is not None:
        plots["Known probabilities"] = known_plot(final, known)
    return plots


def _often_rated(models: list[dict]) -> list[dict]:
    """The models whose ratings are not folded away."""
    return [row for row in models if row["num_battles"] >= FEW_BATTLES] or models


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
    return _render(
        "page.html",
        figures,
        record,
        conclusion=conclusion(figures, lambda name: f"<b>{escape(name)}</b>"),
        slices={attribute: rows[:NUM_SLICES] for attribute, rows in slices.items()},
        num_slices={attribute: len(rows) for attribute, rows in slices.items()},
        images={
            judge: {title: b64encode(image).decode() for title, image in images.items()}
            for judge, images in plots.items()
        },
        texts=texts,
        often_rated=_often_rated(figures["ratings"]["models"]) if figures["ratings"] else [],
        few_battles=FEW_BATTLES,
        details=json.dumps(record, indent=2),
    )


def render_markdown(figures: dict, plots: dict[str, dict[str, str]], record: dict) -> str:
    """
    Render the short report for a pull request.

    Args:
        figures (`dict`), record (`dict`): As for [`render_page`].
        plots (`dict[str, dict[str, str]]`): For each judge, paths of PNG files by their titles.

    Returns:
        `str`: Markdown. What comes from data or users is in code spans, where it means nothing.
    """
    best = best_first(figures)[0]
    worst: dict[str, dict] = {}
    for row in sorted(figures["slices"], key=lambda row: -row["log_loss"][best]["value"]):
        worst.setdefault(row["attribute"], row)
    return _render("page.md", figures, record, conclusion=conclusion(figures, code_span), worst=worst, plots=plots)


def _render(template: str, figures: dict, record: dict, **values: Any) -> str:
    return (
        page_environment(autoescape=template.endswith(".html"))
        .get_template(template)
        .render(
            figures=figures,
            record=record,
            rows=score_rows(figures),
            not_out_of_sample=not_out_of_sample(figures),
            judges=best_first(figures),
            first_plots=FIRST_PLOTS,
            **values,
        )
    )


def page_environment(autoescape: bool = True) -> Environment:
    """The templates of this folder. Those of pages escape all values."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"truncated": truncated, "code": code_span}
    return environment


def code_span(text: str) -> str:
    """
    Any text as code in one line of Markdown, in which no markup, mention, link or formula counts. A bar, which would
    end the cell of a table even in code, becomes a broken one.
    """
    line = " ".join(text.split()).replace("|", "¦") or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def truncated(turns: list[str | None]) -> str:
    """The turns as one text of a readable length."""
    text = "\n\n".join(turn or "" for turn in turns)
    return text if len(text) <= MAX_TEXT_LENGTH else f"{text[:MAX_TEXT_LENGTH]} … ({len(text):,} characters)"
