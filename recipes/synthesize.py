"""
Battles about checkable things with known vote probabilities, as Kaggle-format CSV files: train.csv, test.csv, and
test_probabilities.csv, the best forecast of test.csv's votes that there can be.

    python recipes/synthesize.py --output_dir data/demo
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lmsys_trl.battle import WINNERS, first_prompt
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.predictions import PROBABILITIES
from lmsys_trl.synthetic import make_battles


@dataclass
class SynthesizeConfig:
    """How many battles, and where they go."""

    output_dir: str = field(metadata={"help": "The folder for the three files."})
    num_train: int = field(default=850, metadata={"help": "Battles in train.csv."})
    num_test: int = field(
        default=250, metadata={"help": "Battles in test.csv, none with a first prompt of train.csv."}
    )
    seed: int = field(default=0, metadata={"help": "Another seed, other battles."})


def main():
    config, _ = parse_config(SynthesizeConfig)
    train, test = make_two_sides(config.num_train, config.num_test, config.seed)
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, battles in (("train", train), ("test", test)):
        to_kaggle(battles).to_csv(folder / f"{name}.csv", index=False)
        known = pd.DataFrame([battle["probabilities"] for battle in battles], columns=PROBABILITIES)
        known.insert(0, "id", [battle["id"] for battle in battles])
        known.to_csv(folder / f"{name}_probabilities.csv", index=False)
    print(f"{len(train)} battles to learn from and {len(test)} to test on, written to {folder}")


def make_two_sides(num_train: int, num_test: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Battles to learn from, and battles to test on with other first prompts."""
    train = make_battles(num_train, seed=f"{seed}-train")
    seen = {first_prompt(battle) for battle in train}
    candidates = make_battles(20 * num_test, seed=f"{seed}-test")
    test = [battle for battle in candidates if first_prompt(battle) not in seen][:num_test]
    if len(test) < num_test:
        raise ValueError(f"num_train={num_train} leaves too few new prompts for num_test={num_test}. Make fewer")
    return train, test


def to_kaggle(battles: list[dict]) -> pd.DataFrame:
    rows = [
        {
            "id": battle["id"],
            "model_a": battle["model_a"],
            "model_b": battle["model_b"],
            **{key: json.dumps(battle[key]) for key in ("prompt", "response_a", "response_b")},
            **{f"winner_{winner}": int(battle["winner"] == winner) for winner in WINNERS},
        }
        for battle in battles
    ]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    run_recipe(main)
