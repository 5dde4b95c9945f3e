"""What `lmsys-trl benchmark` writes, and the parts of a repository and a card that are made of it."""

from pathlib import Path

import pandas as pd
import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from ..artifacts import atomic_write, read_json, write_json
from ..data.benchmarks import BENCHMARKS
from ..errors import UserError
from ..predictions.table import save_predictions
from ..report.benchmarks import BENCHMARK_VERSION, FORCED_CHOICE, figure_rows
from .templates import card_template

RECORD, TABLE, PREDICTIONS = "benchmark.json", "benchmark.md", "predictions.parquet"
# The files that the Hub reads (https://huggingface.co/docs/hub/eval-results), beside those of others.
EVAL_RESULTS = ".eval_results/lmsys-trl-*.yaml"
BENCHMARK_FILES = (TABLE, PREDICTIONS, EVAL_RESULTS)


def write_benchmarks(output_dir: Path, results: dict[str, dict], record: dict, predictions: pd.DataFrame) -> None:
    """
    Write the predictions, a table in Markdown, a file of evaluation results for each benchmark whose score can stand
    beside published ones, and last `benchmark.json`.

    Args:
        output_dir (`Path`): The folder.
        results (`dict[str, dict]`): By benchmark, as from [`benchmark_figures`], with `data` and `published`.
        record (`dict`): How they were made.
        predictions (`DataFrame`): Of all benchmarks, which the column `benchmark` names.
    """
    save_predictions(predictions, output_dir / PREDICTIONS)
    texts = {TABLE: render_benchmarks(results)}
    for name, figures in results.items():
        if entry := _eval_result_entry(name, figures):
            texts[EVAL_RESULTS.replace("*", name)] = yaml.safe_dump(eval_result_entries_to_yaml([entry]))
    for path in output_dir.glob(EVAL_RESULTS):
        path.unlink()
    for name, text in texts.items():
        with atomic_write(output_dir / name) as draft:
            draft.write_text(text, encoding="utf-8")
    write_json(output_dir / RECORD, {"version": BENCHMARK_VERSION, "benchmarks": results, **record})


def read_benchmarks(folder: Path) -> tuple[dict[str, dict], dict[str, bytes], str | None]:
    """
    The results of benchmarks; the files of them that are pushed, by their paths in a repository; and the fingerprint
    of the judge's weights.

    Raises:
        UserError: If there are none, or they are of another version.
    """
    try:
        content = read_json(folder / RECORD)
    except (OSError, UserError) as error:
        raise UserError(
            f"benchmark {folder}: no {RECORD}, or a damaged one. Make it with lmsys-trl benchmark"
        ) from error
    if content.get("version") != BENCHMARK_VERSION:
        raise UserError(
            f"benchmark {folder}: version {content.get('version')}, expected {BENCHMARK_VERSION}. Make it again"
        )
    files = {f"benchmark/{name}": (folder / name).read_bytes() for name in (RECORD, TABLE) if (folder / name).exists()}
    files |= {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob(EVAL_RESULTS)}
    return content["benchmarks"], files, content.get("judge", {}).get("adapter")


def render_benchmarks(results: dict[str, dict]) -> str:
    """The results as tables in Markdown."""
    tables = [(figures, figure_rows(figures)) for figures in results.values()]
    return card_template("benchmarks.md").render(tables=tables, forced_choice=FORCED_CHOICE)


def eval_results(results: dict[str, dict]) -> list[EvalResult]:
    """The scores as a card's metadata has them."""
    return [
        EvalResult(
            task_type="text-classification",
            task_name="Judging pairs of answers",
            dataset_type=BENCHMARKS[name].dataset,
            dataset_name=BENCHMARKS[name].title,
            dataset_split=BENCHMARKS[name].split,
            dataset_revision=figures["data"].get("revision"),
            metric_type="accuracy",
            metric_name=figures["score_name"],
            metric_value=round(figures["score"]["value"], 6),
        )
        for name, figures in results.items()
        if figures["score"]["value"] is not None
    ]


def _eval_result_entry(name: str, figures: dict) -> EvalResultEntry | None:
    """None for a score that is not the published one, or is of other files than those of the benchmark."""
    benchmark, value = BENCHMARKS[name], figures["score"]["value"]
    if benchmark.caveat or value is None or figures["data"]["path"] != f"hub:{benchmark.dataset}":
        return None
    return EvalResultEntry(
        dataset_id=benchmark.dataset,
        task_id=benchmark.split,
        value=round(100 * value, 2),
        dataset_revision=figures["data"]["revision"],
        notes=f"{figures['score_name']}. {FORCED_CHOICE}",
    )
