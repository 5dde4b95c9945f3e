"""Probes: examples with the probabilities that a judge had for them after training. Another engine must agree."""

from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from ..artifacts import write_json
from ..errors import UserError

PROBES_FILE = "probes.json"
NUM_PROBES = 6


class Probes(NamedTuple):
    """Token ids of examples, and the probabilities of A, B and tie."""

    input_ids: list[list[int]]
    probabilities: list[list[float]]


def save_probes(folder: Path, probes: Probes) -> None:
    """Save probes beside an adapter."""
    write_json(folder / PROBES_FILE, probes._asdict())


def read_probes(folder: Path) -> Probes | None:
    """The probes of a judge, or None if it has none. Damage is a [`UserError`]."""
    path = folder / PROBES_FILE
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Probes).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: damaged. Fetch the judge again, or remove the file") from error
