"""
Votes in, battles out: reads Kaggle-format CSV files and writes a `DatasetDict` with `train` and `validation`.

    python recipes/prepare.py --sources a.csv b.csv --output_dir data/battles
"""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, DatasetDict

from lmsys_trl.battle import BATTLE_FEATURES, WINNERS, first_prompt
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.provenance import file_fingerprint, provenance
from lmsys_trl.sources import read_kaggle_csv
from lmsys_trl.splits import validation_groups


@dataclass
class PrepareConfig:
    """Where the votes are and how they are split."""

    sources: list[str] = field(metadata={"help": "CSV files in the columns of the competition's train.csv."})
    output_dir: str = field(metadata={"help": "The folder that becomes the data set."})
    validation_share: float = field(default=0.2, metadata={"help": "Share of the battles in validation."})
    seed: int = field(default=42, metadata={"help": "Another seed, another validation set."})


def main():
    config, given = parse_config(PrepareConfig)
    refuse_foreign_folder(Path(config.output_dir))
    battles, counts = read_sources(config.sources)
    splits = split(battles, config.validation_share, config.seed)
    save(splits, Path(config.output_dir), {"sources": counts, **provenance(given)})
    for name, rows in splits.items():
        winners = Counter(battle["winner"] for battle in rows)
        print(f"{name}: {len(rows)} battles,", ", ".join(f"{winners[w] / len(rows):.1%} {w}" for w in WINNERS))
    print(f"Written to {config.output_dir}")


def read_sources(paths: list[str]) -> tuple[list[dict], dict]:
    """All battles, and for the record what was read from each file. All bad files are told at once."""
    battles, counts, errors = [], {}, []
    for path in paths:
        source = Path(path).stem
        if source in counts:
            errors.append(f"{path}: another source is named {source} too. Rename one, since names tell sources apart")
            continue
        counts[source] = {}
        try:
            rows, changes = read_kaggle_csv(path)
        except ValueError as error:
            errors.append(str(error))
            continue
        battles += rows
        counts[source] = {"battles": len(rows), "sha256": file_fingerprint(path), "changes": dict(changes)}
        print(f"{source}: {len(rows)} battles", *(f"({count} {change})" for change, count in changes.items()))
    if errors:
        raise ValueError("\n".join([*errors, "Nothing was written."]))
    return battles, counts


def split(battles: list[dict], share: float, seed: int) -> dict[str, list[dict]]:
    """Battles with the same first prompt stay together, and each winner has its share on both sides."""
    if not 0 < share < 1:
        raise ValueError(f"validation_share: expected a number between 0 and 1, found {share}")
    groups = [first_prompt(battle) for battle in battles]
    held_out = validation_groups(groups, [battle["winner"] for battle in battles], share, seed)
    splits = {"train": [], "validation": []}
    for battle, group in zip(battles, groups, strict=True):
        splits["validation" if group in held_out else "train"].append(battle)
    return splits


def refuse_foreign_folder(folder: Path) -> None:
    if folder.exists() and not (folder / "dataset_dict.json").is_file():
        raise ValueError(f"output_dir: {folder} exists and is no data set of this recipe, so it is not replaced")


def save(splits: dict[str, list[dict]], folder: Path, record: dict) -> None:
    """Write beside the folder and exchange it at the end, so that a broken run leaves the old data set as it was."""
    new, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    dataset = DatasetDict({name: Dataset.from_list(rows, features=BATTLE_FEATURES) for name, rows in splits.items()})
    dataset.save_to_disk(new)
    (new / "prepare.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    run_recipe(main)
