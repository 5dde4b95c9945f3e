"""Battles while a data set is made: texts on disk, and in memory only the numbers that decide how they are used."""

import json
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..artifacts import read_json
from ..battle import swap_battle, swap_probabilities
from ..errors import UserError
from .columns import VOTE_COLUMNS
from .dedup import item_key, prompt_key
from .ledger import RECORD_FILE, REMOVED_FILE
from .rows import digest
from .schema import BATTLE_SCHEMA, PREPARED_SCHEMA

CHUNK = 1000  # battles whose texts are in memory at a time
TEXT_COLUMNS = ("source", "language", "model_a", "model_b", "prompt", "response_a", "response_b")
TEXT_SCHEMA = pa.schema([*(BATTLE_SCHEMA.field(name) for name in TEXT_COLUMNS), ("first_prompt", "string")])
REMOVED_SCHEMA = pa.schema(
    [("source", "string"), ("row", "int64"), ("id", "string"), ("reason", "string"), ("content", "string")]
)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """
    Replace the folder of a data set by a new one when that is complete. If anything fails, the old one is as it was.

    Raises:
        UserError: If the folder holds anything that `lmsys-trl prepare` did not write.
    """
    folder = folder.resolve()
    new, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    if old.exists() and not folder.exists():
        old.rename(folder)  # killed between the two renames below
    _refuse_foreign_files(folder)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign_files(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or not (folder / RECORD_FILE).is_file():
        raise UserError(
            f"output_dir: {folder.name} exists and is not a data set made by prepare, so it is not replaced"
        )
    try:
        recorded = read_json(folder / RECORD_FILE)["sha256"]
        written = {RECORD_FILE, "README.md", REMOVED_FILE, *recorded}
    except (UserError, KeyError, TypeError) as error:
        raise UserError(
            f"output_dir: {folder.name} is not replaced, since its {RECORD_FILE} is damaged and does not say what "
            "prepare wrote. Remove the folder, or choose another output_dir"
        ) from error
    foreign = [
        name
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in written
        if not name.startswith(("plots/", "contamination/", ".cache/"))
    ]
    if foreign:
        raise UserError(
            f"output_dir: {folder.name} holds {', '.join(foreign[:3])}, which prepare did not write. Move it, or "
            "choose another output_dir"
        )


def write_arrow(battles: Iterable[dict], path: Path, schema: pa.Schema = BATTLE_SCHEMA) -> int:
    """
    Write battles to an Arrow file in chunks, so that memory does not grow with their number.

    Args:
        battles (`Iterable[dict]`): Rows of [`BATTLE_SCHEMA`].
        path (`Path`): The file, which `datasets.Dataset.from_file` and [`open_texts`] memory-map.
        schema (`Schema`): The columns to write.

    Returns:
        `int`: The number of battles.
    """
    num_battles, battles = 0, iter(battles)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        while chunk := list(islice(battles, CHUNK)):
            writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema))
            num_battles += len(chunk)
    return num_battles


def store_battles(battles: Iterable[dict], path: Path, keep: Sequence[str] = ()) -> pd.DataFrame:
    """
    Write the texts of battles to an Arrow file as they are read.

    Args:
        battles (`Iterable[dict]`): Battles of [`read_source`] with votes.
        path (`Path`): The file, for [`open_texts`].
        keep (`Sequence[str]`): Further columns of text, from the battles' `kept`.

    Returns:
        `DataFrame`: For each battle `id`, `source`, `annotator`, `item` and `flipped` of [`item_key`], `prompt` (a
        hash of its first prompt), `given_group` (a hash of the group that its source gives it, or 0), `turns`,
        `characters`, and [`VOTE_COLUMNS`]. The index is the battle's row in the file.
    """
    ids: list[str] = []
    sources: list[str] = []
    annotators: list[str | None] = []
    votes = array("d")
    numbers = {name: array(code) for name, code in zip(
        ("item", "flipped", "prompt", "given_group", "turns", "characters"), "QBQQII", strict=True
    )}  # fmt: skip

    def collect_numbers() -> Iterator[dict]:
        for battle in battles:
            ids.append(battle["id"])
            sources.append(battle["source"])
            annotators.append(battle.get("annotator"))
            group = battle.get("given_group")
            numbers["given_group"].append(0 if group is None else digest(f"{battle['source']}\x1f{group}"))
            votes.extend(battle["vote"])
            item, flipped = item_key(battle)
            texts = chain(battle["prompt"], battle["response_a"], battle["response_b"])
            numbers["item"].append(item)
            numbers["flipped"].append(flipped)
            numbers["prompt"].append(prompt_key(battle))
            numbers["turns"].append(len(battle["prompt"]))
            numbers["characters"].append(sum(len(text) for text in texts if text))
            yield battle | battle["kept"] if "kept" in battle else battle

    write_arrow(collect_numbers(), path, pa.schema([*TEXT_SCHEMA, *((name, pa.string()) for name in keep)]))
    categories = {"source": pd.Categorical(sources), "annotator": pd.Categorical(annotators)}
    frame = pd.DataFrame({"id": ids, **categories, **numbers})
    frame["flipped"] = frame["flipped"].astype(bool)
    frame[VOTE_COLUMNS] = np.frombuffer(votes).reshape(-1, len(VOTE_COLUMNS))
    return frame


