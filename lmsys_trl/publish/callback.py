"""Pushes to the Hub while a judge is trained."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy

from ..terminal import logger
from ..training.config import TrainingConfig
from .model_card import card_in_training
from .push import adapter_files, is_report_of, push_adapter, push_judge, read_metrics


class PushCallback(TrainerCallback):
    """
    Pushes the adapter of each checkpoint in the background, for `push_to_hub: true`.

    It replaces the Trainer's own pushes, which hold a pickle, may make several commits, and fail silently. A push that
    fails is reported, training continues, and [`finish`] pushes the finished judge all the same.

    Args:
        training (`TrainingConfig`): `hub_model_id`, `hub_private_repo` (default: true), `hub_strategy` ("every_save",
            or "end" for the finished judge only) and `hub_always_push`.
        base_model_id (`str`, *optional*): The base model's name on the Hub.
    """

    def __init__(self, training: TrainingConfig, base_model_id: str | None):
        self.repo_id, self.private = training.hub_model_id, bool(training.hub_private_repo)
        self.at_end_only = training.hub_strategy == HubStrategy.END
        self.always_push = training.hub_always_push
        self.base_model_id = base_model_id
        self.worker = ThreadPoolExecutor(max_workers=1)
        self.last: Future | None = None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        is_busy = self.last is not None and not self.last.done() and not self.always_push
        if not state.is_world_process_zero or self.at_end_only or is_busy:
            return
        # Read now: the checkpoint may be deleted before the push is finished.
        checkpoint = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        files = adapter_files(checkpoint, self.base_model_id)
        files["README.md"] = card_in_training(self.base_model_id, state.global_step, state.max_steps).encode()
        self.last = self.worker.submit(self._push, files, f"Step {state.global_step} of {state.max_steps}")

    def finish(self, adapter: Path) -> None:
        """Push the finished judge after the pushes before it. A failure is reported, and not raised."""
        self.worker.shutdown()
        report = adapter / "report"
        try:
            # Not one of an earlier judge in this folder.
            is_current = report.is_dir() and is_report_of(read_metrics(report), adapter)
            address = push_judge(adapter, report if is_current else None, self.repo_id, self.private)
            logger.info("Pushed: %s", address)
        except Exception as error:  # as in _push
            logger.warning(
                "%s.\nThe judge in %s is complete. Push it with\n  lmsys-trl push --adapter %s --hub_model_id %s",
                error, adapter, adapter, self.repo_id,
            )  # fmt: skip

    def _push(self, files: dict[str, bytes], message: str) -> None:
        """Push a checkpoint, in the background."""
        try:
            push_adapter(files, self.repo_id, self.private, message)
        except Exception as error:  # no push is worth a training run, and nobody asks the thread for its result
            logger.warning("%s: %s. Training continues; the finished judge is pushed at its end", message, error)
