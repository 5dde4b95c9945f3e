"""What an artefact says of how it was made."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from .errors import UserError

PACKAGES = ("lmsys-trl", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "datasets")


def provenance(configuration: dict) -> dict:
    """
    Args:
        configuration (`dict`): The values that were given, as returned by [`parse_config`].

    Returns:
        `dict`: The command, the configuration and the versions of the packages. Of paths on this machine only the
        names are left, since artefacts are passed on.
    """
    words = [(key, equals, strip_local_paths(value)) for key, equals, value in map(_partition, sys.argv[1:])]
    command = [f"recipes/{Path(sys.argv[0]).name}", *map("".join, words)]
    return {
        "command": shlex.join(command),
        "configuration": strip_local_paths(configuration),
        "versions": {package: version(package) for package in PACKAGES},
    }


def strip_local_paths(value):
    """A value of a configuration with the names of absolute paths only."""
    if isinstance(value, dict):
        return {key: strip_local_paths(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [strip_local_paths(entry) for entry in value]
    is_path = isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~"))
    return Path(value).name if is_path else value


def _partition(word: str) -> tuple[str, str, str]:
    """`--key=value` in three, any other word as a value."""
    return word.partition("=") if word.startswith("--") else ("", "", word)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, which replaces `path` when it is complete. If writing fails, `path` is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Write a file atomically, so that its presence says that what it describes is finished."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    """
    Read an object, as [`write_json`] writes it.

    Raises:
        UserError: If the file is damaged.
        OSError: If there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged: expected a JSON object")
    return content


def file_fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        digest = sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