def open_texts(path: Path) -> pa.Table:
    """The file of [`store_battles`], memory-mapped."""
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def take_rows(texts: pa.Table, rows: np.ndarray) -> pa.Table:
    """Rows in ascending order. `Table.take` would first join all chunks of the table, even for a single row."""
    if not len(rows):
        return texts.slice(0, 0)
    bounds = np.flatnonzero(np.diff(rows // CHUNK)) + 1
    tables = [
        texts.slice(in_chunk[0] // CHUNK * CHUNK, CHUNK).take(in_chunk % CHUNK) for in_chunk in np.split(rows, bounds)
    ]
    return pa.concat_tables(tables)


def write_splits(battles: pd.DataFrame, texts: pa.Table, folder: Path, keep: Sequence[str] = ()) -> None:
    """Write the battles of each split to a parquet file of its own in a new folder, see [`write_parquet`]."""
    folder.mkdir()
    for split, in_split in battles.groupby("split"):
        write_parquet(in_split, texts, folder / f"{split}.parquet", keep)


def write_parquet(battles: pd.DataFrame, texts: pa.Table, path: Path, keep: Sequence[str] = ()) -> None:
    """
    Write battles as rows of [`PREPARED_SCHEMA`].

    Args:
        battles (`DataFrame`): With `id`, `group`, `fold`, `swapped_from` and [`VOTE_COLUMNS`]. The index is the row in
            `texts`. Where `swapped_from` is not null, a swapped copy is written.
        texts (`Table`): As from [`open_texts`].
        path (`Path`): The file.
        keep (`Sequence[str]`): Further columns of `texts` to write.
    """
    schema = pa.schema([*PREPARED_SCHEMA, *((name, pa.string()) for name in keep)])
    swapped_names = list(swap_battle(dict.fromkeys(texts.column_names)))
    with (
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
        tqdm(total=len(battles), unit=" battles", desc=f"Writing {path.stem}", disable=None) as bar,
    ):
        for is_swapped, in_order in battles.groupby(battles["swapped_from"].notna()):
            for start in range(0, len(in_order), CHUNK):
                chunk = in_order.iloc[start : start + CHUNK]
                table = take_rows(texts, chunk.index.to_numpy())
                votes = chunk[VOTE_COLUMNS].to_numpy()
                if is_swapped:
                    table, votes = table.rename_columns(swapped_names), swap_probabilities(votes)
                columns = {name: table[name] for name in (*TEXT_COLUMNS, *keep)} | {"vote": pa.array(votes.tolist())}
                for name in ("id", "group", "fold", "swapped_from"):
                    columns[name] = pa.array(chunk[name], schema.field(name).type, from_pandas=True)
                writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))
                bar.update(len(chunk))


def write_removed(broken_rows: list[dict], battles: pd.DataFrame, texts: pa.Table, path: Path) -> None:
    """
    Write what was removed, each with the reason and its content as JSON.

    Args:
        broken_rows (`list[dict]`): The removed rows of a [`Ledger`].
        battles (`DataFrame`): As from [`store_battles`], with `reason`; those without a reason are not removed.
        texts (`Table`): As from [`open_texts`].
        path (`Path`): The file.
    """
    removed = battles[battles["reason"].notna()]
    with pq.ParquetWriter(path, REMOVED_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(broken_rows, REMOVED_SCHEMA))
        for start in range(0, len(removed), CHUNK):
            chunk = removed.iloc[start : start + CHUNK]
            rows = chunk[["source", "id", "reason"]].to_dict("records")
            contents = take_rows(texts, chunk.index.to_numpy()).to_pylist()
            for row, content, vote in zip(rows, contents, chunk[VOTE_COLUMNS].to_numpy().tolist(), strict=True):
                row["content"] = json.dumps({**content, "vote": vote})
            writer.write_table(pa.Table.from_pylist(rows, REMOVED_SCHEMA))
