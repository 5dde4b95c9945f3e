"""
What does the judge of smollm2.yaml learn from real votes? Prepares three files of votes, trains a judge with each set
of options, and predicts the held-out prompts and the first hundred battles of the competition in both orders. Prints
one table with 95% intervals.

    python benchmarks/real_votes.py --assets DIR --output_dir runs/real --options max_length=512 max_steps=100 \
        --variants swap=none "swap=paired battles_per_step=4 per_device_train_batch_size=1"
"""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lmsys_trl.battle import first_prompt
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.predictions import probabilities_of
from lmsys_trl.prepared import load_battles
from lmsys_trl.report.figures import vote_labels
from lmsys_trl.sources import read_battles

RECIPES = Path(__file__).parent.parent / "recipes"
SOURCES = ("mt_bench_human", "tulu_human_eval", "pandalm_votes")
NUM_RESAMPLES = 2000


@dataclass
class RealVotesConfig:
    """Where the votes are, and what is changed in smollm2.yaml."""

    assets: str = field(metadata={"help": "A folder with data/*.csv in the competition's columns."})
    output_dir: str = field(metadata={"help": "Where data set, judges and reports go."})
    validation_share: float = field(default=0.05, metadata={"help": "Share of the battles held out, by prompt."})
    options: list[str] = field(default_factory=list, metadata={"help": "key=value for recipes/sft.py, for all."})
    variants: list[str] = field(
        default_factory=lambda: [""], metadata={"help": "One judge each: key=value, several in quotes."}
    )


def main():
    config, _ = parse_config(RealVotesConfig)
    data, output = Path(config.assets) / "data", Path(config.output_dir)
    sources = [data / f"{name}.csv" for name in SOURCES]
    run(
        "prepare.py",
        "--sources",
        *sources,
        "--validation_share",
        config.validation_share,
        "--output_dir",
        output / "data",
    )
    arena = data / "arena_first100.csv"
    groups = {
        "held_out": load_battles(str(output / "data"))["validation"].to_pandas().set_index("id")["group"],
        "arena_first100": pd.Series({battle["id"]: first_prompt(battle) for battle in read_battles(arena)[0]}),
    }
    figures = {}
    for number, variant in enumerate(config.variants):
        judge = output / f"judge{number}"
        options = [f"--{option}" for option in [*config.options, *variant.split()]]
        start = time.monotonic()
        run("sft.py", "smollm2.yaml", "--dataset_name", output / "data", "--output_dir", judge, *options)
        minutes = (time.monotonic() - start) / 60
        for name, votes in (
            ("held_out", ["--dataset_name", output / "data"]),
            ("arena_first100", ["--test_file", arena]),
        ):
            report = judge / name
            run("validate.py", "--adapter", judge, *votes, "--output_dir", report)
            predictions = pd.read_parquet(report / "predictions.parquet")
            figures.setdefault(name, {})[variant] = losses(predictions, groups[name])
        print(f"{variant}: trained in {minutes:.0f} minutes")
    for name in figures:
        show(name, figures[name])


def losses(predictions: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    """For each battle its group, its log loss in one order and in both, and whether the verdict flips."""
    labels = vote_labels(predictions)
    one, other, mean = (probabilities_of(predictions, order) for order in ("ab", "ba", "mean"))
    rows = np.arange(len(labels))
    return pd.DataFrame(
        {
            "group": groups[predictions[predictions["order"] == "ab"]["id"]].to_numpy(),
            "log loss, one order": -np.log(one[rows, labels]),
            "log loss, both orders": -np.log(mean[rows, labels]),
            "flips": one.argmax(axis=1) != other.argmax(axis=1),
        }
    )


def show(name: str, table: dict[str, pd.DataFrame]) -> None:
    print(f"\n{name}, {len(next(iter(table.values())))} battles, 95% intervals by resampling groups of prompts")
    first = next(iter(table.values()))
    for figure in list(first.columns[1:]):
        for variant, battles in table.items():
            print(f"{figure:22} {variant:32} {interval(battles[figure], battles['group'])}")
        for variant, battles in list(table.items())[1:]:
            difference = battles[figure].astype(float) - first[figure].astype(float)
            print(f"{'':22} {variant + ' less the first':32} {interval(difference, battles['group'])}")


def interval(values: pd.Series, groups: pd.Series) -> str:
    sums = pd.DataFrame({"sum": values.astype(float), "count": 1.0}).groupby(groups.to_numpy()).sum().to_numpy()
    drawn = np.random.default_rng(0).integers(0, len(sums), (NUM_RESAMPLES, len(sums)))
    totals = sums[drawn].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], (0.025, 0.975))
    return f"{values.mean():7.3f} [{low:.3f}, {high:.3f}]"


def run(recipe: str, *arguments) -> None:
    subprocess.run([sys.executable, RECIPES / recipe, *map(str, arguments)], check=True)


if __name__ == "__main__":
    run_recipe(main)
