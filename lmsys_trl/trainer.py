"""One small subclass of `SFTTrainer` that scores the answer only, and the defaults that ready-made rows need."""

import signal
import time
from dataclasses import dataclass, field
from typing import Literal

import torch
from accelerate import PartialState
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from .batching import lay_end_to_end, pad_left
from .battle import WINNERS
from .metrics import score
from .objectives import answer_loss, letters_loss, teacher_cosine, teacher_kl
from .prepared import ORDER_FEATURES, TEACHERS
from .rows import IGNORED, letter_ids

MAX_LOSS = 50.0  # nats a battle: a uniform guess over 262,144 tokens costs 12.5


@dataclass
class TrainingConfig(SFTConfig):
    """`trl.SFTConfig` with the defaults of this project; every other key is the Trainer's own."""

    battles_per_step: int | None = field(
        default=None,
        metadata={"help": "Battles in an optimizer step over all processes; sets gradient_accumulation_steps."},
    )
    loss: Literal["answer", "letters"] = field(
        default="answer",
        metadata={"help": "Cross-entropy of letter and end token over the vocabulary, or of the letter among three."},
    )
    label_smoothing: float = field(default=0.0, metadata={"help": "The share of a target that is spread evenly."})
    hard_weight: float = field(default=1.0, metadata={"help": "The weight of the votes in the loss."})
    kl_weight: float = field(default=1.0, metadata={"help": "That of the divergence from the teachers, if any."})
    cosine_weight: float = field(default=0.0, metadata={"help": "That of one less the cosine to the teachers."})
    teacher_temperature: float = field(
        default=1.0, metadata={"help": "What the logits of judge and teachers are divided by in the divergence."}
    )
    train_sampling_strategy: str = field(
        default="batch_rebalance",
        metadata={"help": "Rows of a step sorted by length and shared out evenly over the processes, or `random`."},
    )
    use_cpu: bool = field(
        default_factory=lambda: not torch.accelerator.is_available(),
        metadata={"help": "Train on the CPU. The default where there is no accelerator."},
    )
    gradient_checkpointing: bool | None = field(
        default=None, metadata={"help": "Deprecated name of activation_checkpointing, which is off unless told."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave NaN and infinite losses out of the logged loss."}
    )
    save_total_limit: int | None = field(default=3, metadata={"help": "Checkpoints to keep, 2 at least."})
    hub_private_repo: bool = field(
        default=True, metadata={"help": "With push_to_hub: whether the repository is for its owner only."}
    )

    def __post_init__(self):
        # Rows come with input_ids and labels: trl must not cut them (its max_length drops rows without a label).
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        self.remove_unused_columns = False  # the collator takes what it needs
        self.dataloader_pin_memory = self.dataloader_pin_memory and not self.use_cpu
        super().__post_init__()
        if self.save_total_limit is not None and self.save_total_limit < 2:
            raise ValueError("save_total_limit: expected 2 at least, so that one is whole while another is written")
        if self.battles_per_step is not None:
            at_once = self.per_device_train_batch_size * self.world_size
            if self.battles_per_step % at_once:
                raise ValueError(
                    f"battles_per_step: {self.battles_per_step} is not a multiple of {at_once}, the "
                    f"per_device_train_batch_size of {self.world_size} processes"
                )
            self.gradient_accumulation_steps = self.battles_per_step // at_once


class JudgeTrainer(SFTTrainer):
    """
    `trl.SFTTrainer` for rows of [`encode`]: logits are computed at the labelled positions only. Where flash attention
    keeps rows apart, or a batch is one row, there is no padding.
    """

    def __init__(self, model, *args, processing_class, **kwargs):
        flash = "flash" in model.config._attn_implementation

        def collate(rows: list[dict]) -> dict:
            ids = [row["id"] for row in rows]
            if "swapped_input_ids" in rows[0]:  # both orders of a battle, in one step
                rows = [
                    {name: row[prefix + name] for name in (*ORDER_FEATURES, *TEACHERS) if name in row}
                    for row in rows
                    for prefix in ("", "swapped_")
                ]
            unpadded = flash or len(rows) == 1
            batch = lay_end_to_end(rows) if unpadded else pad_left(rows, processing_class.pad_token_id)
            targets = {
                name: torch.tensor([row[name] for row in rows]) for name in ("votes", "teachers") if name in rows[0]
            }
            return {**batch, **targets, "ids": ids}

        super().__init__(
            model,
            *args,
            processing_class=processing_class,
            data_collator=collate,
            compute_metrics=_letter_metrics,
            **kwargs,
        )
        letters = letter_ids(processing_class)
        self.letters = [letters[winner] for winner in WINNERS]
        self.add_callback(_StopOnSigterm())
        self._start_counting()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        The loss of the rows of a batch, in nats a row. In training it is their sum divided by the rows of the whole
        optimizer step, so that each battle weighs the same whatever the shape of the batches.

        Raises:
            ValueError: In training, if the loss is not a number or explodes. Names the battles.
        """
        labels, votes, teachers = inputs.pop("labels"), inputs.pop("votes"), inputs.pop("teachers", None)
        ids = inputs.pop("ids")
        answers = (labels != IGNORED).any(0).nonzero().squeeze(1)  # a letter and an end token for each row
        # A position's logits are for the next token.
        logits = model(**inputs, logits_to_keep=answers - 1, use_cache=False).logits
        logits, targets = logits.reshape(-1, 2, logits.shape[-1]), labels[:, answers].view(-1, 2)
        letters, args = logits[:, 0, self.letters].float(), self.args
        if args.loss == "letters":
            loss = letters_loss(letters, votes, args.label_smoothing)
        else:
            loss = answer_loss(logits, targets, votes, self.letters, args.label_smoothing)
        if teachers is not None:
            loss = args.hard_weight * loss
            loss = loss + args.kl_weight * teacher_kl(letters, teachers, args.teacher_temperature)
            loss = loss + args.cosine_weight * teacher_cosine(letters, teachers)
        if num_items_in_batch is None:  # evaluation
            loss = loss / len(targets)
        else:
            self._count(len(targets), inputs.get("attention_mask", torch.ones_like(labels)))
            if not loss.item() <= MAX_LOSS * len(targets):
                raise ValueError(
                    f"step {self.state.global_step + 1}: the loss is {loss.item() / len(targets)} on battles "
                    f"{', '.join(ids)}. The last checkpoint is untouched. Lower learning_rate, set max_grad_norm, or "
                    "look at these battles"
                )
            loss = loss * 2 / num_items_in_batch  # counts labels, two in each row
            if self.args.average_tokens_across_devices:  # DDP averages the gradients over the processes
                loss = loss * self.accelerator.num_processes
        return (loss, letters) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Keeps three numbers a row: the logits of the letters."""
        with torch.no_grad(), self.compute_loss_context_manager():
            inputs = self._prepare_inputs(inputs)
            winners = inputs["votes"].argmax(-1)
            loss, letters = self.compute_loss(model, inputs, return_outputs=True)
        return loss.detach(), letters, winners

    def log(self, logs, start_time=None):
        """Adds speed, padding and the time to the end to what is logged in training."""
        if "loss" in logs:
            counts = torch.tensor([self._rows, self._tokens, self._padded], device=self.args.device)
            rows, tokens, padded = self.accelerator.reduce(counts).tolist()
            seconds = time.perf_counter() - self._since
            steps = self.state.global_step - self._since_step
            logs["rows_per_second"] = round(rows / seconds, 2)
            logs["tokens_per_second"] = round(tokens / seconds)
            logs["padding"] = round(1 - tokens / padded, 4)
            logs["minutes_left"] = round((self.state.max_steps - self.state.global_step) * seconds / steps / 60, 1)
            self._start_counting()
        super().log(logs, start_time)

    def _start_counting(self):
        self._since, self._since_step = time.perf_counter(), self.state.global_step
        self._rows = self._tokens = self._padded = 0

    def _count(self, rows: int, attention_mask: torch.Tensor):
        self._rows += rows
        self._tokens += int(attention_mask.sum())
        self._padded += attention_mask.numel()


class _StopOnSigterm(TrainerCallback):
    """After SIGTERM the step ends, is saved, and training stops, in all processes after the same step."""

    def __init__(self):
        self.told = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.before = signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, *_):
        self.told = True

    def on_step_end(self, args, state, control, **kwargs):
        told = torch.tensor(self.told, dtype=torch.int, device=args.device)
        if PartialState().num_processes > 1:
            torch.distributed.all_reduce(told)
        if told:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGTERM, self.before)


def _letter_metrics(predictions) -> dict[str, float]:
    logits, winners = predictions
    probabilities = torch.tensor(logits).double().softmax(-1).numpy()
    return score(probabilities, winners)
