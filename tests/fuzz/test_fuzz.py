"""The targets of run.py for seconds: the inputs at which something was found, and some damage to files in order."""

import random
from pathlib import Path

import pytest
from fuzz.targets import TARGETS, seeds

from lmsys_trl.errors import UserError

INPUTS = sorted((Path(__file__).parent / "inputs").iterdir())
NUM_DAMAGED = 12  # of each file in order
NUM_PLACES = 48  # more than the values of a judge.json, and of an adapter_config.json


@pytest.mark.parametrize("target", TARGETS)
def test_files_in_order_are_read(target, tmp_path):
    for number, content in enumerate(seeds(target)):
        (tmp_path / str(number)).mkdir()
        TARGETS[target](content, tmp_path / str(number))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_what_was_found(path, tmp_path):
    read(path.name.partition("-")[0], path.read_bytes(), tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files(target, tmp_path):
    numbers = random.Random(target)
    for number, content in enumerate(seeds(target) * NUM_DAMAGED):
        folder = tmp_path / str(number)
        folder.mkdir()
        read(target, damaged(content, numbers), folder)


@pytest.mark.parametrize(("target", "before"), [("judge", b""), ("adapter", b"\0")])
@pytest.mark.parametrize("value", [b"null", b"-1", b'""', b"[1]", b"{}", b"1e999"])
def test_any_value_in_a_json_file(target, before, value, tmp_path):
    for place in range(NUM_PLACES):
        folder = tmp_path / str(place)
        folder.mkdir()
        read(target, before + bytes([place]) + value, folder)


def read(target: str, content: bytes, folder: Path) -> None:
    """Whatever a target raises but a `UserError` is a finding."""
    try:
        TARGETS[target](content, folder)
    except UserError as error:
        assert str(error)


def damaged(content: bytes, numbers: random.Random) -> bytes:
    """Some bytes replaced, a part removed, or a part repeated; not the first byte, which chooses the file's name."""
    start, end = sorted(numbers.randrange(1, len(content)) for _ in range(2))
    kind = numbers.randrange(3)
    if kind == 0:
        return content[:start] + numbers.randbytes(min(4, end - start)) + content[end:]
    return content[:start] + content[end:] if kind == 1 else content[:end] + content[start:]
