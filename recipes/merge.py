"""
Average several adapters into one, or merge one adapter into its 16-bit base model.

    lmsys-trl merge --adapter runs/fold0 runs/fold1 runs/fold2 --output_dir runs/mean --test_file votes.csv
    lmsys-trl merge --adapter runs/judge --output_dir models/judge --test_file votes.csv
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.config import parse_config
from lmsys_trl.data.config import BattlesConfig
from lmsys_trl.errors import raise_problems
from lmsys_trl.options import BaseModelConfig
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class MergeConfig:
    """What is merged into what."""

    adapter: list[str] = field(
        metadata={
            "help": "Several judges to average, or one to merge into its base model: folders, names on the Hub, zips "
            "or kaggle:..."
        }
    )
    output_dir: str = field(metadata={"help": "A new folder for the adapter or model."})
    method: Literal["mean", "cat"] = field(
        default="mean", metadata={"help": "Mean of the A and of the B matrices, or the exact mean, of higher rank."}
    )


CONFIGS = (MergeConfig, BattlesConfig, BaseModelConfig)


def main():
    config, battles_config, base_model, given = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.data.inputs import check_battles_config, labelled_battles
    from lmsys_trl.judging.merged import log_merged_losses
    from lmsys_trl.models.adapter import resolve_adapter
    from lmsys_trl.models.judge_file import load_judge_files
    from lmsys_trl.models.merge import merge_into_base, save_average
    from lmsys_trl.outputs import claim

    output_dir = Path(config.output_dir)
    exists = [f"output_dir: {output_dir} exists already. Choose a new folder"] if output_dir.exists() else []
    raise_problems([*exists, *check_battles_config(battles_config, required=False)])
    load_judge_files(config.adapter)  # report all that are not judges
    compare = battles_config.test_file or battles_config.dataset_name
    battles = labelled_battles(battles_config)[0] if compare else []
    with claim(output_dir, config.adapter):
        if len(config.adapter) > 1:
            save_average(config.adapter, config.method, output_dir, given)
            logger.info("The average of %d adapters is in %s", len(config.adapter), output_dir)
        else:
            merge_into_base(resolve_adapter(config.adapter[0]), base_model.model_name_or_path, output_dir)
            logger.info("%s merged into its base model is in %s", config.adapter[0], output_dir)
    if compare:
        log_merged_losses(config.adapter, output_dir, battles, base_model.model_name_or_path)
    if len(config.adapter) > 1:
        suggest_next("predict", "--adapter", output_dir, "--test_file", "test.csv", "--output_file", "submission.csv")


if __name__ == "__main__":
    run_recipe(main)
