"""The keys of training: `trl.SFTConfig` with the defaults of this project."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from transformers.utils import is_torch_bf16_gpu_available
from trl import SFTConfig

from ..errors import raise_problems

METRICS = ("loss", "log_loss", "accuracy", "brier_score", "ece", "debiased_ce")  # of an evaluation, with eval_ before


@dataclass
class TrainingConfig(SFTConfig):
    """`trl.SFTConfig` with the defaults of this project; every other key is the Trainer's own."""

    battles_per_step: int | None = field(
        default=None,
        metadata={"help": "Battles in an optimizer step over all processes; sets gradient_accumulation_steps."},
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Tokens in a forward and backward pass, with padding: the examples of per_device_train_batch_size "
            "are divided, the longest first (default: 512 on a CPU, else all at once)."
        },
    )
    loss: Literal["answer", "letters"] = field(
        default="answer",
        metadata={
            "help": "Cross-entropy of letter and end token over the vocabulary (answer), or of the letter among the "
            "three (letters)."
        },
    )
    label_smoothing: float = field(default=0.0, metadata={"help": "The fraction of a target that is spread evenly."})
    consistency_weight: float = field(
        default=0.0,
        metadata={"help": "With swap: paired, the weight of the KL divergence between both orders of the answers."},
    )
    loraplus_lr_ratio: float = field(
        default=1.0,
        metadata={"help": "LoRA+: the learning rate of the adapter's B matrices over learning_rate, which A keeps."},
    )
    hard_weight: float = field(default=1.0, metadata={"help": "With teachers, the weight of the votes in the loss."})
    kl_weight: float = field(default=1.0, metadata={"help": "The weight of the KL divergence to the teachers."})
    cosine_weight: float = field(
        default=0.0, metadata={"help": "The weight of the cosine distance to the teachers' probabilities."}
    )
    teacher_temperature: float = field(
        default=1.0, metadata={"help": "What the logits of judge and teachers are divided by in the KL divergence."}
    )
    train_sampling_strategy: str = field(
        default="batch_rebalance",
        metadata={
            "help": "batch_rebalance: sort the examples of a step by length and distribute them evenly over the "
            "processes; or random."
        },
    )
    use_cpu: bool = field(
        default_factory=lambda: not torch.accelerator.is_available(),
        metadata={"help": "Train on the CPU (default: if there is no accelerator)."},
    )
    gradient_checkpointing: bool | None = field(
        default=None, metadata={"help": "Deprecated name of activation_checkpointing (default: false)."}
    )
    bf16: bool | None = field(
        default=None,
        metadata={"help": "Compute in bfloat16 (default: on a GPU that has it, unless fp16 is set)."},
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Exclude NaN and infinite losses from the logged loss."}
    )
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "Of metric_for_best_model (default: true for accuracy, else false)."}
    )
    save_total_limit: int | None = field(default=3, metadata={"help": "Checkpoints to keep, 2 at least."})
    hub_private_repo: bool = field(
        default=True, metadata={"help": "With push_to_hub: whether the repository is private."}
    )

    def __post_init__(self):
        # Examples come with input_ids and labels: trl must not truncate them (its max_length drops answers).
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        self.remove_unused_columns = False  # the collator takes what it needs
        if self.use_cpu:
            self.dataloader_pin_memory = False
        if self.bf16 is None:  # trl's default is true on any device; a CPU without its matrix units is slower with it
            is_native = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
            self.bf16 = not self.fp16 and not self.use_cpu and is_native and is_torch_bf16_gpu_available()
        if self.metric_for_best_model and self.greater_is_better is None:  # the Trainer expects so of all but losses
            self.greater_is_better = self.metric_for_best_model.removeprefix("eval_") == "accuracy"
        super().__post_init__()
        problems = []
        if self.output_dir in (None, ""):
            problems.append("output_dir: missing. The folder for the judge and its checkpoints")
        elif Path(self.output_dir).exists() and not Path(self.output_dir).is_dir():
            problems.append(f"output_dir: {self.output_dir} is a file. Name a folder")
        resume = self.resume_from_checkpoint
        if resume and resume.lower() != "true" and not Path(resume).is_dir():
            problems.append(f"resume_from_checkpoint: there is no folder {resume}. Name a checkpoint or remove it")
        if self.max_length is None:
            problems.append("max_length: missing. The maximum tokens in an example")
        if self.push_to_hub and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub_model_id or ""):
            problems.append(f"hub_model_id: expected owner/name, where push_to_hub pushes, found {self.hub_model_id}")
        if self.metric_for_best_model and self.metric_for_best_model.removeprefix("eval_") not in METRICS:
            problems.append(
                f"metric_for_best_model: expected one of {', '.join(METRICS)}, found {self.metric_for_best_model}"
            )
        if self.loraplus_lr_ratio != 1 and not self.optim.startswith(("adamw", "paged_adamw")):
            problems.append(f"loraplus_lr_ratio: not with optim: {self.optim.value}. Use adamw_torch_fused, or 1")
        batch_size = self.per_device_train_batch_size * self.world_size
        if self.battles_per_step is not None and self.battles_per_step % batch_size:
            problems.append(
                f"battles_per_step: {self.battles_per_step} is not a multiple of {batch_size}, the "
                f"per_device_train_batch_size of {self.world_size} processes"
            )
        raise_problems(problems)
        if self.battles_per_step is not None:
            self.gradient_accumulation_steps = self.battles_per_step // batch_size
