"""The model card of a judge."""

import math
from pathlib import PurePosixPath

import yaml
from huggingface_hub import EvalResult, ModelCardData

from ..errors import UserError
from ..models.judge_file import JudgeFile
from ..report import METRICS_VERSION
from ..report.summary import not_out_of_sample
from .benchmarks import eval_results, render_benchmarks
from .templates import card_template

TAGS = ["lora", "trl", "lmsys-trl", "llm-as-a-judge", "preference", "human-feedback", "pairwise-comparison"]
METRICS = {"log_loss": "log loss", "accuracy": "accuracy", "brier_score": "Brier score", "ece": "ECE"}
ADAPTER_SETTINGS = (
    "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "layers_to_transform",
)  # fmt: skip


def model_card(
    judge: JudgeFile, adapter: dict, metrics: dict | None, repo_id: str, benchmarks: dict[str, dict] | None = None
) -> str:
    """
    Write the card of a finished judge.

    Args:
        judge (`JudgeFile`): Its `judge.json`.
        adapter (`dict`): The content of its `adapter_config.json`.
        metrics (`dict`, *optional*): The content of a report's `metrics.json`.
        repo_id (`str`): The repository of the card, `owner/name`.
        benchmarks (`dict[str, dict]`, *optional*): The results of a `benchmark.json`.

    Returns:
        `str`: A README.md with the metadata that the Hub reads.

    Raises:
        UserError: If the report is of another version, or of several judges.
    """
    settings = {key: adapter[key] for key in ADAPTER_SETTINGS if adapter.get(key)}
    if isinstance(settings.get("target_modules"), list):
        settings["target_modules"] = " ".join(sorted(settings["target_modules"]))
    figures = None if metrics is None else _judge_figures(metrics)
    return card_template("model_card.md").render(
        metadata=_metadata(judge, figures, metrics, repo_id, benchmarks or {}),
        title=PurePosixPath(repo_id).name,
        repo_id=repo_id,
        judge=judge,
        adapter=adapter,
        settings=settings,
        base=judge.base_model["id"] or f"a {judge.base_model['architecture']['model_type']} model",
        dataset_name=judge.configuration.get("dataset_name"),
        results=None if metrics is None or figures is None else _results(figures, metrics),
        benchmarks=render_benchmarks(benchmarks) if benchmarks else None,
        uniform=math.log(3),
        configuration=yaml.safe_dump(judge.configuration, sort_keys=False, allow_unicode=True),
        versions=", ".join(f"{package} {version}" for package, version in judge.versions.items()),
    )


def card_in_training(base_model_id: str | None, step: int, max_steps: int) -> str:
    """Write the card of a checkpoint, which says that training is not finished."""
    data = ModelCardData(base_model=base_model_id, library_name="peft", tags=TAGS)
    return (
        f"---\n{data.to_yaml()}\n---\n\nA judge of chat answers in training: step {step} of {max_steps}. It is not "
        "validated, and has no `judge.json` yet.\n"
    )


def _judge_figures(metrics: dict) -> dict:
    if metrics.get("version") != METRICS_VERSION:
        raise UserError(
            f"report: its metrics.json has version {metrics.get('version')}, expected {METRICS_VERSION}. Make it "
            "again with lmsys-trl validate"
        )
    if len(metrics["judges"]) != 1:
        raise UserError(f"report: it compares {', '.join(metrics['judges'])}. Make one of this judge alone")
    return next(iter(metrics["judges"].values()))


def _results(figures: dict, metrics: dict) -> dict:
    rows = {"**this judge**": figures}
    if "mean" in figures["orders"]:  # the judge's scores are those of the mean
        rows = {"**this judge, both orders**": figures, "this judge, order as given": figures["orders"]["ab"]}
    rows["this judge, cross-fitted temperature"] = figures["cross_fitted_temperature"]
    rows |= {f"baseline: {name.replace('_', ' ')}": scores for name, scores in metrics["baselines"].items()}
    if "best_possible" in metrics:
        rows["best possible"] = metrics["best_possible"]
    position = figures["position"]
    return {
        "num_battles": metrics["num_battles"],
        "num_groups": metrics["num_groups"],
        "battles": _battles(metrics),
        "baselines_fitted": metrics["baselines_fitted"],
        "metrics": METRICS.values(),
        "rows": {name: [_cell(scores[key], key) for key in METRICS] for name, scores in rows.items()},
        "not_out_of_sample": [reason for _, reason in not_out_of_sample(metrics)],
        "flip_rate": position and _cell(position["flip_rate"], "flip_rate"),
    }


def _cell(figure: dict, name: str) -> str:
    fmt = "{:.1%}" if name in ("accuracy", "flip_rate") else "{:.3f}"
    text = fmt.format(figure["value"])
    return text if figure["low"] is None else f"{text} [{fmt.format(figure['low'])}, {fmt.format(figure['high'])}]"


def _battles(metrics: dict) -> str:
    configuration = metrics["configuration"]
    if "dataset_name" in configuration:
        return f"{configuration['dataset_name']} (validation)"
    return configuration.get("test_file", "an unknown source")


def _metadata(
    judge: JudgeFile, figures: dict | None, metrics: dict | None, repo_id: str, benchmarks: dict[str, dict]
) -> str:
    dataset = judge.votes.get("id")
    results = eval_results(benchmarks)
    if figures is not None and metrics is not None and not not_out_of_sample(metrics):
        results = [*(_eval_result(name, figures, metrics) for name in METRICS), *results]
    return ModelCardData(
        base_model=judge.base_model["id"],
        datasets=[dataset] if dataset else None,
        library_name="peft",
        tags=TAGS,
        eval_results=results or None,
        model_name=PurePosixPath(repo_id).name if results else None,
    ).to_yaml()


def _eval_result(name: str, figures: dict, metrics: dict) -> EvalResult:
    return EvalResult(
        task_type="text-classification",
        task_name="Prediction of annotators' votes",
        dataset_type=metrics["configuration"].get("dataset_name", "votes"),
        dataset_name=_battles(metrics),
        metric_type=name,
        metric_name=METRICS[name],
        metric_value=round(figures[name]["value"], 6),
    )
