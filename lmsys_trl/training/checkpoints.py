"""Checkpoints that can be trusted: complete, undamaged, and of the same run."""

import json
from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..artifacts import file_fingerprint, read_json, write_json
from ..errors import UserError, raise_problems
from ..terminal import logger

MANIFEST = "manifest.json"
# Settings, by the beginning of their names, that leave no trace in the judge, and those that may change between one
# start of a run and the next: files count by their content, and the rest is only written into judge.json.
WITHOUT_TRACE = (
    "output_dir", "logging_", "log_", "save_", "eval_", "report_to", "run_name", "project", "trackio", "disable_tqdm",
    "dataloader_num_workers", "dataloader_prefetch", "dataloader_pin", "dataloader_persistent", "push_to_hub", "hub_",
    "resume_from_checkpoint", "include_num_input", "include_tokens", "skip_memory_metrics",
)  # fmt: skip
IGNORED_SETTINGS = (
    *WITHOUT_TRACE, "temperature", "inference_max_length", "base_model_id", "dataset_name", "model_name_or_path",
    "teacher_files", "adapter_name_or_path", "max_tokens_per_batch",
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


def checkpoint_to_resume(output_dir: str | Path, settings: dict, requested: str | None = None) -> str | None:
    """
    The checkpoint to resume from: the one that is asked for, else the newest that is complete, or None. One without a
    manifest was being written when the run was killed, and one that differs from its manifest is damaged: they are
    skipped with a warning.

    Args:
        output_dir (`str` or `Path`): The folder of the run.
        settings (`dict`): The run's settings, as given to [`CheckpointCallback`].
        requested (`str`, *optional*): `resume_from_checkpoint`: a folder. "true" asks for the newest.

    Raises:
        UserError: If the checkpoint is of a run with other settings or data (names what changed), or if the one that
            is asked for is missing, incomplete or damaged.
    """
    if requested and requested.lower() != "true":
        folder = Path(requested)
        if problem := _what_is_wrong(folder):
            raise UserError(f"resume_from_checkpoint: {folder} {problem}")
        return _checked(folder, settings)
    folders = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    steps = {int(step): folder for folder in folders if (step := folder.name.rpartition("-")[2]).isdecimal()}
    for _, folder in sorted(steps.items(), reverse=True):
        if problem := _what_is_wrong(folder):
            logger.warning("%s is skipped: it %s", folder, problem)
        else:
            return _checked(folder, settings)
    if requested:
        raise UserError(f"resume_from_checkpoint: {output_dir} holds no complete checkpoint. Remove the key to start")
    return None


def _what_is_wrong(folder: Path) -> str | None:
    """Why a checkpoint cannot be resumed from, or None."""
    if not folder.is_dir():
        return "is not a folder"
    try:
        manifest = read_json(folder / MANIFEST)
        files, _ = manifest["files"], manifest["settings"].keys()
        damaged = [name for name, facts in files.items() if not _is_intact(folder / name, facts)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "is incomplete"
    return f"is damaged: {', '.join(damaged)} changed since it was saved" if damaged else None


def _checked(folder: Path, settings: dict) -> str:
    """The name of a complete checkpoint that is of the same run."""
    manifest = read_json(folder / MANIFEST)
    raise_problems(
        changed_settings(manifest["settings"], settings),
        f"{folder} was saved by a run with other settings or data. Give the same ones to resume, or choose "
        "another output_dir:",
    )
    return str(folder)


def changed_settings(old: dict, new: dict, ignored: tuple[str, ...] = IGNORED_SETTINGS) -> list[str]:
    """One line for each setting that the result of a run depends on and that differs."""
    new = json.loads(json.dumps(new, default=str))
    keys = [key for key in {**old, **new} if not key.startswith(ignored)]
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
