"""Checkpoints that can be trusted: whole, undamaged, and of the same run."""

import json
from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .provenance import file_fingerprint, write_json

MANIFEST = "manifest.json"
# What a run may change between one start and the next without becoming another run.
FREE_SETTINGS = (
    "output_dir", "logging_", "log_", "save_", "eval_", "report_to", "run_name", "project", "trackio", "disable_tqdm",
    "dataloader_num_workers", "dataloader_prefetch", "dataloader_pin", "dataloader_persistent", "push_to_hub", "hub_",
    "resume_from_checkpoint", "include_num_input", "include_tokens", "skip_memory_metrics", "temperature",
    "inference_max_length", "base_model_id", "dataset_name", "model_name_or_path",
    "teacher_files", "adapter_name_or_path",
)  # fmt: skip


def write_manifest(checkpoint: Path, settings: dict) -> None:
    """Say of a checkpoint that it is complete: the size and hash of each of its files, and the run's settings."""
    files = {
        path.relative_to(checkpoint).as_posix(): {"size": path.stat().st_size, "sha256": file_fingerprint(path)}
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.stem != Path(MANIFEST).stem  # nor a draft that a kill has left
    }
    write_json(checkpoint / MANIFEST, {"settings": settings, "files": files})


def last_complete_checkpoint(output_dir: str | Path, settings: dict) -> str | None:
    """
    The newest checkpoint to go on from, or None. One without a manifest was being written when the run was killed, and
    one that differs from its manifest is damaged: they are passed over with a message.

    Args:
        output_dir (`str` or `Path`): The folder of the run.
        settings (`dict`): What the run depends on, as given to [`CheckpointCallback`].

    Raises:
        ValueError: If the checkpoint is of a run with other settings or data. Names what changed.
    """
    checkpoints = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    for folder in sorted(checkpoints, key=lambda folder: int(folder.name.rpartition("-")[2]), reverse=True):
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            damaged = [name for name, facts in manifest["files"].items() if not _is_whole(folder / name, facts)]
        except (OSError, ValueError, KeyError):
            print(f"{folder} is incomplete and passed over.")
            continue
        if damaged:
            print(f"{folder} is damaged and passed over: {', '.join(damaged)} changed since it was saved.")
            continue
        changed = changed_settings(manifest["settings"], settings)
        if changed:
            raise ValueError(
                f"{folder} was saved by a run with other settings or data. Give the same ones to go on, or choose "
                "another output_dir:\n  " + "\n  ".join(changed)
            )
        return str(folder)
    return None


def changed_settings(old: dict, new: dict) -> list[str]:
    """One line for each setting that a run depends on and that differs."""
    new = json.loads(json.dumps(new, default=str))
    keys = [key for key in {**old, **new} if not key.startswith(FREE_SETTINGS)]
    return [f"{key}: {old.get(key)} then, {new.get(key)} now" for key in keys if old.get(key) != new.get(key)]


def _is_whole(path: Path, facts: dict) -> bool:
    return path.is_file() and path.stat().st_size == facts["size"] and file_fingerprint(path) == facts["sha256"]


class CheckpointCallback(TrainerCallback):
    """
    Writes the manifest when a checkpoint is complete.

    Args:
        settings (`dict`): What the run depends on. Must be the same in all processes.
    """

    def __init__(self, settings: dict):
        self.settings = json.loads(json.dumps(settings, default=str))

    def on_save(self, args, state, control, **kwargs):
        processes = PartialState()
        processes.wait_for_everyone()  # each process saves the state of its random numbers
        if processes.is_main_process:
            write_manifest(Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}", self.settings)
