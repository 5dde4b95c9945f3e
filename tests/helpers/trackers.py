"""What trackers have written on this machine."""

import sqlite3
from pathlib import Path

import pytest


def tensorboard_events(folder: Path):
    """The events below a folder; the test is skipped without tensorboard."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder))
    events.Reload()
    return events


def wandb_environment(folder: Path) -> dict[str, str]:
    """Where wandb writes without a network, and a key that must not get out."""
    return {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "WANDB_API_KEY": "p" * 40, "WANDB_SILENT": "true"}


def wandb_record(folder: Path) -> bytes:
    """The content of the one offline run of [`wandb_environment`]. The key is in no file."""
    (run,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    assert not [path for path in folder.rglob("*") if path.is_file() and b"p" * 40 in path.read_bytes()]
    return joined_records(run.read_bytes())


def joined_records(log: bytes) -> bytes:
    """The content of a LevelDB log without the headers, which would divide a name: 7 bytes a record, in blocks."""
    content, place = b"", 7
    while place + 7 <= len(log):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length = int.from_bytes(log[place + 4 : place + 6], "little")
        content += log[place + 7 : place + 7 + length]
        place += 7 + length
    return content


def trackio_rows(folder: Path) -> list[str]:
    """What trackio has logged, a text for each call."""
    files = list(folder.rglob("*.db"))
    return [str(row) for path in files for row in sqlite3.connect(path).execute("SELECT * FROM metrics")]
