"""
Make synthetic battles with known vote probabilities.

    lmsys-trl synthesize --output_dir data/demo

Writes train.csv and test.csv in Kaggle's format. train_probabilities.csv and test_probabilities.csv hold the
probabilities that the votes were drawn from, which are the best possible predictions.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.errors import raise_problems
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class SynthesizeConfig:
    """How many battles, and where they are written."""

    output_dir: str = field(metadata={"help": "The folder for the files."})
    num_train: int = field(default=850, metadata={"help": "Battles in train.csv."})
    num_test: int = field(
        default=250, metadata={"help": "Battles in test.csv, none with a first prompt of train.csv."}
    )
    seed: int = field(default=0, metadata={"help": "The battles depend on it."})


CONFIGS = (SynthesizeConfig,)


def main():
    config, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    import pandas as pd

    from lmsys_trl.artifacts import atomic_write
    from lmsys_trl.data.synthetic import kaggle_row, make_train_and_test
    from lmsys_trl.outputs import claim
    from lmsys_trl.predictions.table import PROBABILITIES

    train, test = make_train_and_test(config.num_train, config.num_test, config.seed)
    folder, tables = Path(config.output_dir), {}
    for name, battles in (("train", train), ("test", test)):
        known = pd.DataFrame([battle["probabilities"] for battle in battles], columns=PROBABILITIES)
        known.insert(0, "id", [battle["id"] for battle in battles])
        tables[folder / f"{name}.csv"] = pd.DataFrame(map(kaggle_row, battles)).to_csv(index=False)
        tables[folder / f"{name}_probabilities.csv"] = known.to_csv(index=False)
    with claim(folder):
        raise_problems(
            [
                f"output_dir: {path} exists with other content, so it is not replaced. Choose another output_dir"
                for path, content in tables.items()
                if path.exists() and path.read_text(encoding="utf-8") != content
            ]
        )
        for path, content in tables.items():
            with atomic_write(path) as draft:
                draft.write_text(content, encoding="utf-8")
    logger.info("%d battles to train on and %d to test on, written to %s", len(train), len(test), folder)
    suggest_next("prepare", "--sources", folder / "train.csv", "--output_dir", folder / "battles")


if __name__ == "__main__":
    run_recipe(main)
