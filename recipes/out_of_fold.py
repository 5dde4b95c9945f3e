"""
Predict each fold of a data set with the judge that was not trained on it, for a student to learn from.

    lmsys-trl out_of_fold --adapter runs/fold0 runs/fold1 --dataset_name data --output_file teacher.parquet --tta swap

Started again with the same command, an interrupted run resumes after the last shard in OUTPUT_FILE.shards.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.errors import raise_problems
from lmsys_trl.options import BaseModelConfig, InferenceConfig
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class OutOfFoldConfig:
    """Which judges predict the battles of which data set."""

    adapter: list[str] = field(
        metadata={"help": "A judge for each fold, trained with --fold: folders, names on the Hub, zips, kaggle:..."}
    )
    dataset_name: str = field(metadata={"help": "The data set with these folds: its folder, or its name on the Hub."})
    output_file: str = field(metadata={"help": "*.parquet: predictions of all its training battles."})
    tta: str = field(default="none", metadata={"help": "swap: the mean of both orders of the answers."})


CONFIGS = (OutOfFoldConfig, BaseModelConfig, InferenceConfig)


def main():
    config, base_model, inference, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    import pandas as pd

    from lmsys_trl.data.dataset import data_fingerprint, load_battles
    from lmsys_trl.judging.judge import Judge
    from lmsys_trl.judging.resume import all_processes
    from lmsys_trl.models.judge_file import load_judge_files
    from lmsys_trl.models.precision import check_inference_config, precision_overrides
    from lmsys_trl.outputs import claim_with_shards, shards_of
    from lmsys_trl.predictions.table import check_output_file, save_predictions
    from lmsys_trl.predictions.tta import check_tta
    from lmsys_trl.training.teachers import check_out_of_fold, select_fold

    output_file = Path(config.output_file)
    raise_problems(
        [
            *check_output_file(output_file, (".parquet",)),
            *check_tta(config.tta),
            *check_inference_config(inference),
        ]
    )
    processes, shards = all_processes(), shards_of(output_file)
    with claim_with_shards(output_file, shards, (config.dataset_name, *config.adapter), processes.is_main_process):
        battles = load_battles(config.dataset_name)["train"]
        judge_files = load_judge_files(config.adapter)
        check_out_of_fold(battles, data_fingerprint(battles), judge_files)
        tables = []
        for adapter, judge_file in judge_files.items():
            assert judge_file.fold is not None  # checked above
            judge = Judge.from_pretrained(adapter, base_model.model_name_or_path, precision_overrides(inference))
            predictions = judge.predict_dataset(
                select_fold(battles, judge_file.fold),
                tta=config.tta,
                max_tokens_per_batch=inference.max_tokens_per_batch,
                folder=shards / str(judge_file.fold),
                processes=processes,
                progress=True,
            )
            tables.append(predictions.assign(fold=judge_file.fold))
        if processes.is_main_process:
            predictions = pd.concat(tables)
            save_predictions(predictions, output_file)
            logger.info(
                "%d battles, each predicted by a judge that has not seen its group, written to %s",
                predictions["id"].nunique(),
                output_file,
            )
            suggest_next("sft", "FILE.yaml", "--dataset_name", config.dataset_name, "--teacher_files", output_file,
                         "--output_dir", "runs/student")  # fmt: skip


if __name__ == "__main__":
    run_recipe(main)
