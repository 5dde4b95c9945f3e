"""Loading a data set that `lmsys-trl prepare` made."""

import json
from contextlib import suppress
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import DatasetCard
from huggingface_hub.errors import HFValidationError
from yaml import YAMLError

from ..errors import UserError, first_line
from ..hub import describe_dataset
from .ledger import RECORD_FILE, REMOVED_FILE
from .schema import BATTLE_SCHEMA


def load_battles(name: str) -> DatasetDict:
    """
    Load a data set.

    Args:
        name (`str`): A folder made by `lmsys-trl prepare`, or the name of one on the Hub.

    Raises:
        UserError: If there is none, or it was not made by `lmsys-trl prepare`.
    """
    if Path(name).is_file():
        raise UserError(
            f"dataset_name: {name} is a file. Make a data set of it with lmsys-trl prepare --sources {name} "
            "--output_dir data/battles, and name that"
        )
    try:
        battles = load_dataset(name)
    except (OSError, ValueError, HFValidationError, datasets.exceptions.DatasetsError) as error:
        fix = f"lmsys-trl prepare --sources FILE --output_dir {name} makes it"
        folders = [path.as_posix() for path in Path(name).parent.glob("*/")]
        if name not in folders and (nearest := get_close_matches(name, folders, n=1)):
            fix = f"Did you mean {nearest[0]}?"
        raise UserError(
            f"dataset_name: {name} is not a data set, neither a folder nor on the Hub ({first_line(error)}). {fix}"
        ) from error
    missing = sorted(set(BATTLE_SCHEMA.names) - set(battles["train"].column_names if "train" in battles else []))
    if missing:
        raise UserError(f"dataset_name: {name} has no columns {', '.join(missing)}. Make it with lmsys-trl prepare")
    return battles


def removed_ids(name: str) -> set[str]:
    """The ids of the battles that `prepare` removed from a data set. None are known of one on the Hub."""
    path = Path(name) / REMOVED_FILE
    if not path.is_file():
        return set()
    try:
        return set(pq.read_table(path, columns=["id"])["id"].to_pylist())
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{path}: damaged: {first_line(error)}. Make the data set again") from error


def dataset_info(name: str) -> dict:
    """
    Where a data set of [`load_battles`] is published.

    Returns:
        `dict`: Its `id` and `revision` on the Hub and its `license`, None if unknown.
    """
    known: dict[str, str | None] = dict.fromkeys(("id", "revision", "license"))
    folder = Path(name)
    # Nothing to fail for, whatever is in these files.
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, YAMLError):
        if folder.is_dir():
            known["license"] = DatasetCard.load(folder / "README.md").data.license
            record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
            if record["configuration"].get("push_to_hub"):
                known["id"] = record["configuration"]["hub_dataset_id"]
        else:
            known |= describe_dataset(name)
    return known


def data_fingerprint(dataset: Dataset) -> str:
    """A hash of a data set's content, which does not depend on where it is stored."""
    digest = sha256()
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
            writer.write_table(table.replace_schema_metadata().combine_chunks())
        digest.update(sink.getvalue())
    return digest.hexdigest()
