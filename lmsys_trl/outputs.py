"""Outputs: never an input, written by one run at a time, and nothing of others is replaced."""

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import UserError

# Keys of which an output does not depend.
ELSEWHERE = (
    "overwrite", "output_dir", "push_to_hub", "hub_dataset_id", "hub_private_repo", "publish_despite_license",
    "report_to", "project", "run_name",
)  # fmt: skip
SHARD_NAMES = re.compile(r"record\.json|battles\.arrow|(ab|ba)-\d+\.parquet|\d+|attack-\d+-\w+|\..*\.tmp")


@contextmanager
def claim(output: Path, inputs: Iterable[str | Path | None] = (), is_main_process: bool = True) -> Iterator[None]:
    """
    Claim an output for this run, before anything is written.

    Args:
        output (`Path`): A file or folder.
        inputs (`Iterable`): What is read: paths, or names of other things, which are ignored.
        is_main_process (`bool`): Other processes of the same run claim nothing.

    Raises:
        UserError: If an input is the output or in it, or another run writes it. A lock that a killed run has left
            is none: the operating system releases it.
    """
    if not is_main_process:
        yield
        return
    refuse_inputs(output, inputs)
    path = _lock_of(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()  # which says why it cannot be made; the lock would only say that it is not free
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(OSError):
            holder = path.read_text(encoding="utf-8").strip()
        raise UserError(
            f"{output}: another run writes it ({holder or 'not known which'}). Wait for it, or stop it"
        ) from None
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}: {Path(sys.argv[0]).name}", encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def is_claimed(output: Path) -> bool:
    """Whether a run writes an output at this moment."""
    lock = FileLock(_lock_of(output), timeout=0)
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def _lock_of(output: Path) -> Path:
    """The file by which a run claims an output."""
    place = output.resolve()
    if place == place.parent:
        raise UserError(f"{output}: is the root of all files. Choose a name in it")
    return place.with_name(f".{place.name}.lock")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which gets its name when it is complete. If writing fails, there is none."""
    folder = folder.resolve()
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)  # of a killed run
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def refuse_inputs(output: Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise a [`UserError`] if an input is the output or in it."""
    for name in inputs:
        if name is None or not (path := Path(name)).exists():
            continue
        is_same = output.exists() and path.samefile(output)
        if is_same or output.resolve() in path.resolve().parents:
            place = "is read and would be overwritten" if is_same else f"holds {name}, which is read"
            raise UserError(f"{output}: {place}. Choose another output")


def refuse_foreign(folder: Path, names: Iterable[str], marks: Iterable[str], what: str) -> None:
    """
    Check that what would be replaced in a folder was written by us.

    Args:
        folder (`Path`): The folder.
        names (`Iterable[str]`): The files that would be replaced, as patterns.
        marks (`Iterable[str]`): Files, as patterns, of which one says that the folder is ours. One in JSON must be a
            record with our versions: others have files of such names too.
        what (`str`): What it would be, for the message.

    Raises:
        UserError: If it is not ours and holds such files.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir: {folder} is a file. Choose another name")
    if any(_is_ours(path) for mark in marks for path in folder.glob(mark)):
        return
    found = sorted({path.name for name in names for path in folder.glob(name)})
    if found:
        raise UserError(
            f"output_dir: {folder} is not {what}, and its {', '.join(found)} would be replaced. Choose another"
        )


def _is_ours(mark: Path) -> bool:
    if mark.suffix != ".json":
        return True
    try:
        return "lmsys-trl" in json.loads(mark.read_text(encoding="utf-8"))["versions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def refuse_other_configuration(record: Path, configuration: dict, what: str) -> None:
    """
    Check that an output was made with the configuration of this run, so that it is made again.

    Args:
        record (`Path`): Its record, JSON with `configuration`; there may be none.
        configuration (`dict`): That of this run, as recorded.
        what (`str`): What it is, for the message.

    Raises:
        UserError: If it was made with another one. Names what differs.
    """
    try:
        old = json.loads(record.read_text(encoding="utf-8"))["configuration"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    new = json.loads(json.dumps(configuration))
    keys = [key for key in {**old, **new} if key not in ELSEWHERE and old.get(key) != new.get(key)]
    if keys:
        raise UserError(
            f"output_dir: {record.parent} holds another {what}, made with other values of {', '.join(keys)}. Choose "
            "another output_dir, or replace it with --overwrite"
        )


@contextmanager
def claim_with_shards(
    output: Path, shards: Path, inputs: Iterable[str | Path | None], is_main_process: bool
) -> Iterator[None]:
    """As [`claim`], for an output whose shards are removed when it is complete, and kept if anything fails."""
    with claim(output, inputs, is_main_process):
        yield
        if is_main_process:
            shutil.rmtree(shards, ignore_errors=True)


def shards_of(output_file: Path) -> Path:
    """The folder for the shards of a predictions file."""
    return output_file.with_name(f"{output_file.name}.shards")


def check_shards(folder: Path) -> list[str]:
    """Problems with a folder for the shards of a prediction."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        return [f"{folder} is a file. Move it: the shards of the prediction are kept under this name"]
    foreign = [path.name for path in sorted(folder.iterdir()) if not SHARD_NAMES.fullmatch(path.name)]
    if foreign:
        return [
            f"{folder} holds {', '.join(foreign[:3])}, which is no shard. Move the folder: the shards of the "
            "prediction are kept under this name, and removed at its end"
        ]
    return []
