"""Battles, as they are read -> predictions, as they are made."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import pandas as pd
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..errors import UserError
from ..predictions.tta import parse_tta

if TYPE_CHECKING:
    from .judge import Judge


def predict_stream(
    judge: "Judge", battles: Iterator[dict], processes: PartialState, tta: str, shard_size: int, **options
) -> Iterator[tuple[pd.DataFrame, list[dict]]]:
    """
    Predict battles shard by shard, in all orders of a shard before the next one is read. Where `tta` chooses a
    fraction of all battles there is one shard.

    Args:
        judge (`Judge`): Who predicts.
        battles (`Iterator[dict]`): The battles; the main process reads them.
        processes (`PartialState`): The processes that make this call together.
        tta, shard_size, options: Fields of [`PredictionOptions`].

    Yields:
        The predictions table of a shard, and its battles.

    Raises:
        UserError: After the last shard, if rows are broken.
    """
    size = None if 0 < parse_tta(tta)[1] < 1 else shard_size * processes.num_processes
    shards = _shards(battles, size)
    while shard := broadcast_object_list([next(shards, None) if processes.is_main_process else None])[0]:
        yield judge.predict_dataset(shard, tta=tta, shard_size=shard_size, processes=processes, **options), shard


def _shards(battles: Iterator[dict], size: int | None) -> Iterator[list[dict]]:
    problem = None
    while True:
        shard = []
        try:
            for battle in islice(battles, size):
                shard.append(battle)
        except UserError as error:  # at the end: what was read before is predicted first
            problem = error
        if shard:
            yield shard
        elif problem:
            raise problem
        else:
            return
