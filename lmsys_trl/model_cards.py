"""The words on the card of a judge."""

import math
from pathlib import PurePosixPath

import yaml
from huggingface_hub import EvalResult, ModelCardData

from .cards import card_template

TAGS = ["lora", "trl", "lmsys-trl", "llm-as-a-judge", "preference", "human-feedback", "pairwise-comparison"]
METRICS = {"log_loss": "log loss", "accuracy": "accuracy", "brier_score": "Brier score", "ece": "ECE"}
ADAPTER_SETTINGS = (
    "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "layers_to_transform",
)  # fmt: skip
METRICS_VERSION = 2  # of metrics.json; lmsys_trl/report/METRICS.md describes it


def model_card(judge: dict, adapter: dict, metrics: dict | None, repo_id: str) -> str:
    """
    Args:
        judge (`dict`): The content of `judge.json`.
        adapter (`dict`): That of `adapter_config.json`.
        metrics (`dict`, *optional*): That of a report's `metrics.json`.
        repo_id (`str`): Where the card will stand.

    Returns:
        `str`: A README.md with the metadata that the Hub reads.

    Raises:
        ValueError: If the report is of another version, or of several judges.
    """
    configuration = judge.get("configuration", {})
    settings = {key: adapter[key] for key in ADAPTER_SETTINGS if adapter.get(key)}
    if isinstance(settings.get("target_modules"), list):
        settings["target_modules"] = " ".join(sorted(settings["target_modules"]))
    own = metrics and _figures_of_the_judge(metrics)
    return card_template("model_card.md").render(
        metadata=_metadata(judge, own, metrics, repo_id),
        title=PurePosixPath(repo_id).name,
        repo_id=repo_id,
        judge=judge,
        adapter=adapter,
        settings=settings,
        base=judge["base_model"]["id"] or f"a {judge['base_model']['architecture']['model_type']} model",
        votes=judge.get("votes", {}),
        dataset_name=configuration.get("dataset_name"),
        results=own and _results(own, metrics),
        uniform=math.log(3),
        configuration=yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True),
        versions=", ".join(f"{package} {version}" for package, version in judge.get("versions", {}).items()),
    )


def card_in_training(base_model_id: str | None, step: int, max_steps: int) -> str:
    """The card of a checkpoint: it says that there is more to come."""
    data = ModelCardData(base_model=base_model_id, library_name="peft", tags=TAGS)
    return (
        f"---\n{data.to_yaml()}\n---\n\nA judge of chat answers in training: step {step} of {max_steps}. It was not "
        "validated, and has no `judge.json` yet.\n"
    )


def _figures_of_the_judge(metrics: dict) -> dict:
    if metrics.get("version") != METRICS_VERSION:
        raise ValueError(
            f"report: its metrics.json has version {metrics.get('version')}, expected {METRICS_VERSION}. Make it anew "
            "with recipes/validate.py"
        )
    if len(metrics["judges"]) != 1:
        raise ValueError(f"report: it compares {', '.join(metrics['judges'])}. Make one of this judge alone")
    return next(iter(metrics["judges"].values()))


def _results(own: dict, metrics: dict) -> dict:
    rows = {"**this judge**": own}
    if "mean" in own["orders"]:  # which its figures are of
        rows = {"**this judge, both orders**": own, "this judge, order as given": own["orders"]["ab"]}
    rows["this judge, cross-fitted temperature"] = own["cross_fitted_temperature"]
    rows |= {f"baseline: {name.replace('_', ' ')}": scores for name, scores in metrics["baselines"].items()}
    if "best_possible" in metrics:
        rows["best possible"] = metrics["best_possible"]
    position = own["position"]
    return {
        "num_battles": metrics["num_battles"],
        "num_groups": metrics["num_groups"],
        "battles": _battles(metrics),
        "baselines_fitted": metrics["baselines_fitted"],
        "metrics": METRICS.values(),
        "rows": {name: [_cell(scores[key], key) for key in METRICS] for name, scores in rows.items()},
        "flip_rate": position and _cell(position["flip_rate"], "flip_rate"),
    }


def _cell(figure: dict, name: str) -> str:
    form = "{:.1%}" if name in ("accuracy", "flip_rate") else "{:.3f}"
    text = form.format(figure["value"])
    return text if figure["low"] is None else f"{text} [{form.format(figure['low'])}, {form.format(figure['high'])}]"


def _battles(metrics: dict) -> str:
    configuration = metrics["configuration"]
    if "dataset_name" in configuration:
        return f"{configuration['dataset_name']} (validation)"
    return configuration.get("test_file", "unknown origin")


def _metadata(judge: dict, own: dict | None, metrics: dict | None, repo_id: str) -> str:
    dataset = judge.get("votes", {}).get("id")
    results = own and [
        EvalResult(
            task_type="text-classification",
            task_name="Forecast of people's votes",
            dataset_type=metrics["configuration"].get("dataset_name", "votes"),
            dataset_name=_battles(metrics),
            metric_type=name,
            metric_name=METRICS[name],
            metric_value=round(own[name]["value"], 6),
        )
        for name in METRICS
    ]
    return ModelCardData(
        base_model=judge["base_model"]["id"],
        datasets=[dataset] if dataset else None,
        library_name="peft",
        tags=TAGS,
        eval_results=results,
        model_name=PurePosixPath(repo_id).name if results else None,
    ).to_yaml()
