"""Battles of a data set on disk -> the same battles as conversations, beside them."""

import shutil
from pathlib import Path

import numpy as np
from datasets import Dataset

from ..data.config import PrepareConfig
from .dataset import conversation_dataset
from .tokenizer import load_tokenizer


def write_conversations(config: PrepareConfig, folder: Path) -> np.ndarray:
    """
    Write the conversations of each split.

    Args:
        config (`PrepareConfig`): Says with which tokenizer, which maximum length, and which examples.
        folder (`Path`): A data set: each parquet file in `battles` gets one in `conversations`.

    Returns:
        `ndarray`: The lengths of all examples in tokens, of shape `(examples,)`.
    """
    assert config.tokenizer is not None, "PrepareConfig.problems comes first"
    tokenizer = load_tokenizer(config.tokenizer, config.pad_token)
    (folder / "conversations").mkdir()
    lengths: list[int] = []
    for path in sorted((folder / "battles").glob("*.parquet")):
        battles = Dataset.from_parquet(str(path), cache_dir=str(folder / "cache"))
        conversations = conversation_dataset(battles, tokenizer, config.max_length, config.examples)
        conversations.to_parquet(folder / "conversations" / path.name)
        lengths += conversations["num_tokens"]
    shutil.rmtree(folder / "cache")
    return np.array(lengths)
