"""
Give battles that nobody voted on the probabilities of judges, where these agree and are sure: votes for prepare.

    lmsys-trl pseudo_label --adapter runs/a runs/b --test_file unlabelled.csv --output_file pseudo.jsonl
    lmsys-trl prepare --sources votes.csv pseudo.jsonl --validation_sources votes --output_dir data/with_pseudo_labels

The judges predict both orders of the answers. An interrupted run resumes after the last shard in OUTPUT_FILE.shards if
it is started again with the same command.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.data.config import BattlesConfig
from lmsys_trl.errors import UserError, raise_problems
from lmsys_trl.options import InferenceConfig
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class PseudoLabelConfig:
    """Which judges label which battles."""

    adapter: list[str] = field(metadata={"help": "The judges: folders, names on the Hub, zips or kaggle:..."})
    output_file: str = field(metadata={"help": "*.jsonl: a new file of battles with fractions of votes."})
    min_confidence: float = field(
        default=0.6, metadata={"help": "The least probability that each judge gives to the winner."}
    )
    balance: bool = field(
        default=False, metadata={"help": "Keep as many battles of each winner as of the rarest one."}
    )


CONFIGS = (PseudoLabelConfig, BattlesConfig, InferenceConfig)


def main():
    config, battles_config, inference, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    import numpy as np

    from lmsys_trl.artifacts import atomic_write
    from lmsys_trl.data.columns import TURN_COLUMNS
    from lmsys_trl.data.inputs import battles_to_predict, check_battles_config
    from lmsys_trl.judging.members import predict_members
    from lmsys_trl.judging.resume import all_processes
    from lmsys_trl.models.judge_file import load_judge_files
    from lmsys_trl.models.precision import check_inference_config, precision_overrides
    from lmsys_trl.outputs import check_shards, claim_with_shards, shards_of
    from lmsys_trl.predictions.pseudo_labels import choose_pseudo_labels

    output_file = Path(config.output_file)
    problems = [*check_battles_config(battles_config), *check_inference_config(inference)]
    if output_file.suffix != ".jsonl":
        problems.append(f"output_file: expected a name that ends in .jsonl, found {output_file}")
    elif output_file.exists():
        problems.append(f"output_file: {output_file} exists already. Choose another name")
    raise_problems([*problems, *check_shards(shards_of(output_file))])
    processes, shards = all_processes(), shards_of(output_file)
    inputs = (battles_config.test_file, battles_config.dataset_name, *config.adapter)
    with claim_with_shards(output_file, shards, inputs, processes.is_main_process):
        load_judge_files(config.adapter)  # a missing one is reported before the first one predicts
        battles = battles_to_predict(battles_config, shards, processes)
        tables = predict_members(
            config.adapter,
            battles,
            lambda first: np.ones((len(battles), len(config.adapter))),
            shards,
            ["mean"] * len(config.adapter),
            precision=precision_overrides(inference),
            max_tokens_per_batch=inference.max_tokens_per_batch,
            processes=processes,
        )
        if not processes.is_main_process:
            return
        labels, reasons = choose_pseudo_labels(tables, config.min_confidence, config.balance)
        left_out = ", ".join(f"{count} where {reason}" for reason, count in reasons.items())
        if labels.empty:
            fix = "Lower min_confidence" if reasons["a judge is not sure"] else "Other judges may agree more"
            fix = "Leave balance out" if reasons.get("another winner is rarer") else fix
            raise UserError(f"none of the {len(battles)} battles is labelled: {left_out}. {fix}")
        texts = battles.to_pandas().set_index("id")[list(TURN_COLUMNS)]
        with atomic_write(output_file) as draft:
            texts.join(labels, how="inner").reset_index().to_json(draft, orient="records", lines=True)
        logger.info(
            "%d of %d battles are labelled, %s on average, written to %s", len(labels), len(battles),
            ", ".join(f"{mean:.1%} {name.removeprefix('winner_')}" for name, mean in labels.mean().items()),
            output_file,
        )  # fmt: skip
        logger.info("Left out: %s", left_out)
        suggest_next(
            "prepare", "--sources", "votes.csv", output_file, "--validation_sources", "votes", "--output_dir",
            "data/with_pseudo_labels",
        )  # fmt: skip


if __name__ == "__main__":
    run_recipe(main)
