"""The files of a comparison of models: figures, predictions, and a page that needs no network."""

import json
from pathlib import Path

import pandas as pd

from ..artifacts import atomic_write, write_json
from ..predictions.table import save_predictions
from .page import page_environment
from .summary import MIN_GROUPS

COMPARISON_FILES = ("report.html", "comparison.json", "predictions.parquet")


def write_comparison(
    output_dir: Path, figures: dict, record: dict, battles: list[dict], predictions: pd.DataFrame
) -> None:
    """
    Write `predictions.parquet`, `report.html` and, last, `comparison.json`.

    Args:
        output_dir (`Path`): The folder.
        figures (`dict`): As made by [`comparison_figures`].
        record (`dict`): What the report says about how it was made, with its `notes`.
        battles (`list[dict]`): What was compared.
        predictions (`DataFrame`): The judge's predictions.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    save_predictions(predictions, output_dir / "predictions.parquet")
    models = [model["model"] for model in figures["models"]] if "models" in figures else figures["pairs"][0]["models"]
    page = page_environment().get_template("comparison.html").render(
        title=" against ".join(models) if len(models) == 2 else f"{len(models)} models compared",
        lines=summary_lines(figures)[-1:] if "models" in figures else summary_lines(figures),  # a table has the others
        figures=figures,
        texts={battle["id"]: battle for battle in battles},
        record=record,
        details=json.dumps(record, indent=2),
    )  # fmt: skip
    with atomic_write(output_dir / "report.html") as draft:
        draft.write_text(page, encoding="utf-8")
    write_json(output_dir / "comparison.json", figures | record)


def summary_lines(figures: dict) -> list[str]:
    """What was found, in sentences."""
    flips = f"Swapping the answers changes {figures['flip_rate']['value']:.0%} of the verdicts."
    if "models" in figures:
        rows = [
            f"{place}. {model['model']}: rating {model['rating']['value']:.0f}{_interval(model['rating'], '{:.0f}')}, "
            f"at equal style {model['style_controlled_rating']['value']:.0f}, wins {model['win_rate']['value']:.0%}"
            for place, model in enumerate(figures["models"], 1)
        ]
        return [*rows, flips]
    (pair,) = figures["pairs"]
    first, second = pair["models"]
    win_rate, controlled = pair["win_rate"], pair["length_controlled_win_rate"]
    better = first if win_rate["value"] > 0.5 else second
    if figures["num_groups"] < MIN_GROUPS:
        verdict = f"There are too few groups of prompts, {figures['num_groups']}, to say which is better."
    elif win_rate["low"] > 0.5005 or win_rate["high"] < 0.4995:  # as printed: 50.0% is no win
        verdict = f"{better} is better."
    else:
        verdict = "Neither is shown to be better."
    lines = [
        f"{first} wins {win_rate['value']:.1%}{_interval(win_rate)} against {second} on {pair['num_battles']:,} "
        f"battles, ties as half a win. {verdict}",
        "Expected votes: "
        + ", ".join(f"{name} {found['value']:.0%}" for name, found in pair["expected"].items())
        + f". {flips}",
    ]
    if controlled["value"] is not None:
        lines.append(f"At equal lengths {first} wins {controlled['value']:.1%}{_interval(controlled)}.")
    return lines


def _interval(found: dict, form: str = "{:.1%}") -> str:
    return "" if found["low"] is None else f" ({form.format(found['low'])} to {form.format(found['high'])})"
