"""The validation battles at the end of a training run."""

from pathlib import Path

import numpy as np
from transformers import TrainerCallback

from ..metrics.functions import class_prior, log_losses
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
    """Log the scores of the judge that is kept, and whether they are those of a constant guess."""
    evaluated = {entry["step"]: entry for entry in trainer.state.log_history if "eval_log_loss" in entry}
    if not evaluated:
        return
    best = trainer.state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    step = int(best.rpartition("-")[2]) if best else max(evaluated)
    loss, accuracy = evaluated[step]["eval_log_loss"], evaluated[step]["eval_accuracy"]
    logger.info("validation: log loss %.4f, accuracy %.1f%% at step %d, on %d battles",
                loss, 100 * accuracy, step, len(trainer.eval_dataset))  # fmt: skip
    if best:
        logger.info("The judge is that of %s", Path(best).name)
    learned, validated = (np.array(split["votes"][:]) for split in (trainer.train_dataset, trainer.eval_dataset))
    if not learned.any():  # from teachers alone
        return
    constant = log_losses(class_prior(learned, len(validated)), validated).mean()
    if loss >= constant:
        logger.warning(
            "That is no better than the class prior, a constant guess, with %.4f: it has learned too little from the "
            "texts, or is too sure. Lower learning_rate, or train on more votes; calibrate helps the second", constant,
        )  # fmt: skip
