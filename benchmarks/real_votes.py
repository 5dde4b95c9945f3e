"""
What does the judge of smollm2.yaml learn from real votes? Prepares three files of votes, trains a judge with each set
of options, and predicts the held-out prompts and the first hundred battles of the competition in both orders. Prints
one table with 95% intervals.

    python benchmarks/real_votes.py --assets DIR --output_dir runs/real --options max_length=512 max_steps=100 \\
        --variants swap=none "swap=paired battles_per_step=4 per_device_train_batch_size=1"
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.artifacts import strip_local_paths
from lmsys_trl.config import parse_config
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


def main():
    config, _ = parse_config(RealVotesConfig)
    data, output = Path(config.assets) / "data", Path(config.output_dir)
    sources = [data / f"{name}.csv" for name in SOURCES]
    run(
        "prepare.py", "--sources", *sources, "--validation_fraction", config.validation_fraction,
        "--output_dir", output / "data",
    )  # fmt: skip
    arena = data / "arena_first100.csv"
    judges = {}
    for number, variant in enumerate(config.variants):
        judge = output / f"judge{number}"
        options = [f"--{option}" for option in [*config.options, *variant.split()]]
        start = time.monotonic()
        run("sft.py", "smollm2.yaml", "--dataset_name", output / "data", "--output_dir", judge, *options)
        print(f"{variant}: trained in {(time.monotonic() - start) / 60:.0f} minutes")
        judges[strip_local_paths(str(judge))] = variant
    adapters = [output / f"judge{number}" for number in range(len(judges))]
    for name, votes in (("held_out", ["--dataset_name", output / "data"]), ("arena_first100", ["--test_file", arena])):
        run("validate.py", "--adapter", *adapters, *votes, "--output_dir", output / name)
        show(name, json.loads((output / name / "metrics.json").read_text()), judges)


def show(name: str, figures: dict, judges: dict[str, str]) -> None:
    print(f"\n{name}, {figures['num_battles']} battles, 95% intervals over {figures['num_groups']} groups of prompts")
    for judge, variant in judges.items():
        found = figures["judges"][judge]
        for title, figure in (
            ("log loss, one order", found["orders"]["ab"]["log_loss"]),
            ("log loss, both orders", found["orders"]["mean"]["log_loss"]),
            ("flips", found["position"]["flip_rate"]),
        ):
            print(f"{title:22} {variant:32} {interval(figure)}")
    for difference in figures["differences"]:
        if {difference["judge"], difference["baseline"]} <= judges.keys():
            one, other = judges[difference["judge"]], judges[difference["baseline"]]
            print(f"{'log loss, both orders':22} {one} minus {other}: {interval(difference['log_loss'])}")


def interval(figure: dict) -> str:
    return f"{figure['value']:7.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def run(recipe: str, *arguments) -> None:
    subprocess.run([sys.executable, RECIPES / recipe, *map(str, arguments)], check=True)


if __name__ == "__main__":
    run_recipe(main)
