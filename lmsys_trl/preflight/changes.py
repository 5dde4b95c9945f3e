"""What to change so that a recipe fits a device: the smallest change, by the same formulas."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

from .memory import Batch, Memory, training_memory
from .setup import NESTED_BYTES, Setup
from .shapes import Shape

LENGTH_STEP, SHORTEST = 64, 256
DEVICES = (2, 4, 8)


class Case(NamedTuple):
    """What the formulas take."""

    shape: Shape
    setup: Setup
    batch: Batch

    def memory(self) -> Memory:
        return training_memory(*self)


def smallest_change(case: Case, smallest_batch: int, available: float) -> str | None:
    """
    What to change so that training fits.

    Args:
        case (`Case`): What does not fit.
        smallest_batch (`int`): Examples that cannot be divided: 2 where both orders of a battle stay together.
        available (`float`): Bytes that may be used.

    Returns:
        `str`: Keys with their values; or None if nothing of this is enough. Fewer changes come first. The length is
        changed only after all others, since a shorter one changes what is learned, and devices are added last.
    """
    changes = _changes(case, smallest_batch)
    for count in range(1, len(changes) + 1):
        for chosen in combinations(changes.items(), count):
            if _apply(case, chosen).memory().total <= available:
                return ", ".join(name for name, _ in chosen)
    case = _apply(case, list(changes.items()))
    names = ", ".join([*changes, ""])
    for length in range(case.batch.length // LENGTH_STEP * LENGTH_STEP, SHORTEST - 1, -LENGTH_STEP):
        if case._replace(batch=case.batch._replace(length=length)).memory().total <= available:
            return f"{names}max_length: {length}"
    for devices in DEVICES:
        split = replace(case.setup, processes=case.setup.processes * devices, sharding="fsdp")
        if case._replace(setup=split).memory().total <= available:
            storage = ", bnb_4bit_quant_storage: bfloat16" * case.setup.quantised
            return f"{names}accelerate_config: fsdp with {split.processes} of them{storage}"
    return None


def _changes(case: Case, smallest_batch: int) -> dict[str, Callable[[Case], Case]]:
    """The changes that a case has not made yet, those that cost least first."""
    shape, setup, batch = case
    changes: dict[str, Callable[[Case], Case]] = {}
    if batch.examples > smallest_batch:
        changes["per_device_train_batch_size: 1"] = lambda case: case._replace(
            batch=case.batch._replace(examples=smallest_batch)
        )
    if shape.attention == "eager":
        name = "flex_attention" if shape.softcap else "sdpa"
        changes[f"attn_implementation: {name}"] = lambda case: case._replace(shape=replace(case.shape, attention=name))
    if not setup.checkpointing:
        changes["activation_checkpointing: true"] = lambda case: case._replace(
            setup=replace(case.setup, checkpointing=True)
        )
    if not setup.quantised:
        changes["load_in_4bit: true"] = lambda case: case._replace(
            setup=replace(case.setup, quantised=True, matrix_bytes=NESTED_BYTES)
        )
    return changes


def _apply(case: Case, changes) -> Case:
    for _, change in changes:
        case = change(case)
    return case
