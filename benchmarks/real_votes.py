"""
What does the judge of smollm2.yaml learn from real votes? Prepares three files of votes, trains, and validates on the
held-out prompts and on the first hundred battles of the competition. Prints one table for each.

    python benchmarks/real_votes.py --assets DIR --output_dir runs/real_votes --options max_steps=190 swap=all
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config, run_recipe

RECIPES = Path(__file__).parent.parent / "recipes"
SOURCES = ("mt_bench_human", "tulu_human_eval", "pandalm_votes")


@dataclass
class RealVotesConfig:
    """Where the votes are, and what is changed in smollm2.yaml."""

    assets: str = field(metadata={"help": "A folder with data/*.csv in the competition's columns."})
    output_dir: str = field(metadata={"help": "Where data set, judge and reports go."})
    validation_share: float = field(default=0.05, metadata={"help": "Share of the battles held out, by prompt."})
    options: list[str] = field(default_factory=list, metadata={"help": "key=value for recipes/sft.py."})


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
    start = time.monotonic()
    options = [f"--{option}" for option in config.options]
    run("sft.py", "smollm2.yaml", "--dataset_name", output / "data", "--output_dir", output / "judge", *options)
    minutes = (time.monotonic() - start) / 60
    reports = {
        "held-out prompts": ["--dataset_name", output / "data"],
        "arena_first100": ["--test_file", data / "arena_first100.csv"],
    }
    for name, votes in reports.items():
        folder = output / name.replace(" ", "_")
        run("validate.py", "--adapter", output / "judge", *votes, "--output_dir", folder)
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps(metrics | {"training_minutes": minutes}, indent=2) + "\n")
    print(f"\ntrained for {minutes:.0f} minutes with {' '.join(config.options)}")


def run(recipe: str, *arguments) -> None:
    subprocess.run([sys.executable, RECIPES / recipe, *map(str, arguments)], check=True)


if __name__ == "__main__":
    run_recipe(main)
