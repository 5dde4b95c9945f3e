"""Pushes while a judge is trained."""

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy

from .model_cards import card_in_training
from .pushes import adapter_files, push_adapter, push_judge
from .trainer import TrainingConfig


class PushCallback(TrainerCallback):
    """
    Pushes the adapter of each checkpoint while training goes on, for `push_to_hub: true`, in place of the Trainer's
    own pushes, which hold a pickle, may make several commits, and fail in silence. A push that fails is told at once,
    training goes on, and [`finish`] makes good for it.

    Args:
        training (`TrainingConfig`): `hub_model_id`, `hub_private_repo` (true unless told), `hub_strategy`
            ("every_save", or "end" for the finished judge only) and `hub_always_push`.
        base_model_id (`str`, *optional*): The base model's name on the Hub.

    Raises:
        ValueError: If these do not say where to push, or what.
    """

    def __init__(self, training: TrainingConfig, base_model_id: str | None):
        if training.hub_model_id is None:
            raise ValueError("push_to_hub: needs hub_model_id, owner/name")
        if training.hub_strategy not in (HubStrategy.EVERY_SAVE, HubStrategy.END):
            raise ValueError(f"hub_strategy: expected every_save or end, found {training.hub_strategy.value}")
        if training.hub_revision is not None:
            raise ValueError("hub_revision: pushes go to the main branch")
        self.training, self.base_model_id = training, base_model_id
        self.worker = ThreadPoolExecutor(max_workers=1)
        self.last: Future | None = None

    def on_save(self, args, state, control, **kwargs):
        busy = self.last is not None and not self.last.done() and not self.training.hub_always_push
        if not state.is_world_process_zero or self.training.hub_strategy == HubStrategy.END or busy:
            return
        # Read now: the checkpoint may be gone before the push has come to its end.
        files = adapter_files(
            Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}", self.base_model_id
        )
        files["README.md"] = card_in_training(self.base_model_id, state.global_step, state.max_steps).encode()
        self.last = self.worker.submit(self._try, files, f"Step {state.global_step} of {state.max_steps}")

    def finish(self, adapter: Path) -> None:
        """Push the finished judge once the pushes before it are through. Tells a failure, and does not raise it."""
        self.worker.shutdown()
        report = adapter / "report"
        try:
            address = push_judge(
                adapter,
                report if report.is_dir() else None,
                self.training.hub_model_id,
                self.training.hub_private_repo,
            )
            print("Pushed:", address)
        except Exception as error:  # as below
            print(
                f"{error}.\nThe judge in {adapter} is complete. Push it with\n"
                f"  python recipes/push.py --adapter {adapter} --hub_model_id {self.training.hub_model_id}",
                file=sys.stderr,
            )

    def _try(self, files: dict[str, bytes], message: str) -> None:
        try:
            push_adapter(files, self.training.hub_model_id, self.training.hub_private_repo, message)
        except Exception as error:  # no push is worth a training, and nobody asks the thread for its result
            tqdm.write(
                f"{message}: {error}. Training goes on; the finished judge is pushed at its end", file=sys.stderr
            )
