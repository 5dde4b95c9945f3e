"""
Several judges' forecasts in, one submission out: from predictions files, or from adapters and test.csv at once.

    python recipes/ensemble.py --predictions a.parquet b.parquet --weights 0.6 0.4 --output_file submission.csv
    python recipes/ensemble.py --predictions a.parquet b.parquet --fit_on a-oof.parquet b-oof.parquet \
        --output_file submission.csv
    accelerate launch recipes/ensemble.py submission-1.yaml --test_file test.csv --output_file submission.csv
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from accelerate import PartialState
from predict import PrecisionConfig, precision_changes

from lmsys_trl.adapters import read_judge_file
from lmsys_trl.calibration import log_losses
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.ensembles import (
    combine,
    cross_fitted_ensemble,
    fit_weights,
    longest_battles,
    refuse_missing,
    stack_forecasts,
    weights_of_battles,
)
from lmsys_trl.judge import Judge
from lmsys_trl.parts import all_processes, stored_battles
from lmsys_trl.predictions import PROBABILITIES, load_predictions, save_predictions, save_submission, votes_and_groups


@dataclass
class EnsembleConfig:
    """Who takes part, and with which weight."""

    output_file: str = field(metadata={"help": "*.csv: a Kaggle submission. *.parquet: with votes and lengths."})
    predictions: list[str] | None = field(
        default=None, metadata={"help": "The members' *.parquet of recipes/predict.py."}
    )
    adapters: list[str] | None = field(
        default=None, metadata={"help": "In place of predictions: the members' output folders of recipes/sft.py."}
    )
    test_file: str | None = field(default=None, metadata={"help": "What adapters predict."})
    base_models: list[str] | None = field(
        default=None, metadata={"help": "The adapters' base models (found by their weights unless told)."}
    )
    orders: list[Literal["ab", "ba", "mean"]] | None = field(
        default=None,
        metadata={"help": "Which forecast of each member (of adapters ab, of files the best unless told)."},
    )
    weights: list[float] | None = field(default=None, metadata={"help": "One for each member."})
    longest: float = field(default=0.0, metadata={"help": "The share of longest battles that has weights of its own."})
    weights_longest: list[float] | None = field(default=None, metadata={"help": "The weights for these."})
    fit_on: list[str] | None = field(
        default=None,
        metadata={"help": "In place of weights: each member's predictions of battles with votes that it never saw."},
    )
    mean: Literal["arithmetic", "geometric"] = field(
        default="arithmetic", metadata={"help": "Of probabilities, or of their logarithms."}
    )
    max_tokens_per_batch: int | None = field(
        default=None, metadata={"help": "Tokens in a forward pass, with padding (512 on a CPU, 4096 elsewhere)."}
    )


def main():
    config, precision, _ = parse_config(EnsembleConfig, PrecisionConfig)
    check(config)
    processes = all_processes()
    if config.fit_on is not None:
        fit(config)
    folder = Path(f"{config.output_file}.parts")
    if config.adapters is not None:
        tables = predict_members(config, precision_changes(precision), folder, processes)
    else:
        tables = [load_predictions(path) for path in config.predictions]
    names = config.predictions or config.adapters
    battles, forecasts = stack_forecasts(names, tables, config.orders)
    weights = weights_of_battles(battles, config.weights, config.longest, config.weights_longest)
    refuse_missing(names, battles, forecasts, weights)
    if processes.is_main_process:
        battles[PROBABILITIES] = combine(forecasts, weights, config.mean)
        battles["order"] = "ab"
        output_file = Path(config.output_file)
        (save_predictions if output_file.suffix == ".parquet" else save_submission)(battles, output_file)
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{len(battles)} battles combined, written to {output_file}")


def check(config: EnsembleConfig) -> None:
    """Tell at once all that does not fit together; makes `orders` of adapters explicit."""
    problems = []
    if (config.predictions is None) == (config.adapters is None):
        problems.append("give either predictions or adapters")
    members = config.predictions or config.adapters or []
    if config.adapters is not None:
        config.orders = config.orders or ["ab"] * len(members)
        if config.test_file is None:
            problems.append("test_file: missing. Battles for the adapters to predict")
    if (config.weights is None) == (config.fit_on is None):
        problems.append("give either weights or fit_on")
    for name in ("weights", "weights_longest", "orders", "fit_on", "base_models"):
        values = getattr(config, name)
        if values is not None and len(values) != len(members):
            problems.append(f"{name}: {len(values)} for {len(members)} members")
        if name.startswith("weights") and values and (min(values) < 0 or sum(values) <= 0):
            problems.append(f"{name}: expected none below 0 and one above")
    if not 0 <= config.longest < 1:
        problems.append("longest: expected a share between 0 and 1")
    if config.fit_on is None and (config.longest > 0) != (config.weights_longest is not None):
        problems.append("longest, weights_longest: give both or neither")
    if Path(config.output_file).suffix not in (".csv", ".parquet"):
        problems.append("output_file: expected a name that ends in .csv or .parquet")
    if problems:
        raise ValueError("\n  ".join([f"{len(problems)} mistake{'s' * (len(problems) > 1)}:", *problems]))


def fit(config: EnsembleConfig) -> None:
    """Find the weights of all battles, or of the longest and of the others."""
    battles, forecasts = stack_forecasts(config.fit_on, [load_predictions(path) for path in config.fit_on])
    members = np.full(len(config.fit_on), 1 / len(config.fit_on))
    refuse_missing(config.fit_on, battles, forecasts, members)
    longest = longest_battles(battles, config.longest)
    config.weights = fit_part("weights", config, battles[~longest], forecasts[~longest])
    if config.longest:
        config.weights_longest = fit_part("weights_longest", config, battles[longest], forecasts[longest])


def fit_part(what: str, config: EnsembleConfig, battles: pd.DataFrame, forecasts: np.ndarray) -> list[float]:
    labelled = battles["winner"].notna().to_numpy()
    forecasts = forecasts[labelled]
    labels, groups = votes_and_groups(battles[labelled])
    if len(set(groups)) < 2:
        raise ValueError(f"fit_on: {what} are fitted on some groups of battles and tried on others: two at least")
    weights = fit_weights(forecasts, labels, config.mean)
    if PartialState().is_main_process:
        even = combine(forecasts, np.full(len(weights), 1 / len(weights)), config.mean)
        fitted = cross_fitted_ensemble(forecasts, labels, groups, config.mean)
        print(f"{what}, log loss on {len(labels)} battles of {len(set(groups))} groups:")
        for name, member in zip(config.fit_on, forecasts.transpose(1, 0, 2), strict=True):
            print(f"  {log_losses(member, labels).mean():.4f}  {name}")
        print(f"  {log_losses(even, labels).mean():.4f}  all, the same weight each")
        print(f"  {log_losses(fitted, labels).mean():.4f}  all, fitted weights (cross-fitted)")
        print(f"{what}: [{', '.join(f'{weight:.4f}' for weight in weights)}]")
    return weights.tolist()


def predict_members(
    config: EnsembleConfig, precision: dict, folder: Path, processes: PartialState
) -> list[pd.DataFrame]:
    """
    Each member's forecasts where it has a weight. The first reads all battles, since its tokens say which are the
    longest. Judges of the same base that follow each other share it.
    """
    battles = stored_battles(config.test_file, folder, processes)
    tables, judge, weights = {}, None, None
    for number, adapter in enumerate(dict.fromkeys(config.adapters)):
        if judge is not None and not on_the_same_base(judge, adapter):
            judge = None  # before the next one is loaded
        base = config.base_models[config.adapters.index(adapter)] if config.base_models else None
        judge = Judge.from_pretrained(adapter, base, precision, beside=judge)
        options = {
            "max_tokens_per_batch": config.max_tokens_per_batch,
            "parts": folder / f"{number}-{Path(adapter).name}",
            "processes": processes,
        }
        if weights is None:
            first = judge.predict_dataset(battles, **options)
            weights = weights_of_battles(first, config.weights, config.longest, config.weights_longest)
        mine = np.array(config.adapters) == adapter
        exchanged = (weights[:, mine & (np.array(config.orders) != "ab")] > 0).any(axis=1)
        counts = (weights[:, mine] > 0).any(axis=1) if number else np.full(len(battles), True)
        shown = battles if counts.all() else battles.select(np.flatnonzero(counts))
        tables[adapter] = judge.predict_dataset(shown, tta=exchanged[counts], **options)
    return [tables[adapter] for adapter in config.adapters]


def on_the_same_base(judge: Judge, adapter: str) -> bool:
    settings = read_judge_file(Path(adapter))
    return all(settings[key] == judge.settings[key] for key in ("base_model", "precision"))


if __name__ == "__main__":
    run_recipe(main)
