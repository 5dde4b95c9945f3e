"""
Combine several judges into one prediction, from their predictions files or their adapters.

    lmsys-trl ensemble --predictions a.parquet b.parquet --weights 0.6 0.4 --output_file submission.csv
    lmsys-trl ensemble --predictions a.parquet b.parquet --fit_on a-votes.parquet b-votes.parquet --output_file out.csv
    lmsys-trl ensemble submission-1.yaml --test_file test.csv --output_file submission.csv

With adapters, an interrupted run resumes after the last shard in OUTPUT_FILE.shards if it is started again with the
same command.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.config import parse_config
from lmsys_trl.data.config import BattlesConfig
from lmsys_trl.errors import raise_problems
from lmsys_trl.options import InferenceConfig
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class EnsembleConfig:
    """The members, and their weights."""

    output_file: str = field(metadata={"help": "*.csv: a Kaggle submission. *.parquet: with votes and lengths."})
    predictions: list[str] | None = field(
        default=None, metadata={"help": "The members' predictions files (*.parquet of predict)."}
    )
    adapter: list[str] | None = field(
        default=None,
        metadata={"help": "Instead of predictions: the members' folders, names on the Hub, zips or kaggle:..."},
    )
    base_models: list[str] | None = field(
        default=None, metadata={"help": "The adapters' base models (default: found by their weights)."}
    )
    orders: list[Literal["ab", "ba", "mean"]] | None = field(
        default=None,
        metadata={"help": "Which order of each member (default: ab of adapters, the best of predictions files)."},
    )
    weights: list[float] | None = field(default=None, metadata={"help": "One for each member."})
    longest: float = field(
        default=0.0, metadata={"help": "The fraction of longest battles that has weights of its own."}
    )
    weights_longest: list[float] | None = field(default=None, metadata={"help": "The weights for these."})
    fit_on: list[str] | None = field(
        default=None,
        metadata={"help": "Instead of weights: each member's predictions of votes that it was not trained on."},
    )
    mean: Literal["arithmetic", "geometric"] = field(
        default="arithmetic", metadata={"help": "Of probabilities, or of their logarithms."}
    )


CONFIGS = (EnsembleConfig, BattlesConfig, InferenceConfig)


def main():
    config, battles_config, inference, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.artifacts import file_fingerprint
    from lmsys_trl.data.inputs import battles_to_predict, check_battles_config
    from lmsys_trl.judging.resume import all_processes
    from lmsys_trl.models.precision import check_inference_config, precision_overrides
    from lmsys_trl.outputs import claim_with_shards, shards_of
    from lmsys_trl.predictions import ensemble
    from lmsys_trl.predictions.table import (
        check_output_file,
        has_vote,
        load_all_predictions,
        save_predictions_as,
    )

    output_file = Path(config.output_file)
    raise_problems(
        [
            *ensemble.check_members(
                config.predictions, config.adapter, config.weights, config.longest, config.weights_longest,
                config.fit_on, orders=config.orders, base_models=config.base_models,
            ),
            *(check_battles_config(battles_config) if config.adapter else []),
            *check_inference_config(inference),
            *check_output_file(output_file),
        ]
    )  # fmt: skip
    processes, shards = all_processes(), shards_of(output_file)
    members_files = (*(config.predictions or ()), *(config.adapter or ()), *(config.fit_on or ()))
    inputs = (battles_config.test_file, battles_config.dataset_name, *members_files)
    with claim_with_shards(output_file, shards, inputs, processes.is_main_process):
        weights, weights_longest = config.weights, config.weights_longest
        tables = load_all_predictions(config.predictions or ())
        members = config.predictions or config.adapter
        orders = config.orders or (["ab"] * len(members) if config.adapter else None)
        if config.fit_on:
            fitted = load_all_predictions(config.fit_on)
            if config.predictions:
                judges = [*map(ensemble.judge_weights, tables)]
            else:
                from lmsys_trl.models.adapter import resolve_adapter
                from lmsys_trl.models.adapter_weights import weights_file

                judges = [file_fingerprint(weights_file(resolve_adapter(name))) for name in config.adapter]
            ensemble.refuse_other_order(members, judges, config.fit_on, fitted)
            weights, weights_longest = ensemble.fit_on_predictions(
                config.fit_on, fitted, config.longest, config.mean, orders
            )
        if config.adapter:
            # To combine predictions files takes no model, and loading what runs one takes ten seconds.
            from lmsys_trl.judging.members import predict_members
            from lmsys_trl.models.judge_file import load_judge_files

            load_judge_files(config.adapter)  # a missing one is reported before the first one predicts
            tables = predict_members(
                config.adapter,
                battles_to_predict(battles_config, shards, processes),
                lambda first: ensemble.battle_weights(first, weights, config.longest, weights_longest),
                shards,
                orders,
                config.base_models,
                precision_overrides(inference),
                max_tokens_per_batch=inference.max_tokens_per_batch,
                processes=processes,
            )
        combined = ensemble.combine_tables(
            members, tables, orders, weights, config.longest, weights_longest, config.mean
        )
        if processes.is_main_process:
            save_predictions_as(combined, output_file)
            logger.info("%d battles combined, written to %s", len(combined), output_file)
            if output_file.suffix == ".parquet" and has_vote(combined).any():
                suggest_next("validate", "--predictions", output_file, "--output_dir", output_file.with_suffix(""))


if __name__ == "__main__":
    run_recipe(main)
