"""Judges to the Hub: which of their files, with which card."""

import json
import warnings
from pathlib import Path

from .adapters import ADAPTER_CONFIG, ADAPTER_FILES, ADAPTER_WEIGHTS, read_judge_file
from .hub import push_files
from .model_cards import model_card

REPORT_FILES = ("report.html", "metrics.json", "predictions.parquet", "plots/*.png")
# What a push removes where it does not bring it: nothing that somebody else has put there, but pickles.
REPLACED = (*ADAPTER_FILES, "README.md", "report/*", "*.bin", "*.pt", "*.pth", "*.pkl")


def push_judge(adapter: Path, report: Path | None, repo_id: str, private: bool) -> str:
    """
    Push a finished judge in one commit: adapter, `judge.json`, tokenizer, report, and a card made of them.

    Args:
        adapter (`Path`): Its folder.
        report (`Path`, *optional*): The output folder of recipes/validate.py. Without one the card says that there are
            no results.
        repo_id (`str`): `owner/name`.
        private (`bool`): Whether the repository is for its owner only.

    Returns:
        `str`: The address of the commit.

    Raises:
        ValueError: If the folder is no judge or no report, or the Hub refuses.
    """
    judge = read_judge_file(adapter)
    files = adapter_files(adapter, judge["base_model"]["id"])
    metrics = None
    if report is not None:
        try:
            metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"report {report}: no metrics.json, or a damaged one. Make it with recipes/validate.py"
            ) from error
        paths = [path for pattern in REPORT_FILES for path in sorted(report.glob(pattern))]
        files |= {f"report/{path.relative_to(report).as_posix()}": path.read_bytes() for path in paths}
    files["README.md"] = model_card(judge, json.loads(files[ADAPTER_CONFIG]), metrics, repo_id).encode()
    message = f"A judge, validated on {metrics['num_battles']} battles" if metrics else "A judge"
    return push_adapter(files, repo_id, private, message)


def adapter_files(adapter: Path, base_model_id: str | None) -> dict[str, bytes]:
    """What is pushed of an adapter's folder, with the base model's name on the Hub in place of its path."""
    files = {path.name: path.read_bytes() for path in map(adapter.joinpath, ADAPTER_FILES) if path.is_file()}
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if name not in files]
    if missing:
        raise ValueError(f"adapter {adapter}: no {' and no '.join(missing)}")
    config = json.loads(files[ADAPTER_CONFIG]) | {"base_model_name_or_path": base_model_id}
    files[ADAPTER_CONFIG] = json.dumps(config, indent=2, sort_keys=True).encode()
    return files


def push_adapter(files: dict[str, bytes], repo_id: str, private: bool, message: str) -> str:
    """Push files of an adapter in the place of those that the repository holds, as [`push_files`]."""
    # The report's predictions are meant to be here.
    warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
    return push_files(files, repo_id, "model", private, message, REPLACED)
