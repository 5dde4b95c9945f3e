"""Adapters and battles -> the predictions of each member of an ensemble."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from ..models.head import FROZEN
from ..models.judge_file import JudgeFile
from .judge import Judge


def predict_members(
    adapters: Sequence[str],
    battles: Dataset,
    weights_of: Callable[[pd.DataFrame], np.ndarray],
    folder: Path,
    orders: Sequence[str] | None = None,
    base_models: Sequence[str] | None = None,
    precision: dict | None = None,
    **options,
) -> list[pd.DataFrame]:
    """
    Predict with each member the battles where it has a weight. The first reads all battles, since its tokens say
    which are the longest. Judges of the same base that follow each other share it.

    Args:
        adapters (`Sequence[str]`): The members, as for [`resolve_adapter`]. One that is named twice is loaded once.
        battles (`Dataset`): What they predict.
        weights_of (`Callable`): The first member's predictions -> weights of shape `(battles, members)`.
        folder (`Path`): Where shards are saved.
        orders (`Sequence[str]`, *optional*): Which order of each member counts: "ab", "ba" or "mean". Default: "ab".
        base_models (`Sequence[str]`, *optional*): The members' base models. Default: found by their weights.
        precision (`dict`, *optional*): As for [`Judge.from_pretrained`].
        options: More of [`PredictionOptions`].

    Returns:
        `list[DataFrame]`: A predictions table for each member.
    """
    bases: dict[str, str | None] = {}
    for adapter, base in zip(adapters, base_models or itertools.repeat(None, len(adapters)), strict=True):
        bases.setdefault(adapter, base)
    needs_swap = np.array(orders or ["ab"] * len(adapters)) != "ab"
    tables: dict[str, pd.DataFrame] = {}
    judge, judge_base, weights = None, None, None
    for number, (adapter, base) in enumerate(bases.items()):
        if judge is not None and (base != judge_base or not _share_base(judge, adapter)):
            judge = None  # free its memory before the next one is loaded
        judge, judge_base = Judge.from_pretrained(adapter, base, precision, share_base_with=judge), base
        shards = {"folder": folder / str(number), "progress": True, **options}
        if weights is None:
            weights = weights_of(judge.predict_dataset(battles, **shards))
        is_member = np.array(adapters) == adapter
        swapped = weights[:, is_member & needs_swap].sum(axis=1) > 0
        needed = weights[:, is_member].sum(axis=1) > 0 if number else np.full(len(battles), True)
        selected = battles if needed.all() else battles.select(np.flatnonzero(needed))
        tables[adapter] = judge.predict_dataset(selected, tta=swapped[needed], **shards)
    return [tables[adapter] for adapter in adapters]


def _share_base(judge: Judge, adapter: str) -> bool:
    other = JudgeFile.load(adapter)
    return (
        other.base_model == judge.settings.base_model
        and other.precision == judge.settings.precision
        and other.head == judge.settings.head == FROZEN
    )
