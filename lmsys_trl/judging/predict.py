"""Battles -> predictions in one order of their answers, shard by shard."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
from accelerate import PartialState
from datasets import Dataset
from tqdm.auto import tqdm

from ..errors import UserError
from ..predictions.table import LENGTH_COLUMNS
from ..predictions.tta import parse_tta
from .battles import as_battle
from .both_orders import battle_predictions, encode_for_prediction
from .resume import Shards

if TYPE_CHECKING:
    from .judge import Judge

Encoded = tuple[list[np.ndarray], list[int], list[list[int]]]  # as from encode_for_prediction
Result = TypeVar("Result")
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
BAR_WITH_END = BAR.replace("]", ", ends {eta:%b %d %H:%M}]")  # once there is a rate to compute it from


@dataclass
class PredictionOptions:
    """
    How battles are predicted.

    Args:
        tta (`str` or `ndarray`): "none"; "swap" to predict both orders and their mean; "uncertain:FRACTION" or
            "longest:FRACTION" to predict the second order of some, see [`select_second_order`]; or a boolean mask of
            the battles that get one.
        examples (`str`): The "last" example of each battle, or "all" to average over its examples.
        max_length (`int`, *optional*): Maximum tokens in an example. Default: `inference_max_length` of `judge.json`.
        max_tokens_per_batch (`int`, *optional*): Tokens in a forward pass, with padding. Default: 4096; on a CPU 512,
            since it gains little from several examples at once and pays for their padding.
        calibrated (`bool`): Use the calibration in `judge.json`, if there is one.
        with_lengths (`bool`): Add [`LENGTH_COLUMNS`]: how many tokens the texts of the last example had, how many of
            them were read, and how many turns were not.
        folder (`str` or `Path`, *optional*): Where shards are saved as they come. The same call resumes after what is
            there, with any number of processes. Needs a `Dataset`.
        shard_size (`int`): Battles in a shard, for each process.
        processes (`PartialState`, *optional*): All of them make this call, share the work, and get the table.
        progress (`bool`): Show how many of how many, the rate, and when it ends.
    """

    tta: str | np.ndarray = "none"
    examples: str = "last"
    max_length: int | None = None
    max_tokens_per_batch: int | None = None
    calibrated: bool = True
    with_lengths: bool = False
    folder: Path | None = None
    shard_size: int = 512
    processes: PartialState | None = None
    progress: bool = False

    def __post_init__(self):
        self.folder = self.folder and Path(self.folder)
        if not isinstance(self.tta, np.ndarray):
            parse_tta(str(self.tta))
        numbers = (self.shard_size, self.max_tokens_per_batch, self.max_length)
        if any(number is not None and number < 1 for number in numbers):
            raise UserError("shard_size, max_tokens_per_batch, max_length: expected 1 or more")
        if self.examples not in ("last", "all"):
            raise UserError(f"examples: {self.examples!r}, expected last or all")


def predict_order(
    judge: "Judge",
    battles: Dataset | list[dict],
    order: str,
    places: np.ndarray,
    shards: Shards,
    options: PredictionOptions,
) -> pd.DataFrame | None:
    """
    Predictions in one order, by `place`, with `num_tokens` and [`LENGTH_COLUMNS`]: those that are saved already, and
    the others shard by shard. None where there are no places.

    Args:
        judge (`Judge`): With its adapter active.
        battles (`Dataset` or `list[dict]`): All battles.
        order (`str`): "ab", or "ba" with the answers swapped.
        places (`ndarray`): The indices of the battles to predict.
        shards (`Shards`): What is saved, and where more is saved.
        options (`PredictionOptions`): How they are predicted.
    """
    missing, max_length = shards.missing(order, places), options.max_length or judge.settings.inference_max_length
    size = options.shard_size * (options.processes.num_processes if options.processes else 1)
    with _progress_bar(f"Predicting {order}", len(places), len(places) - len(missing), options) as advance:
        divided = [missing[start : start + size] for start in range(0, len(missing), size)]

        def encode(shard: np.ndarray) -> tuple[list[dict], Encoded]:
            chosen = [as_battle(battles[int(place)]) for place in shard]
            return chosen, encode_for_prediction(
                chosen, order, judge.tokenizer, max_length, options.examples, judge.settings.prompt_version
            )

        for shard, (chosen, encoded) in zip(divided, _one_ahead(encode, divided), strict=True):
            table = _predict_shard(judge, chosen, encoded, order, options, advance)
            shards.add(order, table.assign(place=shard))
    return shards.table(order, places)


def _one_ahead(function: Callable[[np.ndarray], Result], items: list[np.ndarray]) -> Iterator[Result]:
    """As `map`. The next result is computed in a thread, while the caller works with the one before."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(thread.submit(function, item))
            if len(ahead) == 2:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _predict_shard(
    judge: "Judge",
    battles: list[dict],
    encoded: Encoded,
    order: str,
    options: PredictionOptions,
    advance: Callable[[int], None],
) -> pd.DataFrame:
    inputs, owners, lengths = encoded
    done = 0

    def on_progress(fraction: float) -> None:
        nonlocal done
        advance(int(fraction * len(battles)) - done)
        done = int(fraction * len(battles))

    logits = judge.letter_logits(inputs, options, on_progress)
    table = battle_predictions(battles, order, logits / judge.settings.temperature, owners)
    table["num_tokens"] = np.bincount(owners, [len(ids) for ids in inputs]).astype(int)
    return table.join(pd.DataFrame(lengths, columns=LENGTH_COLUMNS, dtype="Int64"))


@contextmanager
def _progress_bar(title: str, total: int, initial: int, options: PredictionOptions) -> Iterator[Callable[[int], None]]:
    """Yields what is called with the number of battles done."""
    quiet = not options.progress or not total or (options.processes and not options.processes.is_main_process)
    with tqdm(
        total=total, initial=initial, unit=" battles", desc=title, disable=bool(quiet), smoothing=0, bar_format=BAR
    ) as bar:

        def advance(count: int) -> None:
            if count:
                bar.bar_format = BAR_WITH_END
            bar.update(count)

        yield advance
