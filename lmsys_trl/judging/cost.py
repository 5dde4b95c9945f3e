"""How long a prediction will take, from a few battles of it."""

import time
from typing import TYPE_CHECKING

import numpy as np

from ..data.splits import sample_by_hash
from .both_orders import encode_for_prediction

if TYPE_CHECKING:
    from .judge import Judge

NUM_MEASURED, NUM_TIMED = 200, 8  # battles whose tokens are counted, and that are predicted


def estimate_cost(judge: "Judge", battles: list[dict]) -> tuple[int, float]:
    """
    Estimate what a prediction in both orders costs.

    Args:
        judge (`Judge`): Who predicts.
        battles (`list[dict]`): The battles.

    Returns:
        `tuple[int, float]`: Tokens, and seconds on one device like this process's.
    """
    sample = [battles[place] for place in sample_by_hash([battle["id"] for battle in battles], NUM_MEASURED, "cost")]
    settings = judge.settings
    inputs, *_ = encode_for_prediction(
        sample, "ab", judge.tokenizer, settings.inference_max_length, "last", settings.prompt_version
    )
    lengths = np.array([len(ids) for ids in inputs])
    tokens = lengths.mean() * len(battles) * 2
    timed = [sample[place] for place in np.argsort(abs(lengths - np.median(lengths)), kind="stable")[:NUM_TIMED]]
    judge.predict_dataset(timed[:1])  # the first call takes longer
    start = time.perf_counter()
    predicted = judge.predict_dataset(timed)["num_tokens"].sum()
    return round(tokens), float(tokens / predicted * (time.perf_counter() - start))
