"""
Votes in, battles out: reads votes from any number of sources, cleans them, keeps a ledger of what it changed, splits
them without a leak, and writes a data set with its card, which `datasets.load_dataset` reads.

    python recipes/prepare.py arena.yaml --output_dir data/arena
    python recipes/prepare.py --sources a.csv b.csv --output_dir data/battles
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset

from lmsys_trl import preparation
from lmsys_trl.battle import WINNERS
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.dataset_cards import (
    contamination_statement,
    dataset_card,
    plots,
    sources_not_to_pass_on,
    split_statement,
)
from lmsys_trl.duplicates import VOTE
from lmsys_trl.hub import push_folder
from lmsys_trl.prompts import PROMPT_VERSION
from lmsys_trl.provenance import file_fingerprint, provenance, without_folders
from lmsys_trl.sources import Ledger, Sources, read_battles, read_source
from lmsys_trl.store import open_texts, replaced_folder, store_battles, write_parquet, write_removed

TEXTS = "texts.arrow"
RECORD = "prepare.json"


@dataclass
class PrepareConfig:
    """Where the votes are, what becomes of them, and how they are split."""

    sources: Sources = field(metadata={"help": "Paths of votes, or in a YAML a list of path, format, sample, swap..."})
    output_dir: str = field(metadata={"help": "The folder that becomes the data set."})
    duplicates: Literal["keep", "first", "soft"] = field(
        default="keep",
        metadata={"help": "Several votes on one item in a source: all, the first, or one row with their shares."},
    )
    near_duplicates: float = field(
        default=0.8, metadata={"help": "Similarity (Jaccard) from which first prompts belong together; 0: equal only."}
    )
    validation_share: float = field(default=0.2, metadata={"help": "Share of the battles in validation; 0 for none."})
    validation_size: int | None = field(default=None, metadata={"help": "Their number, in place of the share."})
    validation_sources: list[str] | None = field(
        default=None, metadata={"help": "Names of the sources that validation is made of (all unless told)."}
    )
    validation_ids: str | None = field(
        default=None, metadata={"help": "In place of share and size: a file with the ids in validation, one a line."}
    )
    num_folds: int | None = field(default=None, metadata={"help": "Number this many folds of the training battles."})
    contamination: list[str] | None = field(
        default=None, metadata={"help": "Other files: which of their rows are in the data already?"}
    )
    conversations: bool = field(
        default=False, metadata={"help": "Also write the rows as conversations for SFTTrainer."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "For conversations: a tokenizer's folder or Hub id."}
    )
    pad_token: str | None = field(
        default=None, metadata={"help": "For conversations: as in the YAML of its base model."}
    )
    max_length: int = field(default=2048, metadata={"help": "For conversations: tokens in a row at most."})
    rows: Literal["last", "all"] = field(default="last", metadata={"help": "For conversations: which of a battle."})
    push_to_hub: str | None = field(default=None, metadata={"help": "owner/name: push data and card to the Hub."})
    private: bool = field(default=True, metadata={"help": "Whether a new repository is for its owner only."})
    publish_despite_license: list[str] | None = field(
        default=None,
        metadata={"help": "Names of sources that are pushed though their licence forbids it or is unknown."},
    )
    seed: int = field(default=42, metadata={"help": "Another seed, other samples and another split."})


def main():
    config, given = parse_config(PrepareConfig)
    check(config)
    with replaced_folder(Path(config.output_dir), mark=RECORD) as folder:
        ledger = Ledger()
        battles = store_battles(read_all(config.sources, ledger), folder / TEXTS)
        refuse_to_publish(config)
        texts = open_texts(folder / TEXTS)
        clean(battles, config, ledger)
        preparation.group(battles, texts, config.near_duplicates)
        split(battles, config)
        preparation.fold(battles, config.num_folds, config.seed)
        rows = preparation.with_swaps(battles, {s.name: s.swap for s in config.sources if s.swap}, config.seed)
        write_battles(rows, texts, folder)
        write_removed(ledger.removed, battles, texts, folder / "removed.parquet")
        known = write_contamination(battles, texts, config, folder)
        token_lengths = write_conversations(config, folder)
        write_card(rows, texts, config, ledger, known, token_lengths, provenance(as_given(given)), folder)
        (folder / TEXTS).unlink()
    announce(rows, config.output_dir)
    if config.push_to_hub:
        message = f"{len(rows)} battles"
        print("Pushed:", push_folder(Path(config.output_dir), config.push_to_hub, "dataset", config.private, message))


def check(config: PrepareConfig) -> None:
    """All that is wrong with the configuration and can be known before anything is read."""
    names = [source.name for source in config.sources]
    unknown = sorted(set(config.validation_sources or []) - set(names))
    checks = [
        (names, "sources: there is none"),
        (
            len(set(names)) == len(names),
            f"sources: {', '.join(names)} are not all different. Set name, to tell them apart",
        ),
        (0 <= config.validation_share < 1, "validation_share: expected at least 0 and less than 1"),
        (0 <= config.near_duplicates < 1, "near_duplicates: expected at least 0 and less than 1"),
        (config.num_folds is None or config.num_folds > 1, "num_folds: expected 2 or more"),
        (not unknown, f"validation_sources: there is no source {', '.join(unknown)}"),
        (config.tokenizer or not config.conversations, "conversations: need a tokenizer"),
    ]
    problems = [problem for fine, problem in checks if not fine]
    if problems:
        raise ValueError("\n  ".join([f"{len(problems)} mistake{'s' * (len(problems) > 1)}:", *problems]))


def read_all(sources: Sources, ledger: Ledger) -> Iterator[dict]:
    """The battles of all sources. All bad sources are told at once."""
    errors = []
    for source in sources:
        try:
            yield from read_source(source, ledger)
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError("\n".join([*errors, "Nothing was written."]))


def refuse_to_publish(config: PrepareConfig) -> None:
    refused = set(sources_not_to_pass_on(config.sources)) - set(config.publish_despite_license or [])
    if config.push_to_hub and refused:
        raise ValueError(
            f"push_to_hub: the licence of {', '.join(sorted(refused))} forbids passing it on, or is unknown. Set its "
            f"license, or --publish_despite_license {' '.join(sorted(refused))} if you may. Nothing was written"
        )


def clean(battles: pd.DataFrame, config: PrepareConfig, ledger: Ledger) -> None:
    battles["reason"] = None
    preparation.sample(battles, {s.name: s.sample for s in config.sources if s.sample is not None}, config.seed)
    preparation.remove_duplicates(battles, [source.name for source in config.sources], config.duplicates)
    for source, count in preparation.make_ids_unique(battles).items():
        ledger.changes[source]["ids that an earlier source has too, the source's name put before"] += count


def split(battles: pd.DataFrame, config: PrepareConfig) -> None:
    if config.validation_ids is not None:
        path = Path(config.validation_ids)
        if not path.is_file():
            raise ValueError(f"validation_ids: there is no file {path}")
        preparation.split_by_ids(battles, set(path.read_text(encoding="utf-8").split()), path)
    else:
        preparation.split(
            battles, config.validation_share, config.validation_size, config.validation_sources, config.seed
        )


def write_battles(rows: pd.DataFrame, texts: pa.Table, folder: Path) -> None:
    (folder / "battles").mkdir()
    for name, part in rows.groupby("split"):
        write_parquet(part, texts, folder / "battles" / f"{name}.parquet")


def write_contamination(battles: pd.DataFrame, texts: pa.Table, config: PrepareConfig, folder: Path) -> dict:
    """Which rows of other files are in the data already, row by row, and as counts by file."""
    counts = {}
    for path in config.contamination or []:
        others, _ = read_battles(path, patient=True)
        report = preparation.contamination(battles, texts, others, config.near_duplicates)
        (folder / "contamination").mkdir(exist_ok=True)
        report.to_csv(folder / "contamination" / f"{Path(path).stem}.csv", index=False)
        counts[Path(path).name] = report.groupby(["match", "splits"]).size().to_dict()
    return counts


def write_conversations(config: PrepareConfig, folder: Path) -> np.ndarray | None:
    """The conversations of each split; returns the lengths of their rows."""
    if not config.conversations:
        return None
    from lmsys_trl.prepared import converse  # imports torch: only where it is needed
    from lmsys_trl.rows import load_tokenizer

    tokenizer = load_tokenizer(config.tokenizer, config.pad_token)
    (folder / "conversations").mkdir()
    lengths = []
    for path in sorted((folder / "battles").glob("*.parquet")):
        battles = Dataset.from_parquet(str(path), cache_dir=str(folder / "cache"))
        conversations = converse(battles, tokenizer, config.max_length, config.rows)
        conversations.to_parquet(folder / "conversations" / path.name)
        lengths += conversations["num_tokens"]
    shutil.rmtree(folder / "cache")
    return np.array(lengths)


def write_card(
    rows: pd.DataFrame, texts: pa.Table, config: PrepareConfig, ledger: Ledger, known: dict,
    token_lengths: np.ndarray | None, record: dict, folder: Path,
) -> None:  # fmt: skip
    """The card with its plots, and prepare.json for machines."""
    removed = pd.read_parquet(folder / "removed.parquet", columns=["source", "reason"])
    languages = texts["language"].take(pa.array(rows.index[rows["swapped_from"].isna()])).to_pandas().value_counts()
    files = {
        path.relative_to(folder).as_posix(): file_fingerprint(path) for path in sorted(folder.glob("*/*.parquet"))
    }
    configs = ["battles", "conversations"] if config.conversations else ["battles"]
    statements = {
        "fingerprints": {
            name: sha256("".join(hash for path, hash in files.items() if path.startswith(name)).encode()).hexdigest()
            for name in configs
        },
        "title": Path(config.output_dir).name,
        "repo_id": config.push_to_hub,
        "split": split_statement(
            rows, config.near_duplicates, config.validation_ids, config.validation_sources, config.num_folds
        ),
        "contamination": [contamination_statement(name, counts) for name, counts in known.items()],
        "conversations": config.conversations
        and {
            "prompt_version": PROMPT_VERSION,
            "max_length": config.max_length,
            "tokenizer": without_folders(config.tokenizer),
            "which": config.rows,
        },
    }
    card = dataset_card(rows, languages, config.sources, ledger, removed, record, statements)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "plots").mkdir()
    unit = "characters" if token_lengths is None else "tokens in a row"
    lengths = rows["characters"].to_numpy() if token_lengths is None else token_lengths
    for name, png in plots(rows, lengths, unit).items():
        (folder / "plots" / name).write_bytes(png)
    facts = {
        name: {**facts, "rows": ledger.read[name], "changes": ledger.changes[name]}
        for name, facts in ledger.facts.items()
    }
    content = {"sources": facts, "sha256": files, **record}
    (folder / RECORD).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def as_given(given: dict) -> dict:
    sources = [{key: value for key, value in asdict(s).items() if value is not None} for s in given["sources"]]
    return given | {"sources": sources}


def announce(rows: pd.DataFrame, output_dir: str) -> None:
    for name, part in rows.groupby("split"):
        shares = ", ".join(f"{share:.1%} {winner}" for share, winner in zip(part[VOTE].mean(), WINNERS, strict=True))
        print(f"{name}: {len(part)} battles, {shares}")
    print(f"Written to {output_dir}")


if __name__ == "__main__":
    run_recipe(main)
