"""The figures and plots of a report -> experiment trackers, through accelerate."""

import os
from importlib import import_module
from pathlib import Path

import numpy as np
from accelerate.tracking import (
    GeneralTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
    get_available_trackers,
)
from matplotlib.image import imread

from ..errors import UserError, first_line

PROJECT = "huggingface"  # that of transformers, so that a report stands beside its training
SCORES = ("log_loss", "accuracy", "brier_score", "ece", "debiased_ce")


def check_trackers(names: list[str]) -> list[str]:
    """Problems with `report_to`: packages that are missing."""
    missing = [name for name in names if name not in {str(known.value) for known in get_available_trackers()}]
    return [f"report_to: the package of {name} is missing. Install it: pip install {name}" for name in missing]


def start_trackers(
    names: list[str], project: str | None, run_name: str | None, output_dir: Path
) -> list[GeneralTracker]:
    """
    Start a run in each tracker, before anything is predicted, so that a missing login is known at once.

    Args:
        names (`list[str]`): Of "tensorboard", "wandb" and "trackio".
        project (`str`, *optional*): The project of the run. Default: `WANDB_PROJECT` for wandb, else [`PROJECT`].
        run_name (`str`, *optional*): The name of the run. Default: that of the folder of the report.
        output_dir (`Path`): The folder of the report.

    Raises:
        UserError: If a tracker does not start.
    """
    run_name = run_name or output_dir.resolve().name
    trackers: list[GeneralTracker] = []
    for name in names:
        if name == "tensorboard":
            folder = os.environ.get("TENSORBOARD_LOGGING_DIR", output_dir / "runs")
            tracker = TensorBoardTracker(run_name, Path(folder).expanduser())
        elif name == "wandb":
            tracker = WandBTracker(project or os.environ.get("WANDB_PROJECT", PROJECT), name=run_name)
        else:
            tracker = TrackioTracker(project or PROJECT, name=run_name)
        try:
            tracker.start()
        except Exception as error:  # each tracker has exceptions of its own
            raise UserError(f"report_to: {name} does not start: {first_line(error)}") from error
        trackers.append(tracker)
    return trackers


def log_report(trackers: list[GeneralTracker], figures: dict, record: dict[str, str], plots: list[Path]) -> None:
    """
    Log a report, and end the runs.

    Args:
        trackers (`list[GeneralTracker]`): As from [`start_trackers`].
        figures (`dict`): As made by [`report_figures`].
        record (`dict[str, str]`): What is stored as the configuration of the run.
        plots (`list[Path]`): PNG files.
    """
    values = report_values(figures)
    images = {f"plots/{path.stem}": _pixels(path) for path in plots}
    for tracker in trackers:
        tracker.store_init_configuration(record)
        if isinstance(tracker, TensorBoardTracker):
            tracker.log(values)
            tracker.log_images({name: image[None] for name, image in images.items()}, dataformats="NHWC")
        else:
            library = import_module(tracker.name)
            tracker.log(values | {name: library.Image(image) for name, image in images.items()})
        tracker.finish()


def report_values(figures: dict) -> dict[str, float]:
    """
    The figures of a report by the names that trackers show: `report/log_loss` of the judge's final prediction,
    `report/ab/log_loss` of one order, `report/flip_rate`, `report/baselines/class_prior/log_loss`, and so on. Of
    several judges each has its name after `report`.
    """
    scored = {f"report/baselines/{name}": scores for name, scores in figures["baselines"].items()}
    if "best_possible" in figures:
        scored["report/best_possible"] = figures["best_possible"]
    flip_rates = {}
    for name, judge in figures["judges"].items():
        place = f"report/{name}" if len(figures["judges"]) > 1 else "report"
        scored |= {place: judge, **{f"{place}/{order}": scores for order, scores in judge["orders"].items()}}
        if judge["position"]:
            flip_rates[f"{place}/flip_rate"] = judge["position"]["flip_rate"]["value"]
    return {
        f"{place}/{name}": scores[name]["value"] for place, scores in scored.items() for name in SCORES
    } | flip_rates


def _pixels(path: Path) -> np.ndarray:
    """An image of shape `(height, width, 3)`, from 0 to 255."""
    return np.round(imread(path)[..., :3] * 255).astype(np.uint8)
