"""A judge -> a repository on the Hub: which of its files, with which card."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

from jinja2 import TemplateError

from ..artifacts import file_fingerprint, read_json
from ..errors import UserError
from ..hub import push_files
from ..models.adapter import ADAPTER_CONFIG, ADAPTER_FILES, ADAPTER_WEIGHTS
from ..models.adapter_weights import weights_file
from ..models.judge_file import JudgeFile
from .benchmarks import EVAL_RESULTS, read_benchmarks
from .model_card import model_card

REPORT_FILES = ("report.html", "report.md", "metrics.json", "predictions.parquet", "plots/*.png")
# What a push removes unless it replaces it: earlier files of a judge, and pickles. Files of others stay.
REPLACED = (
    *ADAPTER_FILES, "README.md", "report/*", "benchmark/*", EVAL_RESULTS, "*.bin", "*.pt", "*.pth", "*.pkl",
)  # fmt: skip


def push_judge(adapter: Path, report: Path | None, repo_id: str, private: bool, benchmark: Path | None = None) -> str:
    """
    Push a finished judge in one commit: adapter, `judge.json`, tokenizer, report, and a card made of them.

    Args:
        adapter (`Path`): Its folder.
        report (`Path`, *optional*): The output folder of `lmsys-trl validate`. Without one the card says that there
            are no results.
        repo_id (`str`): `owner/name`.
        private (`bool`): Whether the repository is for its owner only.
        benchmark (`Path`, *optional*): The output folder of `lmsys-trl benchmark`.

    Returns:
        `str`: The address of the commit.

    Raises:
        UserError: If the folder is not a judge, the report is not one of this judge, or the Hub refuses.
    """
    judge = JudgeFile.load(adapter)
    files = adapter_files(adapter, judge.base_model["id"])
    metrics = None
    if report is not None:
        metrics = read_metrics(report)
        paths = [path for pattern in REPORT_FILES for path in sorted(report.glob(pattern))]
        files |= {f"report/{path.relative_to(report).as_posix()}": path.read_bytes() for path in paths}
    benchmarks: dict[str, dict] = {}
    try:
        if metrics is not None and not is_report_of(metrics, adapter):
            raise UserError(f"report {report}: of another judge than {adapter}, with other weights. Validate this one")
        if benchmark is not None:
            benchmarks, benchmark_files, measured = read_benchmarks(benchmark)
            if not _is_of(adapter, [measured]):
                raise UserError(f"benchmark {benchmark}: of another judge than {adapter}, with other weights")
            files |= benchmark_files
        card = model_card(judge, json.loads(files[ADAPTER_CONFIG]), metrics, repo_id, benchmarks)
        files["README.md"] = card.encode()
        message = f"A judge, validated on {metrics['num_battles']} battles" if metrics else "A judge"
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, TemplateError) as error:
        raise UserError(
            f"adapter {adapter}, report {report}, benchmark {benchmark}: one of them was changed, and no card can be "
            f"made of it: {error!r}. Make the report again with lmsys-trl validate, and the benchmark with lmsys-trl "
            "benchmark"
        ) from error
    return push_adapter(files, repo_id, private, message)


def adapter_files(adapter: Path, base_model_id: str | None) -> dict[str, bytes]:
    """
    What is pushed of an adapter's folder, with the base model's name on the Hub in place of its path.

    Raises:
        UserError: If its configuration or its weights are missing.
    """
    files = {path.name: path.read_bytes() for path in map(adapter.joinpath, ADAPTER_FILES) if path.is_file()}
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if name not in files]
    if missing:
        raise UserError(f"adapter {adapter}: no {' and no '.join(missing)}")
    config = read_json(adapter / ADAPTER_CONFIG) | {"base_model_name_or_path": base_model_id}
    files[ADAPTER_CONFIG] = json.dumps(config, indent=2, sort_keys=True).encode()
    return files


def push_adapter(files: Mapping[str, bytes], repo_id: str, private: bool, message: str) -> str:
    """Push the files of an adapter, which replace those of an earlier one, as [`push_files`]."""
    # The client warns of data files; the report's predictions are meant to be pushed.
    warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
    return push_files(files, repo_id, "model", private, message, REPLACED)


def is_report_of(metrics: dict, adapter: Path) -> bool:
    """Whether the `metrics.json` of a report is of a judge with these weights, as far as it says."""
    return _is_of(adapter, [judge.get("adapter") for judge in metrics["judges"].values()])


def _is_of(adapter: Path, measured: list[str | None]) -> bool:
    """Whether figures are of these weights, by their fingerprints. Older files do not say whose they are."""
    return {*measured} <= {None, file_fingerprint(weights_file(adapter))}


def read_metrics(report: Path) -> dict:
    """The content of a report's `metrics.json`."""
    try:
        return read_json(report / "metrics.json")
    except (OSError, UserError) as error:
        raise UserError(
            f"report {report}: no metrics.json, or a damaged one. Make it with lmsys-trl validate"
        ) from error
