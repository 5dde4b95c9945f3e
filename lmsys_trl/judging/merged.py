"""Judges and what they were merged into -> their log losses on the same votes."""

import dataclasses
from pathlib import Path

import numpy as np

from ..metrics.functions import log_losses
from ..models.base import load_base
from ..models.head import FROZEN
from ..predictions.table import probabilities_of
from ..terminal import logger
from .judge import Judge


def log_merged_losses(
    adapters: list[str], merged: Path, battles: list[dict], model_name_or_path: str | None = None
) -> None:
    """
    Log the log loss of each adapter, of the mean of their predictions, and of what they were merged into, none of them
    calibrated: what they were merged into is not.

    Args:
        adapters (`list[str]`): Their names, as for [`resolve_adapter`].
        merged (`Path`): The folder of their average, or, if there is one adapter, of the model it was merged into.
        battles (`list[dict]`): Battles with a vote.
        model_name_or_path (`str`, *optional*): The base model, as for [`Judge.from_pretrained`].
    """
    predictions = {}
    for name in [*adapters, str(merged)] if len(adapters) > 1 else adapters:
        judge = Judge.from_pretrained(name, model_name_or_path)
        predictions[name] = _predict(judge, battles)
    if len(adapters) > 1:
        predictions["mean of their predictions"] = np.mean([predictions[name] for name in adapters], axis=0)
    else:
        model = load_base(merged, judge.settings.precision["dtype"], judge.model.config._attn_implementation)
        settings = dataclasses.replace(judge.settings, head=FROZEN)
        predictions[str(merged)] = _predict(Judge(model, judge.tokenizer, settings), battles)
    votes = np.array([battle["vote"] for battle in battles])
    for name, probabilities in predictions.items():
        loss = log_losses(probabilities, votes).mean()
        logger.info("%-40s log loss %.4f on %d votes", name, loss, len(votes))


def _predict(judge: Judge, battles: list[dict]) -> np.ndarray:
    return probabilities_of(judge.predict_dataset(battles, calibrated=False, progress=True), "ab")
