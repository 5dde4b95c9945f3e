"""
What does the judge of smollm2.yaml learn from real votes? Prepares three files of votes, trains a judge with each set
of options, and predicts the held-out prompts and the first hundred battles of the competition in both orders. Then
length and style correct each judge, cross-fitted. Prints tables with 95% intervals.

Votes on the same item become one example with their fractions: the same expected loss for half of the tokens.

    python benchmarks/real_votes.py --assets DIR --output_dir runs/real --options max_length=512 max_steps=100 \\
        --variants swap=none "swap=paired battles_per_step=4 per_device_train_batch_size=1" --record
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from results import hide_paths, markdown_table, record

from lmsys_trl.artifacts import strip_local_paths
from lmsys_trl.config import parse_config
from lmsys_trl.data.columns import TURN_COLUMNS
from lmsys_trl.data.dataset import load_battles
from lmsys_trl.encoding.examples import example_spans
from lmsys_trl.encoding.tokenizer import load_tokenizer
from lmsys_trl.encoding.tokens import tokenize
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.predictions.baselines import baseline_predictions
from lmsys_trl.predictions.calibration import WITH_STYLE, apply_calibration, cross_fitted
from lmsys_trl.predictions.features import features_of, features_table, load_features
from lmsys_trl.predictions.style import PENALTIES
from lmsys_trl.predictions.table import PROBABILITIES, load_predictions, save_predictions, votes_and_groups
from lmsys_trl.report.bootstrap import format_figure
from lmsys_trl.terminal import run_recipe

RECIPES = Path(__file__).parent.parent / "recipes"
SOURCES = ("mt_bench_human", "tulu_human_eval", "pandalm_votes")


@dataclass
class RealVotesConfig:
    """Where the votes are, and what is changed in smollm2.yaml."""

    assets: str = field(metadata={"help": "A folder with data/*.csv in the competition's columns."})
    output_dir: str = field(metadata={"help": "The folder for the data set, judges and reports."})
    validation_fraction: float = field(default=0.05, metadata={"help": "Fraction of the battles held out, by prompt."})
    options: list[str] = field(default_factory=list, metadata={"help": "key=value for recipes/sft.py, for all."})
    variants: list[str] = field(
        default_factory=lambda: [""], metadata={"help": "One judge each: key=value, several in quotes."}
    )
    record: bool = field(default=False, metadata={"help": "Write the tables to docs/results.md."})


def main():
    config, _ = parse_config(RealVotesConfig)
    data, output = Path(config.assets) / "data", Path(config.output_dir)
    sources = [data / f"{name}.csv" for name in SOURCES]
    run(
        "prepare.py", "--sources", *sources, "--validation_fraction", config.validation_fraction,
        "--duplicates", "soft", "--output_dir", output / "data",
    )  # fmt: skip
    arena = data / "arena_first100.csv"
    judges, minutes = {}, []
    for number, variant in enumerate(config.variants):
        judge = output / f"judge{number}"
        options = [f"--{option}" for option in [*config.options, *variant.split()]]
        start = time.monotonic()
        run("sft.py", "smollm2.yaml", "--dataset_name", output / "data", "--output_dir", judge, *options)
        minutes.append((time.monotonic() - start) / 60)
        judges[strip_local_paths(str(judge))] = f"`{hide_paths(variant) or 'smollm2.yaml'}`"
    curves = {title: learning_curve(output / f"judge{number}") for number, title in enumerate(judges.values())}
    blocks = [f"Trained in {' and '.join(f'{number:.0f}' for number in minutes)} minutes."]
    if any(curves.values()):
        blocks.append(show_curves(curves))
    adapters = [output / f"judge{number}" for number in range(len(judges))]
    for name, folder, votes in (
        ("held-out prompts", output / "held_out", ["--dataset_name", output / "data"]),
        ("first battles of the competition", output / "arena_first100", ["--test_file", arena]),
    ):
        run("validate.py", "--adapter", *adapters, *votes, "--output_dir", folder)
        blocks += show_judges(name, json.loads((folder / "metrics.json").read_text()), judges)
    blocks += show_style(output, judges)
    if config.record:
        record("real_votes", *blocks)


def show_judges(name: str, figures: dict, titles: dict[str, str]) -> list[str]:
    """
    A table of judges with 95% intervals, and what they are compared with. Both are printed.

    Args:
        name (`str`): What the battles are.
        figures (`dict`): Of metrics.json.
        titles (`dict[str, str]`): A title for each judge. The others are compared with the first.
    """
    first, rows = next(iter(titles)), []
    differences = {found["judge"]: found["log_loss"] for found in figures["differences"] if found["baseline"] == first}
    for judge, title in titles.items():
        found = figures["judges"][judge]
        cells = (
            found["orders"]["ab"]["log_loss"],
            found["orders"]["mean"]["log_loss"],
            found["cross_fitted_temperature"]["log_loss"],
            found["position"]["flip_rate"],
            found["position"]["shift_to_a"],
        )
        rows.append([title, *map(interval, cells), interval(differences[judge]) if judge in differences else ""])
    header = [
        f"{name}: {figures['num_battles']} battles, {figures['num_groups']} groups of prompts", "log loss, one order",
        "both orders", "cross-fitted temperature", "verdicts that flip", "probability gained by standing first",
        "both orders, minus the first row",
    ]  # fmt: skip
    baselines = figures["baselines"] | {key: figures[key] for key in ("best_possible",) if key in figures}
    losses = [f"{key.replace('_', ' ')} {interval(found['log_loss'])}" for key, found in baselines.items()]
    blocks = [markdown_table(header, rows), f"Log loss of baselines: {', '.join(losses)}."]
    if figures["ratings"]:
        models = figures["ratings"]["models"]
        ratings = {"annotators": [model["annotators"]["value"] for model in models]}
        ratings |= {title: [model["judges"][judge]["value"] for model in models] for judge, title in titles.items()}
        spans = [f"{max(values) - min(values):.0f} for {name}" for name, values in ratings.items()]
        blocks.append(f"Points between the best and the worst rating of {len(models)} models: {', '.join(spans)}.")
    print("", *blocks, sep="\n\n", flush=True)
    return blocks


def show_style(output: Path, titles: dict[str, str]) -> list[str]:
    """
    Judges on the held-out prompts with length and style beside them: the mean of their probabilities and those of the
    regression that was fitted on the training votes; a correction that is fitted on the held-out votes alone, on four
    fifths of the groups for the others, with the penalty in the middle of the range; and the regression by itself, on
    the parts of the texts that the judge reads.
    """
    splits = load_battles(str(output / "data"))
    battles = list(splits["validation"])
    table = load_predictions(str(output / "held_out" / "predictions.parquet"))
    of_judges = table["judge"] if "judge" in table else pd.Series(next(iter(titles)), table.index)
    files = []
    for number, judge in enumerate(titles):
        folder = output / f"judge{number}"
        read = [features_table(as_read(splits[name], folder)) for name in ("validation", "train")]
        style_as_read = baseline_predictions(*read)[0]["logistic_regression"]
        training = load_features(folder)
        regression = baseline_predictions(features_table(battles), training)[0]["logistic_regression"]
        rows = table[(of_judges == judge) & (table["order"] == "mean")].set_index("id", drop=False)
        rows = rows.loc[[battle["id"] for battle in battles]].drop(columns="judge", errors="ignore")
        probabilities = rows[PROBABILITIES].to_numpy()
        columns = np.hstack([probabilities, features_of(battles, rows).loc[rows["id"]].to_numpy()])
        fit = WITH_STYLE[f"style_{PENALTIES[1]}"]
        for name, changed in (
            ("mean_with_regression", (probabilities + regression) / 2),
            ("corrected_by_style", cross_fitted(columns, *votes_and_groups(rows), fit, apply_calibration)),
            ("style_as_read", style_as_read),
        ):
            files.append(output / f"{name}{number if len(titles) > 1 else ''}.parquet")
            save_predictions(rows.assign(**dict(zip(PROBABILITIES, changed.T, strict=True))), files[-1])
    run(
        "validate.py", "--predictions", output / "held_out" / "predictions.parquet", *files, "--dataset_name",
        output / "data", "--output_dir", output / "with_style", "--overwrite",
    )  # fmt: skip
    figures = json.loads((output / "with_style" / "metrics.json").read_text())
    rows = [
        [name.rpartition("/")[2], interval(found["log_loss"]), interval(found["accuracy"])]
        for name, found in (figures["judges"] | figures["baselines"]).items()
    ]
    differences = [
        [
            f"{found['judge'].rpartition('/')[2]} minus {found['baseline'].rpartition('/')[2]}",
            interval(found["log_loss"]),
        ]
        for found in figures["differences"]
    ]
    blocks = [
        markdown_table(["held-out prompts, both orders", "log loss", "accuracy"], rows),
        markdown_table(["on the same battles", "log loss"], differences),
    ]
    print("", *blocks, sep="\n\n", flush=True)
    return blocks


def as_read(battles: Iterable[dict], judge: Path) -> list[dict]:
    """The battles with no more of their texts than the judge is shown, by the judge's own tokens."""
    tokenizer, settings, battles = load_tokenizer(str(judge)), JudgeFile.load(judge), list(battles)
    encoded = example_spans(battles, tokenizer, settings.max_length, settings.prompt_version)
    read = []
    for battle, (*_, spans) in zip(battles, encoded, strict=True):
        texts: dict[str, list[str]] = {name: [] for name in TURN_COLUMNS}
        for span in spans:
            if span.name in texts:
                (ids,) = tokenize([battle[span.name][span.turn - 1] or ""], tokenizer)
                texts[span.name].append(tokenizer.decode(ids[: span.kept]))
        read.append(battle | texts)
    return read


def learning_curve(judge: Path) -> dict[int, float]:
    """Validation log loss in one order by step, if the judge was evaluated while it was trained."""
    checkpoints = sorted(judge.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    history = json.loads((checkpoints[-1] / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: entry["eval_log_loss"] for entry in history if "eval_log_loss" in entry}


def show_curves(curves: dict[str, dict[int, float]]) -> str:
    steps = sorted(set().union(*curves.values()))
    rows = [
        [title, *(f"{curve[step]:.3f}" if step in curve else "" for step in steps)] for title, curve in curves.items()
    ]
    table = markdown_table(["validation log loss in one order after steps", *map(str, steps)], rows)
    print("", table, sep="\n\n", flush=True)
    return table


def interval(figure: dict) -> str:
    return format_figure(figure, ".3f")


def run(recipe: str, *arguments) -> None:
    subprocess.run([sys.executable, RECIPES / recipe, *map(str, arguments)], check=True)


if __name__ == "__main__":
    run_recipe(main)
