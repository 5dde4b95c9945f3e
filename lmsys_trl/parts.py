"""A long prediction on its way: the battles and the forecasts so far, in a folder, so that a killed run goes on."""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from accelerate import PartialState
from datasets import Dataset

from .battle import BATTLE_FEATURES
from .predictions import save_predictions
from .provenance import write_json
from .sources import Ledger, Source, read_source

RECORD = "record.json"
CHUNK = 1000  # battles in memory at a time while a file is read


def all_processes() -> PartialState:
    """The processes of `accelerate launch`. Where there is no accelerator they find each other only if told so."""
    return PartialState(cpu=not torch.accelerator.is_available())


def stored_battles(test_file: str, folder: Path, processes: PartialState) -> Dataset:
    """
    The battles of a file in any format of recipes/prepare.py, read by one process as they come and memory-mapped by
    all, so that memory does not grow with their number.

    Args:
        test_file (`str`): The file; votes may be missing, as for [`read_battles`] with `patient`.
        folder (`Path`): Where they are put.
        processes (`PartialState`): Those that call this together.
    """
    stored = folder / "battles.arrow"
    with processes.main_process_first():
        if processes.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            source, ledger = Source(test_file), Ledger()
            num_battles = _write_battles(read_source(source, ledger, patient=True, max_broken_share=0), stored)
            changes: Counter = ledger.changes[source.name]
            print(f"{test_file}: {num_battles} battles", *(f"({n} {change})" for change, n in changes.items()))
    return Dataset.from_file(str(stored))


def _write_battles(battles: Iterable[dict], path: Path) -> int:
    num_battles, battles, schema = 0, iter(battles), BATTLE_FEATURES.arrow_schema
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        while chunk := list(islice(battles, CHUNK)):
            writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema))
            num_battles += len(chunk)
    return num_battles


class Parts:
    """
    Forecasts as they come: tables with a `place`, the battle's number in the data set, for each order.

    Args:
        folder (`Path`, *optional*): Where parts are kept. What is there already is taken over. Without it they are in
            memory only.
        record (`dict`): What forecasts depend on.
        processes (`PartialState`, *optional*): Those that call this together: the first one writes, all of them read.

    Raises:
        ValueError: If the folder's parts are those of another judge, data or settings. Names what differs.
    """

    def __init__(self, folder: Path | None, record: dict, processes: PartialState | None = None):
        self.writes_to = folder if processes is None or processes.is_main_process else None
        self.tables = {"ab": [], "ba": []}
        if self.writes_to is not None:
            self._refuse_other(record)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / RECORD, record)
        if processes is not None:
            processes.wait_for_everyone()
        if folder is not None:
            for path in sorted(folder.glob("[ab][ab]-*.parquet")):
                self.tables[path.name[:2]].append(pd.read_parquet(path))
        if processes is not None:
            processes.wait_for_everyone()  # no process reads what another one adds

    def _refuse_other(self, record: dict) -> None:
        path = self.writes_to / RECORD
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else record
        record = json.loads(json.dumps(record))
        changed = [f"{key}: {old.get(key)} then, {record[key]} now" for key in record if old.get(key) != record[key]]
        if changed:
            raise ValueError(
                f"{self.writes_to} holds parts of a prediction with another judge, other data or settings. Give the "
                "same ones to go on, or remove the folder:\n  " + "\n  ".join(changed)
            )

    def add(self, order: str, table: pd.DataFrame) -> None:
        """Keep forecasts in one order, in their file whole or not at all."""
        self.tables[order].append(table)
        if self.writes_to is not None:
            save_predictions(table, self.writes_to / f"{order}-{table['place'].iloc[0]:012}.parquet")

    def missing(self, order: str, places: np.ndarray) -> np.ndarray:
        """Those of some places that have no forecast in an order yet."""
        done = [table["place"].to_numpy() for table in self.tables[order]]
        return np.setdiff1d(places, np.concatenate(done)) if done else places

    def table(self, order: str, places: np.ndarray) -> pd.DataFrame | None:
        """The forecasts in an order at some places, by place; None where there are none."""
        if not len(places):
            return None
        table = pd.concat(self.tables[order])
        return table[table["place"].isin(places)].sort_values("place", ignore_index=True)
