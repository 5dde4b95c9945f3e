"""
What do teachers teach the judge of smollm2.yaml? Trains it on generated battles with votes and with the probabilities
that these were drawn from; and, with --assets, on real votes alone and with the out-of-fold predictions of three
judges of its own size. Reports are in OUTPUT/*/report.

    python benchmarks/teachers.py --output_dir runs/teachers --assets DIR --record
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from real_votes import SOURCES, run, show_judges
from results import record

from lmsys_trl.artifacts import strip_local_paths
from lmsys_trl.config import parse_config
from lmsys_trl.terminal import run_recipe

NUM_FOLDS = 3


@dataclass
class TeachersConfig:
    """How many battles and steps."""

    output_dir: str = field(metadata={"help": "The folder for data sets, judges and reports."})
    assets: str | None = field(
        default=None, metadata={"help": "A folder with data/*.csv in the competition's columns."}
    )
    sample: int = field(default=400, metadata={"help": "Real battles of each file."})
    validation_fraction: float = field(
        default=0.2, metadata={"help": "Fraction of the real battles held out, by prompt."}
    )
    options: list[str] = field(
        default_factory=lambda: ["max_length=256", "learning_rate=5e-4", "per_device_train_batch_size=4"],
        metadata={"help": "key=value for recipes/sft.py on real votes."},
    )
    record: bool = field(default=False, metadata={"help": "Write the tables to docs/results.md."})


def main():
    config, _ = parse_config(TeachersConfig)
    output = Path(config.output_dir)
    blocks = learn_from_generator(output / "known")
    if config.record:
        record("teachers", *blocks)
    if config.assets:
        blocks = learn_from_judges(output / "real", Path(config.assets) / "data", config)
        if config.record:
            record("teachers_real_votes", *blocks)


def learn_from_generator(folder: Path) -> list[str]:
    """Generated battles: the probabilities of the generator are the best teacher there can be."""
    run("synthesize.py", "--output_dir", folder)
    run("prepare.py", "--sources", folder / "train.csv", "--validation_fraction", 0.1, "--output_dir", folder / "data")
    teacher = ["--teacher_files", folder / "train_probabilities.csv", "--allow_unmatched", "--hard_weight", 0]
    for name, options in (("votes", []), ("probabilities", teacher)):
        train(folder / "data", folder / name, *options)
    judges = {folder / "votes": "votes", folder / "probabilities": "probabilities, `hard_weight: 0`"}
    votes = ["--test_file", folder / "test.csv", "--known_probabilities", folder / "test_probabilities.csv"]
    return report(folder, "learned from", judges, *votes)


def learn_from_judges(folder: Path, data: Path, config: TeachersConfig) -> list[str]:
    """Real votes: the folds' judges as teachers, a student with and without them, and the average of the teachers."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [{"path": str(data / f"{name}.csv"), "sample": config.sample} for name in SOURCES]
    (folder / "sources.yaml").write_text(yaml.safe_dump({"sources": sources}), encoding="utf-8")
    split = ["--num_folds", NUM_FOLDS, "--validation_fraction", config.validation_fraction]
    run("prepare.py", folder / "sources.yaml", *split, "--output_dir", folder / "data")
    options = [f"--{option}" for option in config.options]
    teachers = [folder / f"fold{fold}" for fold in range(NUM_FOLDS)]
    for fold, judge in enumerate(teachers):
        train(folder / "data", judge, "--fold", fold, *options)
    predictions = folder / "teachers.parquet"
    run(
        "out_of_fold.py", "--adapter", *teachers, "--dataset_name", folder / "data", "--tta", "swap", "--output_file",
        predictions,
    )  # fmt: skip
    run("merge.py", "--adapter", *teachers, "--output_dir", folder / "average")
    train(folder / "data", folder / "student_alone", *options)
    mix = ["--teacher_files", predictions, "--hard_weight", 0.5, "--kl_weight", 0.5]
    train(folder / "data", folder / "student", *mix, *options)
    judges = {
        folder / "student_alone": "a student without teachers",
        folder / "student": "a student with them, half and half",
        folder / "average": "the average of the teachers, `merge.py`",
        **{teacher: f"teacher {fold + 1}" for fold, teacher in enumerate(teachers)},
    }
    return report(folder, "real votes", judges, "--dataset_name", folder / "data")


def train(data: Path, judge: Path, *options) -> None:
    run("sft.py", "smollm2.yaml", "--dataset_name", data, "--output_dir", judge, *options)


def report(folder: Path, name: str, judges: dict[Path, str], *votes) -> list[str]:
    run("validate.py", "--adapter", *judges, *votes, "--output_dir", folder / "report")
    figures = json.loads((folder / "report" / "metrics.json").read_text())
    return show_judges(name, figures, {strip_local_paths(str(judge)): title for judge, title in judges.items()})


if __name__ == "__main__":
    run_recipe(main)
