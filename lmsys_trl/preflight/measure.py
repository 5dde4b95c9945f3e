"""A few steps of a recipe on this machine's device, by the trainer that sft uses: what a plan is compared with."""

import resource
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from trl import ModelConfig

from ..encoding.dataset import ORDER_FEATURES, example_features
from ..encoding.examples import IGNORED, letter_ids
from ..encoding.tokenizer import load_tokenizer
from ..errors import UserError
from ..models.base import resolve_base
from ..options import JudgeConfig
from ..terminal import logger
from ..training import run
from ..training.config import TrainingConfig
from ..training.trainer import JudgeTrainer
from .memory import GIB
from .plan import Plan

NUM_STEPS = 3  # after one that is not timed


class Measured(NamedTuple):
    """
    What a few steps took.

    Args:
        device (`str`): On what.
        seconds (`list[float]`): Of each step.
        tokens (`list[int]`): In each step.
        flops (`float`): Operations of all of them.
        peak (`int`): Bytes at the peak: of tensors on a GPU, on a CPU those that the process has grown by.
        planned_peak (`float`): By the plan, of the same.
        seconds_of_training (`float`): What training as planned would take at this speed.
    """

    device: str
    seconds: list[float]
    tokens: list[int]
    flops: float
    peak: int
    planned_peak: float
    seconds_of_training: float

    def summary(self) -> str:
        """These figures as text."""
        rate, done = sum(self.tokens) / sum(self.seconds), self.flops / sum(self.seconds)
        return (
            f"measured on {self.device}, {len(self.seconds)} steps: {np.mean(self.seconds):.2f} seconds a step, "
            f"{rate:,.0f} tokens/s, {done / 1e12:.3g} TFLOP/s\n"
            f"  peak {self.peak / GIB:.2f} GiB, planned {self.planned_peak / GIB:.2f} GiB\n"
            f"  training as planned would take {self.seconds_of_training / 3600:.2f} hours"
        )


class _Clock(TrainerCallback):
    """Seconds of each step, with all that it gives the device to do."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        _synchronize()
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        _synchronize()
        self.seconds.append(time.perf_counter() - self.began)
        logger.info("step %d of %d: %.2f seconds", len(self.seconds), 1 + NUM_STEPS, self.seconds[-1])


def measure_steps(
    judge: JudgeConfig, model_config: ModelConfig, training: TrainingConfig, lengths: list[int], plan: Plan
) -> Measured:
    """
    Train a few steps on examples of the given lengths, which hold random tokens: neither time nor memory depends on
    what they say. Nothing is kept.

    Args:
        judge (`JudgeConfig`), model_config (`ModelConfig`), training (`TrainingConfig`): The recipe. Of `training`
            what concerns steps and checkpoints is changed.
        lengths (`list[int]`): Tokens of the examples of an epoch.
        plan (`Plan`): What is compared.

    Raises:
        UserError: If several devices are planned, or the base model is not on this machine or the Hub.
    """
    if plan.setup.processes > 1:
        raise UserError("measure: times one device. Leave accelerate_config out")
    base = resolve_base(model_config.model_name_or_path, model_config.model_revision)
    tokenizer = load_tokenizer(str(base), judge.pad_token)
    before = _peak_of_process()
    settings = run.describe(judge, model_config, training, base, tokenizer)
    model = run.load_model(model_config, training, base, settings, None)
    run.align_special_tokens(model, tokenizer)
    per_step = training.per_device_train_batch_size * training.gradient_accumulation_steps
    chosen = _representative(lengths, per_step * (1 + NUM_STEPS))
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        _limit(training, folder)
        trainer = JudgeTrainer(
            model=model,
            args=training,
            train_dataset=_examples(chosen, tokenizer, judge.swap == "paired"),
            processing_class=tokenizer,
            peft_config=run.lora_config(judge, model_config),
            callbacks=[clock],
        )
        trainer.train()
    device = PartialState().device
    is_gpu = device.type == "cuda"
    copies = 2 if judge.swap == "paired" else 1
    # batch_rebalance may divide them otherwise, so that a step is given the mean of all.
    tokens = [round(sum(chosen) * copies / (1 + NUM_STEPS))] * NUM_STEPS
    timed = clock.seconds[1:]
    planned = plan.memory.total - plan.memory.context
    return Measured(
        device=torch.cuda.get_device_name(device) if is_gpu else device.type,
        seconds=timed,
        tokens=tokens,
        flops=plan.work.flops / plan.work.tokens * sum(tokens),
        peak=torch.cuda.max_memory_allocated(device) if is_gpu else _peak_of_process() - before,
        planned_peak=planned,
        seconds_of_training=plan.work.tokens / sum(tokens) * sum(timed),
    )


def _representative(lengths: list[int], number: int) -> list[int]:
    """Lengths distributed as all are, the longest among the first, whose step is not timed."""
    places = np.linspace(0, len(lengths) - 1, number).round().astype(int)
    chosen = np.random.default_rng(0).permutation(np.sort(lengths)[places])
    chosen[0] = max(lengths)
    return chosen.tolist()


def _examples(lengths: list[int], tokenizer, paired: bool) -> Dataset:
    generator, letter = np.random.default_rng(0), min(letter_ids(tokenizer).values())
    rows = []
    for i, length in enumerate(lengths):
        ids = generator.integers(0, len(tokenizer), length).tolist()
        ids[-2:] = answer = [letter, tokenizer.eos_token_id]
        row = {"input_ids": ids, "labels": [IGNORED] * (length - 2) + answer, "votes": [1.0, 0.0, 0.0]}
        rows.append(
            {"id": str(i), **row, "length": length, **({f"swapped_{k}": v for k, v in row.items()} if paired else {})}
        )
    return Dataset.from_list(rows, example_features(ORDER_FEATURES, paired))


def _limit(training: TrainingConfig, folder: str) -> None:
    """Let a recipe's training end after a few steps, and keep and publish nothing."""
    training.output_dir, training.max_steps = folder, 1 + NUM_STEPS
    training.save_strategy, training.eval_strategy = SaveStrategy.NO, IntervalStrategy.NO
    training.report_to, training.push_to_hub, training.disable_tqdm = [], False, True
    training.logging_strategy, training.load_best_model_at_end = IntervalStrategy.NO, False


def _synchronize() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _peak_of_process() -> int:
    """Bytes that this process has had at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)
