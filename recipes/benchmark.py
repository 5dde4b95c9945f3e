"""
Benchmark a judge on public data sets: RewardBench, RewardBench 2, JudgeBench, PPE, MT-bench, HelpSteer3.

    lmsys-trl benchmark --adapter runs/judge --benchmark rewardbench judgebench-gpt --output_dir reports/benchmarks
    lmsys-trl benchmark --adapter runs/judge --benchmark ppe --file ppe.parquet --output_dir reports/ppe

Writes benchmark.json, benchmark.md, predictions.parquet and .eval_results/*.yaml. Each pair is predicted in both
orders. Started again with the same command, an interrupted run resumes after the last shard in
OUTPUT_DIR/predictions.shards, with any number of processes.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.errors import raise_problems
from lmsys_trl.options import BaseModelConfig, InferenceConfig
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class BenchmarkConfig:
    """Which judge is measured on what."""

    adapter: str = field(
        metadata={"help": "A judge: a folder, owner/name[@revision] on the Hub, file.zip, kaggle:..."}
    )
    benchmark: list[str] = field(
        metadata={
            "help": "Of rewardbench, rewardbench-2, judgebench-gpt, judgebench-claude, ppe, mt-bench, helpsteer3."
        }
    )
    output_dir: str = field(metadata={"help": "The folder for the results."})
    file: str | None = field(
        default=None,
        metadata={"help": "A file or folder with the one benchmark, or hub:owner/name[@revision] (default: the Hub)."},
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replace results in output_dir that were made with another configuration."}
    )


CONFIGS = (BenchmarkConfig, BaseModelConfig, InferenceConfig)


def main():
    config, base_model, inference, given = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    import pandas as pd
    from datasets import Dataset

    from lmsys_trl.artifacts import provenance
    from lmsys_trl.data.benchmarks import check_benchmarks, load_benchmark
    from lmsys_trl.judging.judge import Judge
    from lmsys_trl.judging.resume import all_processes
    from lmsys_trl.models.precision import check_inference_config, precision_overrides
    from lmsys_trl.outputs import check_shards, claim_with_shards, refuse_foreign, refuse_other_configuration
    from lmsys_trl.publish.benchmarks import BENCHMARK_FILES, RECORD, write_benchmarks
    from lmsys_trl.report.benchmarks import FORCED_CHOICE, benchmark_figures, format_benchmark, published

    output_dir, made, processes = Path(config.output_dir), provenance(given), all_processes()
    shards = output_dir / "predictions.shards"
    problems = [*check_benchmarks(config.benchmark, config.file), *check_inference_config(inference)]
    raise_problems([*problems, *check_shards(shards)])
    refuse_foreign(output_dir, BENCHMARK_FILES, (RECORD, shards.name), "a folder of benchmarks")
    if not config.overwrite:
        refuse_other_configuration(output_dir / RECORD, made["configuration"], "result")
    with claim_with_shards(output_dir, shards, (config.adapter, config.file), processes.is_main_process):
        with processes.main_process_first():
            loaded = {name: load_benchmark(name, config.file) for name in config.benchmark}
        judge = Judge.from_pretrained(config.adapter, base_model.model_name_or_path, precision_overrides(inference))
        results, tables = {}, []
        for number, (name, (battles, origin)) in enumerate(loaded.items()):
            dropped = "".join(f", {count} rows left out: {why}" for why, count in origin["dropped"].items())
            logger.info("%s: %d battles%s", name, len(battles), dropped)
            predictions = judge.predict_dataset(
                Dataset.from_list(battles),
                tta="swap",
                max_tokens_per_batch=inference.max_tokens_per_batch,
                folder=shards / str(number),
                processes=processes,
                progress=True,
            )
            tables.append(predictions.assign(benchmark=name))
            figures = benchmark_figures(name, battles, predictions)
            results[name] = {**figures, "data": origin, "published": published(name)}
        if not processes.is_main_process:
            return
        write_benchmarks(output_dir, results, {"judge": judge.identity, **made}, pd.concat(tables))
        for figures in results.values():
            logger.info("\n%s", format_benchmark(figures))
        logger.info("%s\nThe results are in %s", FORCED_CHOICE, output_dir)
        if Path(config.adapter).is_dir():
            names = ("--adapter", config.adapter, "--hub_model_id", "owner/name", "--benchmark", output_dir)
            suggest_next("push", *names)


if __name__ == "__main__":
    run_recipe(main)
