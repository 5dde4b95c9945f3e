"""
Train a judge with each combination of settings, and compare them on the validation split: a grid search.

    lmsys-trl sweep smollm2.yaml --sweep grid.yaml --dataset_name data/battles --output_dir runs/sweep --tta swap

Where grid.yaml has a list of values for each key that is varied:

    learning_rate: [1e-3, 3e-4]
    lora_r: [8, 16]

All other keys are those of sft. Each run is an sft of its own in OUTPUT_DIR/learning_rate=0.001,lora_r=8 and so on.
Started again with the same command, finished runs are skipped and an interrupted one resumes; values that are added
to the grid become new runs. Writes sweep.md, sweep.png and sweep.json.
"""

import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from lmsys_trl.config import parse_config, read_config
from lmsys_trl.errors import UserError, raise_problems
from lmsys_trl.options import MODEL_CONFIG, TRAINING_CONFIG, JudgeConfig
from lmsys_trl.outputs import claim, is_claimed, refuse_foreign
from lmsys_trl.preflight.sweep import RECIPE, Run, check_runs, read_runs, write_recipe
from lmsys_trl.terminal import logger, run_logged, run_recipe, suggest_next


@dataclass
class SweepConfig:
    """What is varied, and how the runs are compared."""

    sweep: str = field(metadata={"help": "A YAML with a list of values for each key of sft that is varied."})
    output_dir: str = field(metadata={"help": "The folder for the runs, a folder each, and for the table."})
    tta: Literal["none", "swap"] = field(
        default="none", metadata={"help": "swap: compare the mean of both orders of the answers."}
    )
    accelerate_config: str | None = field(
        default=None, metadata={"help": "How each run is started: the name of a bundled accelerate config, or a path."}
    )


OF_SFT = (JudgeConfig, MODEL_CONFIG, TRAINING_CONFIG)
CONFIGS = (SweepConfig, *OF_SFT)
LOG = "log.txt"  # in the folder of a run
PREDICTIONS = "validation.parquet"


def main():
    if {"--help", "-h"} & set(sys.argv):
        parse_config(*CONFIGS)
    _, given, problems = read_config(*CONFIGS, argv=sys.argv[1:], load=False)
    if "sweep" not in given:
        raise_problems(problems)
    grid_file = Path(given["sweep"])
    runs = read_runs(CONFIGS, sys.argv[1:], grid_file, SweepConfig)
    config = SweepConfig(**{key: given[key] for key in SweepConfig.__dataclass_fields__ if key in given})
    output_dir = Path(config.output_dir)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.artifacts import provenance
    from lmsys_trl.predictions.table import load_predictions
    from lmsys_trl.report.sweep import RECORD, SWEEP_FILES, format_sweep, sweep_figures, write_sweep

    if (output_dir / "judge.json").exists():
        raise UserError(f"output_dir: {output_dir} is a judge. Choose another folder for the sweep")
    refuse_foreign(output_dir, SWEEP_FILES, (RECORD, f"*/{RECIPE}"), "a sweep")
    with claim(output_dir):
        logger.info("Checking %d runs", len(runs))
        finished = check_runs(runs, OF_SFT, grid_file, output_dir, config.accelerate_config)
        failed = carry_out(runs, finished, config)
        done = [run for run in runs if run.name not in failed]
        if done:
            tables = {run.name: load_predictions(output_dir / run.name / PREDICTIONS) for run in done}
            figures = sweep_figures(tables, "mean" if config.tta == "swap" else "ab")
            settings = {run.name: run.settings for run in runs}
            figures["runs"] = [{"settings": settings[run["name"]], **run} for run in figures["runs"]]
            write_sweep(output_dir, figures, failed, provenance(given))
            logger.info("\n%s", format_sweep(figures, failed))
            logger.info("The table is in %s", output_dir / "sweep.md")
    raise_problems([f"{name}: {why}" for name, why in failed.items()], f"{len(failed)} of {len(runs)} runs failed:")
    best = output_dir / figures["runs"][0]["name"]
    suggest_next("validate", "--adapter", best, "--test_file", "OTHER_VOTES.csv", "--output_dir", best / "report")


def carry_out(runs: list[Run], finished: set[str], config: SweepConfig) -> dict[str, str]:
    """Train and predict each run that is not finished. Returns what went wrong by the names of those that failed."""
    output_dir, failed = Path(config.output_dir), {}
    seconds: list[float] = []
    complete = {run.name for run in runs if is_complete(run, finished, config)}
    left = len(runs) - len(complete)
    for number, run in enumerate(runs, 1):
        if run.name in complete:
            logger.info("Run %d of %d, %s: finished before", number, len(runs), run.name)
            continue
        end = ""
        if seconds:
            rest = sum(seconds) / len(seconds) * left
            end = f", {rest / 60:.0f} minutes left, until {datetime.now() + timedelta(seconds=rest):%d %b %H:%M}"
        logger.info("Run %d of %d, %s%s", number, len(runs), run.name, end)
        began = time.monotonic()
        problem = carry_out_run(run, finished, output_dir, config)
        if problem:
            failed[run.name] = f"{problem} ({output_dir / run.name / LOG})"
            logger.error("%s failed: %s", run.name, failed[run.name])
        else:
            seconds.append(time.monotonic() - began)
        left -= 1
    return failed


def carry_out_run(run: Run, finished: set[str], output_dir: Path, config: SweepConfig) -> str | None:
    """Train and predict one run. Returns what went wrong."""
    folder = output_dir / run.name
    launcher = ("--accelerate_config", config.accelerate_config) if config.accelerate_config else ()
    predict = ["predict", "--adapter", folder, "--dataset_name", run.given["dataset_name"]]
    predict += ["--output_file", folder / PREDICTIONS, "--tta", config.tta, "--calibrated", "false"]
    steps = [predict] if run.name in finished else [["sft", write_recipe(run, output_dir)], predict]
    if is_claimed(folder):
        logger.info("Waiting for the run that still writes %s", folder)
        while is_claimed(folder):
            time.sleep(1)
    for words in steps:
        status = run_logged([*words, *launcher], folder / LOG)
        if status < 0:
            return f"{words[0]} was ended by signal {-status}"
        if status:
            return f"{words[0]} ended with {status}: {last_line(folder / LOG)}"
    return None


def is_complete(run: Run, finished: set[str], config: SweepConfig) -> bool:
    """Whether a run is trained, and predicted in the orders that are compared."""
    from lmsys_trl.predictions.table import load_predictions

    predictions = Path(config.output_dir) / run.name / PREDICTIONS
    if run.name not in finished or not predictions.is_file():
        return False
    return config.tta == "none" or bool((load_predictions(predictions)["order"] == "mean").any())


def last_line(path: Path) -> str:
    """The last line of a log that says something."""
    lines = path.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")


if __name__ == "__main__":
    run_recipe(main)
