"""Battles while a data set is made: texts on disk, and in memory only the numbers that decide what becomes of them."""

import json
import shutil
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from .battle import BATTLE_FEATURES, PREPARED_FEATURES, WINNERS
from .duplicates import VOTE, item_key, prompt_key

CHUNK = 1000  # battles whose texts are in memory at a time
TEXTS = ("source", "language", "model_a", "model_b", "prompt", "response_a", "response_b")
EXCHANGED = {"model_a": "model_b", "model_b": "model_a", "response_a": "response_b", "response_b": "response_a"}
REMOVED = pa.schema(
    [("source", "string"), ("row", "int64"), ("id", "string"), ("reason", "string"), ("content", "string")]
)
SCHEMA = pa.schema([BATTLE_FEATURES.arrow_schema.field(name) for name in TEXTS])


@contextmanager
def replaced_folder(folder: Path, mark: str) -> Iterator[Path]:
    """
    A new folder that takes the place of another when it is complete: whatever breaks, the old one is as it was.

    Args:
        folder (`Path`): The folder.
        mark (`str`): A file that says that a folder is one of these. Others are not replaced.
    """
    folder = folder.resolve()
    new, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    if old.exists() and not folder.exists():
        old.rename(folder)  # killed between the two renames below
    if folder.exists() and not (folder / mark).is_file():
        raise ValueError(f"output_dir: {folder.name} exists and is no data set of this recipe, so it is not replaced")
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


def store_battles(battles: Iterable[dict], path: Path) -> pd.DataFrame:
    """
    Write the texts of battles to an Arrow file, as they come.

    Args:
        battles (`Iterable[dict]`): Rows of [`BATTLE_FEATURES`].
        path (`Path`): The file.

    Returns:
        `DataFrame`: A row each with `id`, `source`, `item` (what was voted on), `flipped` (its answers stand in the
        other order), `prompt` (a number for its first prompt), `turns`, `characters`, and the shares of A, B and tie
        in its vote.
    """
    ids, sources, votes = [], [], array("d")
    numbers = {"item": array("Q"), "flipped": array("B"), "prompt": array("Q"), "turns": array("I")}
    numbers["characters"] = array("I")
    battles = iter(battles)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        while chunk := list(islice(battles, CHUNK)):
            for battle in chunk:
                ids.append(battle["id"])
                sources.append(battle["source"])
                item, flipped = item_key(battle)
                numbers["item"].append(item)
                numbers["flipped"].append(flipped)
                numbers["prompt"].append(prompt_key(battle))
                numbers["turns"].append(len(battle["prompt"]))
                texts = chain(battle["prompt"], battle["response_a"], battle["response_b"])
                numbers["characters"].append(sum(len(text) for text in texts if text))
                votes.extend(battle["soft_label"] or [battle["winner"] == winner for winner in WINNERS])
            columns = [pa.array([battle[name] for battle in chunk], SCHEMA.field(name).type) for name in TEXTS]
            writer.write(pa.record_batch(columns, schema=SCHEMA))
    frame = pd.DataFrame({"id": ids, "source": pd.Categorical(sources), **numbers})
    frame["flipped"] = frame["flipped"].astype(bool)
    frame[VOTE] = np.frombuffer(votes).reshape(-1, 3)
    return frame


def open_texts(path: Path) -> pa.Table:
    """The texts of [`store_battles`], memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def take(texts: pa.Table, places: np.ndarray) -> pa.Table:
    """Rows at ascending places. `Table.take` would first join all batches of the table, whatever it is asked for."""
    if not len(places):
        return texts.slice(0, 0)
    bounds = np.flatnonzero(np.diff(places // CHUNK)) + 1
    parts = np.split(places, bounds)
    tables = [texts.slice(part[0] // CHUNK * CHUNK, CHUNK).take(part % CHUNK) for part in parts]
    return pa.concat_tables(tables)


def write_parquet(rows: pd.DataFrame, texts: pa.Table, path: Path) -> None:
    """
    Write battles as rows of [`PREPARED_FEATURES`].

    Args:
        rows (`DataFrame`): The index is the place in `texts`; `id`, the vote, `group`, `fold` and `swapped_from`. If
            the last is not null, models, answers and vote are exchanged.
        texts (`Table`): As from [`open_texts`].
        path (`Path`): The file.
    """
    schema = PREPARED_FEATURES.arrow_schema
    with (
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
        tqdm(total=len(rows), unit=" battles", desc=f"Writing {path.stem}", disable=None) as bar,
    ):
        for swapped, part in rows.groupby(rows["swapped_from"].notna()):
            for start in range(0, len(part), CHUNK):
                chunk = part.iloc[start : start + CHUNK]
                table = take(texts, chunk.index.to_numpy())
                votes = chunk[VOTE].to_numpy()
                if swapped:
                    table = table.rename_columns([EXCHANGED.get(name, name) for name in TEXTS])
                    votes = votes[:, [1, 0, 2]]
                columns = {name: table[name] for name in TEXTS} | _vote_columns(votes)
                for name in ("id", "group", "fold", "swapped_from"):
                    columns[name] = pa.array(chunk[name], schema.field(name).type, from_pandas=True)
                writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))
                bar.update(len(chunk))


def write_removed(broken: list[dict], battles: pd.DataFrame, texts: pa.Table, path: Path) -> None:
    """
    Write what was removed, with the reason: broken rows as a ledger has them, and the battles with a `reason`, each
    with its content as JSON.
    """
    removed = battles[battles["reason"].notna()]
    with pq.ParquetWriter(path, REMOVED) as writer:
        writer.write_table(pa.Table.from_pylist(broken, REMOVED))
        for start in range(0, len(removed), CHUNK):
            chunk = removed.iloc[start : start + CHUNK]
            rows = chunk[["source", "id", "reason"]].to_dict("records")
            contents = take(texts, chunk.index.to_numpy()).to_pylist()
            for row, content, vote in zip(rows, contents, chunk[VOTE].to_numpy().tolist(), strict=True):
                row["content"] = json.dumps({**content, **dict(zip(VOTE, vote, strict=True))})
            writer.write_table(pa.Table.from_pylist(rows, REMOVED))


def _vote_columns(votes: np.ndarray) -> dict[str, pa.Array]:
    """The winner, where one has the largest share, and the shares, where that is not all there is to say."""
    best = votes.max(axis=1)
    shares = [vote if vote[i] < 1 else None for vote, i in zip(votes.tolist(), votes.argmax(axis=1), strict=True)]
    return {
        "winner": pa.array(np.array(WINNERS)[votes.argmax(axis=1)], mask=(votes == best[:, None]).sum(axis=1) > 1),
        "soft_label": pa.array(shares, PREPARED_FEATURES.arrow_schema.field("soft_label").type),
    }
