"""Adapters -> predictions of the votes, and what is known about their training."""

from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import PartialState
from datasets import Dataset

from ..artifacts import strip_local_paths
from ..encoding.examples import encode_battle
from ..encoding.tokenizer import load_tokenizer
from ..errors import UserError, collect_problems, raise_problems
from ..judging.judge import Judge
from ..models.adapter import resolve_adapter
from ..models.judge_file import JudgeFile
from ..models.precision import precision_overrides
from ..options import BaseModelConfig, InferenceConfig
from ..predictions.calibrate import CALIBRATION_FILE, battle_keys
from ..predictions.features import load_training_prompts
from ..predictions.table import read_parquet

UNLIMITED = 10**9  # tokens in an example


def resolve_adapters(adapters: list[str], processes: PartialState) -> dict[str, Path]:
    """
    The folders of the adapters, by the names that a report gives them.

    Args:
        adapters (`list[str]`): As for [`resolve_adapter`].
        processes (`PartialState`): The processes that make this call together. One of them downloads.

    Raises:
        UserError: If two judges have the same name, or adapters do not exist. Names all of those.
    """
    names = [strip_local_paths(adapter.rstrip("/")) for adapter in adapters]
    refuse_same_names(names)
    folders: dict[str, Path] = {}
    problems: list[str] = []
    with processes.main_process_first():
        for name, adapter in zip(names, adapters, strict=True):
            with collect_problems(problems):
                folders[name] = resolve_adapter(adapter)
    raise_problems(problems)
    return folders


def refuse_same_names(names: list[str]) -> None:
    """Raise a [`UserError`] if a report would give two judges the same name."""
    if same := {name for name in names if names.count(name) > 1}:
        raise UserError(f"several judges are named {', '.join(sorted(same))}. Give their paths in another way")


def predict_votes(
    adapters: dict[str, Path],
    battles: list[dict],
    base_model: BaseModelConfig,
    inference: InferenceConfig,
    folder: Path,
    processes: PartialState,
) -> dict[str, pd.DataFrame]:
    """
    Predict battles in both orders with each adapter.

    Args:
        adapters (`dict[str, Path]`): Folders by name.
        battles (`list[dict]`): The battles.
        base_model (`BaseModelConfig`), inference (`InferenceConfig`): The options of the recipe.
        folder (`Path`): Where shards are saved. The same call resumes after them.
        processes (`PartialState`): The processes that make this call together. Each gets all predictions.

    Returns:
        `dict[str, DataFrame]`: A predictions table for each adapter.
    """
    precision, tables = precision_overrides(inference), dict[str, pd.DataFrame]()
    for name, adapter in adapters.items():
        judge = Judge.from_pretrained(adapter, base_model.model_name_or_path, precision)
        tables[name] = judge.predict_dataset(
            Dataset.from_list(battles),
            tta="swap",
            max_tokens_per_batch=inference.max_tokens_per_batch,
            folder=folder / str(len(tables)),
            processes=processes,
            progress=True,
        )
        del judge  # before the next one is loaded
    return tables


def complete_lengths(battles: list[dict], adapters: list[Path]) -> np.ndarray | None:
    """
    How many tokens each battle's example would have if nothing were dropped or truncated, as the first adapter's
    tokenizer counts them; None without adapters.
    """
    if not adapters:
        return None
    tokenizer, version = load_tokenizer(str(adapters[0])), JudgeFile.load(adapters[0]).prompt_version
    unlabelled = ({**battle, "vote": None} for battle in battles)
    examples = (encode_battle(battle, tokenizer, UNLIMITED, version)[-1] for battle in unlabelled)
    return np.array([len(example["input_ids"]) for example in examples])


def common_training(training: list[pd.DataFrame | None]) -> pd.DataFrame | None:
    """The training features that all adapters have in common, or None if they differ: baselines need one training."""
    first = training[0] if training else None
    return first if first is not None and all(first.equals(other) for other in training) else None


def num_calibration_battles(predictions: pd.DataFrame, adapter: Path | None) -> int | None:
    """How many of the predicted battles a judge was calibrated on; None if that is unknown."""
    if adapter is None or not JudgeFile.load(adapter).calibration or not (adapter / CALIBRATION_FILE).is_file():
        return None
    known = read_parquet(adapter / CALIBRATION_FILE, "Calibrate the judge again")
    return len(battle_keys(predictions) & set(known["battle"]))


def num_training_prompts(features: pd.DataFrame, adapter: Path | None) -> int | None:
    """How many battles share their first prompt with a judge's training battles; None if those are unknown."""
    known = None if adapter is None else load_training_prompts(adapter)
    return None if known is None else int(features["group"].isin(known).sum())
