"""A long prediction in progress: finished shards in a folder, from which a killed run resumes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from ..artifacts import read_json, write_json
from ..errors import raise_problems
from ..predictions.table import read_parquet, save_predictions

RECORD = "record.json"
# What differs, in words where the record has hashes.
NAMES = {
    "adapter": "adapter",
    "adapter_config": "adapter configuration",
    "base": "base model",
    "data": "file of battles",
    "tokenizer": "tokenizer or chat template",
}


def all_processes() -> PartialState:
    """The processes of `accelerate launch`."""
    # Without an accelerator they only find each other if they are asked to use the CPU.
    return PartialState(cpu=not torch.accelerator.is_available())


class Shards:
    """
    Predictions as they come: tables with a `place`, the index of the battle in the data set, for each order.

    Args:
        folder (`Path`, *optional*): Where shards are saved. Those that it holds are loaded. Without a folder shards
            are in memory only.
        record (`dict`): What the predictions depend on.
        processes (`PartialState`, *optional*): All of them make this call: the main one writes, all of them read.

    Raises:
        UserError: If the folder's shards are those of another judge, other data or other settings. Names what differs.
    """

    def __init__(self, folder: Path | None, record: dict, processes: PartialState | None = None):
        self.writes_to = folder if processes is None or processes.is_main_process else None
        self.tables: dict[str, list[pd.DataFrame]] = {"ab": [], "ba": []}
        if self.writes_to is not None:
            _refuse_other(self.writes_to, record)
            write_json(self.writes_to / RECORD, record)
        if processes is not None:
            processes.wait_for_everyone()
        if folder is not None:
            for path in sorted(folder.glob("[ab][ab]-*.parquet")):
                self.tables[path.name[:2]].append(read_parquet(path, "Remove it, and its battles are predicted again"))
        if processes is not None:
            processes.wait_for_everyone()  # no process reads what another one adds

    def add(self, order: str, table: pd.DataFrame) -> None:
        """Add a shard of predictions in one order; its file is written atomically."""
        self.tables[order].append(table)
        if self.writes_to is not None:
            save_predictions(table, self.writes_to / f"{order}-{table['place'].iloc[0]:012}.parquet")

    def missing(self, order: str, places: np.ndarray) -> np.ndarray:
        """Those of some places that have no prediction in an order yet."""
        done = [table["place"].to_numpy() for table in self.tables[order]]
        return np.setdiff1d(places, np.concatenate(done)) if done else places

    def table(self, order: str, places: np.ndarray) -> pd.DataFrame | None:
        """The predictions in an order at some places, by place; None if there are no places."""
        if not len(places):
            return None
        table = pd.concat(self.tables[order])
        return table[table["place"].isin(places)].sort_values("place", ignore_index=True)


def _refuse_other(folder: Path, record: dict) -> None:
    path = folder / RECORD
    if not path.exists() or not any(folder.glob("[ab][ab]-*.parquet")):
        return  # a run that predicted nothing is not resumed
    old, record = read_json(path), json.loads(json.dumps(record))
    different = [key for key in record if old.get(key) != record[key]]
    lines = [f"{NAMES[key]}: another" if key in NAMES else f"{key}: {old.get(key)} then, {record[key]} now"
             for key in different]  # fmt: skip
    raise_problems(
        lines,
        f"{folder} holds an unfinished prediction of something else. Give the same command as then to finish it, or "
        "remove the folder to start anew. What differs:",
    )
