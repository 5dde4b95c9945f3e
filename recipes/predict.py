"""
Predict the votes on battles: a submission, or a predictions file.

    accelerate launch recipes/predict.py --adapter runs/judge --test_file test.csv --output_file submission.csv
    lmsys-trl predict --adapter runs/judge --dataset_name data/battles --output_file predictions.parquet --tta swap

    jq -c .battle log.jsonl | lmsys-trl predict --adapter runs/judge --test_file - --output_file - | jq .winner_tie

Started again with the same command, an interrupted run resumes after the last shard in OUTPUT_FILE.shards, with any
number of processes; where battles come from standard input, if it gets the same lines again. What goes to standard
output is written shard by shard, and nothing is kept to resume from.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.config import parse_config
from lmsys_trl.data.config import BattlesConfig
from lmsys_trl.errors import collect_problems, raise_problems
from lmsys_trl.options import BaseModelConfig, EngineConfig, InferenceConfig
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class PredictConfig:
    """Which judge predicts, and how."""

    adapter: str = field(
        metadata={"help": "A judge: a folder, owner/name[@revision] on the Hub, file.zip, kaggle:..."}
    )
    output_file: str = field(
        metadata={
            "help": "*.csv: a Kaggle submission. *.parquet: all orders, with votes and lengths. *.jsonl: a line for "
            "each battle, with the fields that its row has besides. -: such lines on standard output, shard by shard."
        }
    )
    tta: str = field(
        default="none",
        metadata={"help": "swap: both orders of the answers; for some battles: uncertain:0.33, longest:0.1."},
    )
    examples: Literal["last", "all"] = field(
        default="last", metadata={"help": "The example with the last turn, or the mean over all of a battle."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Maximum tokens in an example (default: as in judge.json)."}
    )
    calibrated: bool = field(default=True, metadata={"help": "Use the calibration in judge.json, if there is one."})
    with_lengths: bool = field(
        default=False,
        metadata={"help": "Add how many tokens each text of the last example had, and how many were read."},
    )
    shard_size: int = field(default=512, metadata={"help": "Battles in a shard, for each process."})


CONFIGS = (PredictConfig, BattlesConfig, BaseModelConfig, InferenceConfig, EngineConfig)


def main():
    config, battles_config, base_model, inference, engine, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.data.inputs import battles_to_predict, check_battles_config, stream_battles
    from lmsys_trl.judging.engine import check_engine_config, judge_on_engine
    from lmsys_trl.judging.judge import Judge
    from lmsys_trl.judging.resume import all_processes
    from lmsys_trl.judging.stream import predict_stream
    from lmsys_trl.models.adapter import resolve_adapter
    from lmsys_trl.models.precision import check_inference_config, precision_overrides
    from lmsys_trl.outputs import claim_with_shards, shards_of
    from lmsys_trl.predictions.lines import prediction_lines, save_lines
    from lmsys_trl.predictions.table import check_output_file, has_vote, save_predictions_as
    from lmsys_trl.predictions.tta import check_tta
    from lmsys_trl.terminal import reserve_stdout

    output_file, streams, processes = Path(config.output_file), config.output_file == "-", all_processes()
    problems = [
        *([] if streams else check_output_file(output_file, (".csv", ".parquet", ".jsonl"))),
        *check_tta(config.tta),
        *check_battles_config(battles_config),
        *check_inference_config(inference),
        *check_engine_config(engine, processes.num_processes),
    ]
    with processes.main_process_first(), collect_problems(problems):
        adapter = resolve_adapter(config.adapter)
    raise_problems(problems)
    shards = shards_of(output_file)

    def load_judge() -> Judge:
        base, precision = base_model.model_name_or_path, precision_overrides(inference)
        if engine.engine == "transformers":
            return Judge.from_pretrained(adapter, base, precision)
        return judge_on_engine(engine, str(adapter), base, precision, config.max_length)

    options = {
        "tta": config.tta,
        "examples": config.examples,
        "max_length": config.max_length,
        "max_tokens_per_batch": inference.max_tokens_per_batch,
        "calibrated": config.calibrated,
        "with_lengths": config.with_lengths,
        "shard_size": config.shard_size,
        "processes": processes,
        "progress": True,
    }
    if streams:
        with reserve_stdout() as stdout:
            for predictions, battles in predict_stream(load_judge(), stream_battles(battles_config), **options):
                if processes.is_main_process:
                    stdout.writelines(prediction_lines(predictions, battles))
                    stdout.flush()
        return
    inputs = (battles_config.test_file, battles_config.dataset_name, config.adapter)
    with claim_with_shards(output_file, shards, inputs, processes.is_main_process):
        is_jsonl = output_file.suffix == ".jsonl"
        battles = battles_to_predict(battles_config, shards, processes, with_extra=is_jsonl)
        predictions = load_judge().predict_dataset(battles, folder=shards, **options)
        if processes.is_main_process:
            if is_jsonl:
                save_lines(predictions, battles, output_file)
            else:
                save_predictions_as(predictions, output_file)
            logger.info("%d battles predicted, written to %s", len(battles), output_file)
            if output_file.suffix == ".parquet" and has_vote(predictions).any():
                suggest_next("validate", "--predictions", output_file, "--output_dir", output_file.with_suffix(""))


if __name__ == "__main__":
    run_recipe(main)
