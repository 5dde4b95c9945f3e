"""Checkpoints that can be trusted: complete, undamaged, and of the same run."""

import json
from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..artifacts import file_fingerprint, write_json
from ..errors import raise_problems
from ..terminal import logger

MANIFEST = "manifest.json"
# Settings, by the beginning of their names, that may change between one start of a run and the next.
IGNORED_SETTINGS = (
    "output_dir", "logging_", "log_", "save_", "eval_", "report_to", "run_name", "project", "trackio", "disable_tqdm",
    "dataloader_num_workers", "dataloader_prefetch", "dataloader_pin", "dataloader_persistent", "push_to_hub", "hub_",
    "resume_from_checkpoint", "include_num_input", "include_tokens", "skip_memory_metrics", "temperature",
    "inference_max_length", "base_model_id", "dataset_name", "model_name_or_path",
    "teacher_files", "adapter_name_or_path",
)  # fmt: skip


def write_manifest(checkpoint: Path, settings: dict) -> None:
    """Mark a checkpoint as complete: the size and hash of each of its files, and the run's settings."""
    files = {
        path.relative_to(checkpoint).as_posix(): {"size": path.stat().st_size, "sha256": file_fingerprint(path)}
        for path in sorted(checkpoint.rglob("*"))
        # Neither the manifest nor a draft of it that a kill has left.
        if path.is_file() and not path.name.lstrip(".").startswith("manifest.")
    }
    write_json(checkpoint / MANIFEST, {"settings": settings, "files": files})


def last_complete_checkpoint(output_dir: str | Path, settings: dict) -> str | None:
    """
    The newest checkpoint to resume from, or None. One without a manifest was being written when the run was killed,
    and one that differs from its manifest is damaged: they are skipped with a warning.

    Args:
        output_dir (`str` or `Path`): The folder of the run.
        settings (`dict`): The run's settings, as given to [`CheckpointCallback`].

    Raises:
        UserError: If the checkpoint is of a run with other settings or data. Names what changed.
    """
    checkpoints = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    for folder in sorted(checkpoints, key=lambda folder: int(folder.name.rpartition("-")[2]), reverse=True):
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            damaged = [name for name, facts in manifest["files"].items() if not _is_intact(folder / name, facts)]
        except (OSError, ValueError, KeyError):
            logger.warning("%s is incomplete and skipped", folder)
            continue
        if damaged:
            logger.warning("%s is damaged and skipped: %s changed since it was saved", folder, ", ".join(damaged))
            continue
        raise_problems(
            changed_settings(manifest["settings"], settings),
            f"{folder} was saved by a run with other settings or data. Give the same ones to resume, or choose "
            "another output_dir:",
        )
        return str(folder)
    return None


def changed_settings(old: dict, new: dict) -> list[str]:
    """One line for each setting that the result of a run depends on and that differs."""
    new = json.loads(json.dumps(new, default=str))
    keys = [key for key in {**old, **new} if not key.startswith(IGNORED_SETTINGS)]
    return [f"{key}: {old.get(key)} then, {new.get(key)} now" for key in keys if old.get(key) != new.get(key)]


def _is_intact(path: Path, facts: dict) -> bool:
    return path.is_file() and path.stat().st_size == facts["size"] and file_fingerprint(path) == facts["sha256"]


class CheckpointCallback(TrainerCallback):
    """
    Writes the manifest when a checkpoint is complete.

    Args:
        settings (`dict`): All that the result of the run depends on. Must be the same in all processes.
    """

    def __init__(self, settings: dict):
        self.settings = json.loads(json.dumps(settings, default=str))

    def on_save(self, args, state, control, **kwargs):
        processes = PartialState()
        processes.wait_for_everyone()  # each process saves the state of its random number generators
        if processes.is_main_process:
            write_manifest(Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}", self.settings)
