"""
What is the answer best read from? Trains the judge of smollm2.yaml on the same votes with each head: the base model's
own with both losses, a trained copy of the letters' rows, and new rows. Started again, it keeps the judges it has.

    python benchmarks/heads.py --output_dir runs/heads --record
    python benchmarks/heads.py --output_dir runs/heads --train_file votes.csv --test_file others.csv --seeds 1 2
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from real_votes import run, show_judges
from results import record

from lmsys_trl.artifacts import strip_local_paths
from lmsys_trl.config import parse_config
from lmsys_trl.terminal import run_recipe

HEADS = {
    "answer": ("its own, softmax over the vocabulary", ["--loss", "answer", "--head", "lm_head"]),
    "frozen": ("its own, softmax over the letters", ["--loss", "letters", "--head", "lm_head"]),
    "letters": ("the letters' rows, trained", ["--loss", "letters", "--head", "letters"]),
    "new": ("new rows", ["--loss", "letters", "--head", "new"]),
}


@dataclass
class HeadsConfig:
    """The votes, and what is changed in smollm2.yaml."""

    output_dir: str = field(metadata={"help": "The folder for data set, judges and reports."})
    train_file: str | None = field(default=None, metadata={"help": "Votes (default: those of the demo)."})
    test_file: str | None = field(default=None, metadata={"help": "Votes on other prompts."})
    heads: list[str] = field(default_factory=lambda: list(HEADS), metadata={"help": f"Of {', '.join(HEADS)}."})
    seeds: list[int] = field(default_factory=lambda: [42], metadata={"help": "One judge each."})
    options: list[str] = field(default_factory=list, metadata={"help": "key=value for recipes/sft.py, for all."})
    record: bool = field(default=False, metadata={"help": "Write the table to docs/results.md."})


def main():
    config, _ = parse_config(HeadsConfig)
    output = Path(config.output_dir)
    train, test = config.train_file, config.test_file
    if train is None or test is None:
        run("synthesize.py", "--output_dir", output / "votes")
        train, test = output / "votes" / "train.csv", output / "votes" / "test.csv"
    run("prepare.py", "--sources", train, "--validation_fraction", 0.1, "--output_dir", output / "data")
    predictions, titles = [], {}
    for head in config.heads:
        for seed in config.seeds:
            name = f"{head}-{seed}"
            predictions.append(output / f"{name}.parquet")
            titles[strip_local_paths(str(predictions[-1]))] = HEADS[head][0]
            train_and_predict(output, name, test, [*HEADS[head][1], "--seed", seed], config.options)
    report = output / "report"
    run("validate.py", "--predictions", *predictions, "--test_file", test, "--output_dir", report, "--overwrite")
    blocks = show_judges("head", json.loads((report / "metrics.json").read_text()), titles)
    if config.record:
        record("heads", *blocks)


def train_and_predict(output: Path, name: str, test: str | Path, head: list, options: list[str]) -> None:
    shared = [f"--{option}" for option in options]
    run("sft.py", "smollm2.yaml", "--dataset_name", output / "data", "--output_dir", output / name, *head, *shared)
    file = output / f"{name}.parquet"
    if not file.exists():
        run("predict.py", "--adapter", output / name, "--test_file", test, "--output_file", file, "--tta", "swap")


if __name__ == "__main__":
    run_recipe(main)
