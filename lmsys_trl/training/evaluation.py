"""The validation battles at the end of a training run."""

from pathlib import Path

import numpy as np
from transformers import TrainerCallback

from ..metrics.functions import log_losses
from ..terminal import logger
from .trainer import JudgeTrainer


class _EvaluateAtEnd(TrainerCallback):
    def __init__(self, trainer: JudgeTrainer):
        self.trainer = trainer

    def on_train_end(self, args, state, control, **kwargs):
        if args.eval_strategy == "no" and state.global_step >= state.max_steps:
            args.per_device_eval_batch_size = args.per_device_train_batch_size  # what fits in training fits here
            self.trainer.evaluate()


def evaluate_at_end(trainer: JudgeTrainer) -> None:
    """Have the validation battles predicted once at the end of training, unless the Trainer does so on its way."""
    if trainer.eval_dataset is not None:
        # Before the trackers, which close their runs then, and after the last checkpoint.
        trainer.callback_handler.callbacks.insert(0, _EvaluateAtEnd(trainer))


def log_validation_loss(trainer: JudgeTrainer) -> None:
    """Log the scores of the last evaluation, if there was one."""
    evaluated = [entry for entry in trainer.state.log_history if "eval_log_loss" in entry]
    if evaluated:
        logger.info("validation: log loss %.4f, accuracy %.1f%% at step %d, on %d battles",
                    evaluated[-1]["eval_log_loss"], 100 * evaluated[-1]["eval_accuracy"], evaluated[-1]["step"],
                    len(trainer.eval_dataset))  # fmt: skip
        votes = [np.array(split["votes"][:]) for split in (trainer.train_dataset, trainer.eval_dataset)]
        prior = votes[0].mean(0) / votes[0].sum(1).mean()  # battles that only teachers predict have no vote
        constant = log_losses(np.tile(prior, (len(votes[1]), 1)), votes[1]).mean()
        if evaluated[-1]["eval_log_loss"] >= constant:
            logger.warning(
                "That is no better than the class prior, a constant guess, with %.4f: the judge has learned nothing "
                "from the texts. Lower learning_rate, or train for more steps or on more votes", constant,
            )  # fmt: skip
    if trainer.state.best_model_checkpoint:
        logger.info("The judge is that of %s", Path(trainer.state.best_model_checkpoint).name)
