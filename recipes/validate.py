"""
Validate judges on votes: a report with scores, intervals, baselines, plots and slices.

    lmsys-trl validate --adapter runs/judge --test_file labelled.csv --output_dir reports/judge
    lmsys-trl validate --adapter runs/a runs/b --dataset_name data/battles --output_dir reports/both
    lmsys-trl validate --predictions a.parquet b.parquet --test_file labelled.csv --output_dir reports/both

Writes report.html, report.md, metrics.json, predictions.parquet and plots/*.png. Started again with the same command,
an interrupted run resumes after the last shard in OUTPUT_DIR/predictions.shards, with any number of processes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.config import parse_config
from lmsys_trl.data.config import BattlesConfig
from lmsys_trl.errors import collect_problems, raise_problems
from lmsys_trl.options import BaseModelConfig, InferenceConfig
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class ValidateConfig:
    """Which judges are validated."""

    output_dir: str = field(metadata={"help": "The folder for the report."})
    adapter: list[str] = field(
        default_factory=list,
        metadata={"help": "Judges: folders, owner/name[@revision] on the Hub, file.zip, kaggle:..."},
    )
    predictions: list[str] = field(
        default_factory=list,
        metadata={"help": "Predictions files (*.parquet, *.csv) to compare, instead of adapters or with them."},
    )
    known_probabilities: str | None = field(
        default=None, metadata={"help": "A CSV with the probabilities that the votes were drawn from."}
    )
    attack: list[str] = field(
        default_factory=list,
        metadata={"help": "Also write for the judge: names of attacks on the answer that loses, or all."},
    )
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = field(
        default_factory=list, metadata={"help": "Trackers that get the figures and plots of the report too."}
    )
    project: str | None = field(
        default=None,
        metadata={"help": "With report_to: the project in wandb and trackio (default: huggingface, as in training)."},
    )
    run_name: str | None = field(
        default=None, metadata={"help": "With report_to: the name of the run (default: that of output_dir)."}
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replace a report in output_dir that was made with another configuration."}
    )


CONFIGS = (ValidateConfig, BattlesConfig, BaseModelConfig, InferenceConfig)


def main():
    config, battles_config, base_model, inference, given = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.artifacts import provenance, strip_local_paths
    from lmsys_trl.data.inputs import check_battles_config
    from lmsys_trl.judging.resume import all_processes
    from lmsys_trl.outputs import check_shards, claim_with_shards, refuse_foreign, refuse_other_configuration
    from lmsys_trl.predictions.baselines import baseline_predictions
    from lmsys_trl.predictions.features import load_features
    from lmsys_trl.report.attacks import attack_judges, attack_lines, check_attacks
    from lmsys_trl.report.figures import report_figures
    from lmsys_trl.report.judges import (
        common_training,
        complete_lengths,
        num_calibration_battles,
        num_training_prompts,
        predict_votes,
        refuse_same_names,
        resolve_adapters,
    )
    from lmsys_trl.report.page import REPORT_FILES, write_report
    from lmsys_trl.report.slices import battle_attributes
    from lmsys_trl.report.summary import behind_baselines, format_summary, not_out_of_sample
    from lmsys_trl.report.trackers import check_trackers, log_report, start_trackers
    from lmsys_trl.report.votes import (
        baseline_features,
        judge_predictions,
        load_votes,
        read_known_probabilities,
        read_predictions,
        training_split,
    )

    problems = check_battles_config(battles_config, required=bool(config.adapter))
    if not config.adapter and not config.predictions:
        problems.append("adapter or predictions: missing. Name the judges to validate")
    processes, output_dir, made = all_processes(), Path(config.output_dir), provenance(given)
    shards = output_dir / "predictions.shards"
    if config.attack and not config.adapter:
        problems.append("attack: needs adapter, since attacked battles are predicted anew")
    problems += [*check_trackers(config.report_to), *check_attacks(config.attack), *check_shards(shards)]
    with collect_problems(problems):
        adapters = resolve_adapters(config.adapter, processes)
    raise_problems(problems)
    refuse_foreign(output_dir, REPORT_FILES, ("metrics.json", shards.name), "a report")
    if not config.overwrite:
        refuse_other_configuration(output_dir / "metrics.json", made["configuration"], "report")
    inputs = (battles_config.test_file, battles_config.dataset_name, config.known_probabilities, *config.predictions)
    with claim_with_shards(output_dir, shards, inputs, processes.is_main_process):
        wanted = config.report_to if processes.is_main_process else []
        trackers = start_trackers(wanted, config.project, config.run_name, output_dir)
        files = read_predictions(config.predictions)
        refuse_same_names([*adapters, *files])
        battles, votes, fingerprint = load_votes(battles_config, config.predictions, files)
        judges = {name: judge_predictions(name, table, votes) for name, table in files.items()}
        known = read_known_probabilities(config.known_probabilities, votes.index)
        tables = predict_votes(adapters, battles, base_model, inference, shards, processes)
        if not processes.is_main_process:
            return
        judges = {name: judge_predictions(name, table, votes) for name, table in tables.items()} | judges

        features = baseline_features(battles, votes)
        training = {name: load_features(folder) for name, folder in adapters.items()} or training_split(battles_config)
        baselines, fitted_on = baseline_predictions(features, common_training(list(training.values())))
        num_tokens = next(iter(judges.values())).num_tokens
        attributes = battle_attributes(votes, num_tokens, complete_lengths(battles, list(adapters.values())))
        figures = report_figures(votes, judges, baselines, attributes, known)
        for name, judge in figures["judges"].items():
            judge["num_battles_with_a_training_prompt"] = num_training_prompts(features, adapters.get(name))
            judge["num_battles_calibrated_on"] = num_calibration_battles((tables | files)[name], adapters.get(name))
            judge["adapter"] = tables[name].attrs["judge"]["adapter"] if name in tables else None
        if config.attack:
            figures["attacks"] = attack_judges(config.attack, adapters, battles, tables, base_model, inference, shards)
        record = {
            "battles": strip_local_paths(battles_config.test_file or battles_config.dataset_name),
            "baselines_fitted": fitted_on,
            "data_fingerprint": fingerprint,
            **made,
        }
        shards.mkdir(parents=True, exist_ok=True)  # says that the folder is ours while its report is incomplete
        plots = write_report(output_dir, figures, record, votes, judges, tables | files, battles, known)
        log_report(trackers, figures, {name: str(record[name]) for name in ("battles", "command")}, plots)
        logger.info("\n%s", format_summary(figures))
        logger.info("The baselines were %s.", fitted_on)
        for line in attack_lines(figures.get("attacks", {})):
            logger.info(line)
        logger.info("The report is %s", output_dir / "report.html")
        if len(judges) == len(config.adapter) == 1 and not (behind_baselines(figures) or not_out_of_sample(figures)):
            suggest_next(
                "push", "--adapter", config.adapter[0], "--hub_model_id", "owner/name", "--report", output_dir
            )


if __name__ == "__main__":
    run_recipe(main)
