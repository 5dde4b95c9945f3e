"""Where a recipe's battles come from: a file in any format, or the validation split of a data set."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from datasets import Dataset

from ..artifacts import file_fingerprint
from ..errors import UserError, collect_problems
from ..terminal import logger
from .config import OUR_COLUMNS, BattlesConfig
from .dataset import data_fingerprint, load_battles
from .files import find_files
from .ledger import Ledger
from .schema import BATTLE_SCHEMA
from .sources import EXTRA, read_battles, read_source
from .text_store import write_arrow

if TYPE_CHECKING:
    from accelerate import PartialState


def check_battles_config(config: BattlesConfig, required: bool = True) -> list[str]:
    """Problems with the keys of [`BattlesConfig`]."""
    if config.test_file and config.dataset_name:
        return ["test_file, dataset_name: give one of the two"]
    if required and not config.test_file and not config.dataset_name:
        return ["test_file or dataset_name: missing. Name the battles"]
    problems: list[str] = []
    if config.test_file and not config.test_file.startswith(("-", "hub:", "kaggle:")):
        with collect_problems(problems):
            find_files(Path(config.test_file))
    return problems


def battles_to_predict(
    config: BattlesConfig, folder: Path, processes: "PartialState", with_extra: bool = False
) -> Dataset:
    """
    The battles to predict, with votes or without, memory-mapped.

    Args:
        config (`BattlesConfig`): Where they are.
        folder (`Path`): Where one process stores the battles of a file, for all.
        processes (`PartialState`): The processes that make this call together.
        with_extra (`bool`): Give the battles of a file [`EXTRA`].
    """
    if config.test_file is None:
        return _validation_split(config)
    stored = folder / "battles.arrow"
    with processes.main_process_first():
        if processes.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            source, ledger = config.source(), Ledger()
            battles = read_source(source, ledger, lenient=True, max_broken_fraction=0, with_extra=with_extra)
            extra = pa.schema([(EXTRA, "string")] if with_extra else [])
            num_battles = write_arrow(battles, stored, pa.unify_schemas([BATTLE_SCHEMA, extra]))
            changes: Counter = ledger.changes[source.name]
            notes = "".join(f" ({count} {change})" for change, count in changes.items())
            logger.info("%s: %d battles%s", config.test_file, num_battles, notes)
    return Dataset.from_file(str(stored))


def stream_battles(config: BattlesConfig) -> Iterator[dict]:
    """The battles to predict, as they are read, with [`EXTRA`]. Broken rows are a [`UserError`] at the end."""
    if config.test_file is None:
        return iter(_validation_split(config))
    return read_source(config.source(), Ledger(), lenient=True, max_broken_fraction=0, with_extra=True)


def extra_fields(battle: dict) -> dict:
    """What a battle's row has besides what is read, or its data set besides the columns that all have."""
    if EXTRA in battle:
        return json.loads(battle[EXTRA])
    return {name: value for name, value in battle.items() if name not in OUR_COLUMNS}


def all_battles(config: BattlesConfig) -> list[dict]:
    """The battles with a vote or without, and of a data set swapped copies too: whatever may have been predicted."""
    return read_battles(config.source(), lenient=True)[0] if config.test_file else list(_validation_split(config))


def labelled_battles(config: BattlesConfig) -> tuple[list[dict], str]:
    """
    The battles with a vote, and a fingerprint of where they came from.

    Raises:
        UserError: If there are none.
    """
    if config.test_file:
        battles, _ = read_battles(config.source())
        fingerprint = file_fingerprint(config.test_file)
        labelled = [battle for battle in battles if battle["vote"] is not None]
    else:
        battles = _validation_split(config)
        fingerprint = data_fingerprint(battles)
        labelled = original_votes(battles)
    where = config.test_file or config.dataset_name
    if not labelled:
        raise UserError(f"{where}: none of its {len(battles)} battles has a vote")
    if len(labelled) < len(battles):
        logger.warning("%s: %d battles without a vote are skipped", where, len(battles) - len(labelled))
    return labelled, fingerprint


def original_votes(split: Dataset) -> list[dict]:
    """
    The battles of a split with a vote, without swapped copies, which say nothing that their sources do not where both
    orders are predicted.
    """
    return [battle for battle in split if battle["swapped_from"] is None and battle["vote"] is not None]


def _validation_split(config: BattlesConfig) -> Dataset:
    assert config.dataset_name is not None, "check_battles_config comes first"
    splits = load_battles(config.dataset_name)
    if "validation" not in splits:
        raise UserError(
            f"dataset_name: {config.dataset_name} has no validation split. Prepare it with validation_fraction above 0"
        )
    return splits["validation"]
