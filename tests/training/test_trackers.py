"""What trackers get of a training, without a network. Each is skipped where its package is missing."""

import sqlite3
from pathlib import Path

import pytest
from helpers.models import make_trainer

OPTIONS = {"max_steps": 2, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 2, "run_name": "both orders"}
LOGGED = {"train/loss": 2, "train/tokens_per_second": 2, "eval/log_loss": 1, "eval/accuracy": 1}


def train(base, folder, tracker):
    trainer = make_trainer(base, folder, report_to=[tracker], **OPTIONS)
    trainer.train()
    return trainer.state.log_history


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


def test_tensorboard_has_the_scalars(base, tmp_path, monkeypatch):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    history = train(base, tmp_path / "run", "tensorboard")
    events = accumulators.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    for name, count in LOGGED.items():
        key = name.removeprefix("train/").replace("eval/", "eval_")
        expected = [(entry["step"], entry[key]) for entry in history if key in entry]
        assert len(expected) == count
        scalars = [(event.step, event.value) for event in events.Scalars(name)]
        assert scalars == [(step, pytest.approx(value)) for step, value in expected]


def test_wandb_offline(base, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "API_KEY": "p" * 40, "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    train(base, tmp_path / "run", "wandb")
    wandb.teardown()  # waits until its process has written the file
    (run,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    content = joined_records(run.read_bytes())
    assert [name for name in (*LOGGED, "both orders") if name.encode() not in content] == [], len(content)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"p" * 40 in path.read_bytes()]


def test_trackio_on_this_machine(base, tmp_path, monkeypatch):
    trackio = pytest.importorskip("trackio.utils")  # which reads TRACKIO_DIR when it is imported
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    train(base, tmp_path / "run", "trackio")
    written = list(Path(trackio.TRACKIO_DIR).rglob("*.db"))
    rows = [str(row) for path in written for row in sqlite3.connect(path).execute("SELECT * FROM metrics")]
    assert all(any(name in row for row in rows) for name in LOGGED)
