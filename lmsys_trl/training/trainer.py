"""One small subclass of `SFTTrainer` that only scores the answer."""

import os
import signal
import time

import torch
from accelerate import PartialState
from peft.optimizers import create_loraplus_optimizer
from transformers import TrainerCallback
from trl import SFTTrainer

from ..battle import WINNERS
from ..encoding.batching import CPU_TOKENS
from ..encoding.examples import letter_ids
from ..errors import UserError
from ..metrics import score
from ..models.head import letter_columns
from ..options import UNPADDED_ATTENTION
from .collator import Collator
from .config import TrainingConfig
from .losses import answer_loss, letters_loss, order_divergence, teacher_cosine, teacher_kl

MAX_LOSS = 50.0  # nats per battle: a uniform guess over 262,144 tokens costs 12.5


class JudgeTrainer(SFTTrainer):
    """
    `trl.SFTTrainer` for examples of [`encode_dataset`]. Logits are computed at the labelled positions only. There is
    no padding if flash or flex attention keeps examples apart, or if a batch is one example.
    """

    optimizer: torch.optim.Optimizer | None

    def __init__(self, model, args: TrainingConfig, *, processing_class, **kwargs):
        loaded = {name: parameter.data for name, parameter in model.named_parameters() if parameter.requires_grad}
        # Under a mask its backward pass is NaN at some lengths (https://github.com/pytorch/pytorch/issues/196678).
        torch.backends.cuda.enable_cudnn_sdp(False)
        super().__init__(
            model,
            args,
            processing_class=processing_class,
            data_collator=Collator(
                processing_class.pad_token_id,
                packs=model.config._attn_implementation.startswith(UNPADDED_ATTENTION),
                max_tokens=args.max_tokens_per_batch or (CPU_TOKENS if args.device.type == "cpu" else None),
                keeps_pairs=bool(args.consistency_weight),
            ),
            compute_metrics=_letter_metrics,
            **kwargs,
        )
        # trl rounds an adapter on quantised weights to bfloat16, and so AdamW's moments: small updates and the decay
        # of the second moment are lost, and a resumed run, which continues in float32, differs.
        if getattr(model, "is_quantized", False):
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.data = loaded.get(name, parameter.data).to(parameter.device, torch.float32)
        letters = letter_ids(processing_class)
        self.letters = letter_columns(self.model, [letters[winner] for winner in WINNERS])
        self._guard = _LossGuard()
        self.add_callback(_StopOnSignal())
        self.add_callback(self._guard)  # after the other, which may ask for a checkpoint
        self._start_counting()

    def create_optimizer(self, model=None):
        """With `loraplus_lr_ratio` that of LoRA+ (https://huggingface.co/papers/2402.12354), from peft."""
        if self.args.loraplus_lr_ratio == 1 or self.optimizer is not None:
            return super().create_optimizer(model)
        if self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.fsdp_version == 1:
            raise UserError("loraplus_lr_ratio: FSDP 1 joins A and B, so that both get one rate. Use FSDP 2")
        optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        optimizer = create_loraplus_optimizer(
            model or self.model,
            optimizer_class,
            loraplus_lr_ratio=self.args.loraplus_lr_ratio,
            loraplus_lr_embedding=self.args.learning_rate,
            loraplus_weight_decay=self.args.weight_decay,
            **settings,
        )
        optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]  # DeepSpeed joins each
        self.optimizer = optimizer
        return optimizer

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """None after the last step: of a run that is resumed there the Trainer would take one more."""
        if self.state.global_step >= self.state.max_steps:
            return [], None
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The batches that the collator has made of a step's examples, one after the other."""
        *others, last = inputs.get("batches", [inputs])
        with self.accelerator.no_sync(model):  # processes may have different numbers of batches
            losses = [super(JudgeTrainer, self).training_step(model, batch, num_items_in_batch) for batch in others]
        return sum(losses, super().training_step(model, last, num_items_in_batch))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        The loss of a batch in nats per example. In training it is the sum over examples divided by the number of
        examples in the complete optimizer step, so that each battle has the same weight whatever the shape of the
        batches.
        """
        labels, votes, teachers = inputs.pop("labels"), inputs.pop("votes"), inputs.pop("teachers", None)
        ids, answers, num_tokens = inputs.pop("ids"), inputs.pop("answers"), inputs.pop("num_tokens")
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
            if args.consistency_weight:
                loss = loss + args.consistency_weight * order_divergence(letters)
            self._num_examples += len(targets)
            self._num_tokens += num_tokens
            self._num_padded_tokens += labels.numel()
            self._guard.losses.append((self.state.global_step + 1, loss.detach() / len(targets), ids))
            loss = loss * 2 / num_items_in_batch  # counts labels, two in each example
            if self.args.average_tokens_across_devices:  # DDP averages the gradients over the processes
                loss = loss * self.accelerator.num_processes
        return (loss, letters) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Keeps three numbers per example: the logits of the letters."""
        found = []
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in self._prepare_inputs(inputs.get("batches", [inputs])):
                votes = batch["votes"]
                loss, letters = self.compute_loss(model, batch, return_outputs=True)
                found.append((loss.detach() * len(votes), letters, votes))
        losses, letters, votes = zip(*found, strict=True)
        return sum(losses) / sum(map(len, votes)), torch.cat(letters), torch.cat(votes)

    def log(self, logs, start_time=None):
        """Adds speed, padding and the remaining time to what is logged in training."""
        if "loss" in logs:
            counts = torch.tensor(
                [self._num_examples, self._num_tokens, self._num_padded_tokens], device=self.args.device
            )
            examples, tokens, padded_tokens = self.accelerator.reduce(counts).tolist()
            seconds = time.perf_counter() - self._since
            steps = self.state.global_step - self._since_step
            logs["examples_per_second"] = round(examples / seconds, 2)
            logs["tokens_per_second"] = round(tokens / seconds)
            logs["padding"] = round(1 - tokens / padded_tokens, 4)
            logs["minutes_left"] = round((self.state.max_steps - self.state.global_step) * seconds / steps / 60, 1)
            self._start_counting()
        super().log(logs, start_time)

    def _start_counting(self):
        self._since, self._since_step = time.perf_counter(), self.state.global_step
        self._num_examples = self._num_tokens = self._num_padded_tokens = 0


class _LossGuard(TrainerCallback):
    """Ends the training if the loss of a batch was not a number or exploded, before anything is logged or saved."""

    def __init__(self):
        self.losses: list[tuple[int, torch.Tensor, list[str]]] = []  # of batches: step, nats per example, battles

    def on_step_end(self, args, state, control, **kwargs):
        if not (control.should_log or control.should_save or control.should_evaluate or control.should_training_stop):
            return
        values = torch.stack([loss for _, loss, _ in self.losses]).tolist()
        for (step, _, ids), value in zip(self.losses, values, strict=True):
            if not value <= MAX_LOSS:
                raise UserError(
                    f"step {step}: the loss is {value} on battles {', '.join(ids)}. The last checkpoint is untouched. "
                    "Lower learning_rate, set max_grad_norm, or look at these battles"
                )
        self.losses.clear()


class _StopOnSignal(TrainerCallback):
    """
    After SIGTERM or Ctrl-C the step ends and is saved, and training stops, in all processes after the same step. A
    second Ctrl-C ends it at once.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.is_requested = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.previous = {number: signal.signal(number, self._request) for number in self.SIGNALS}

    def _request(self, number, frame):
        if self.is_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_requested = True
        os.write(2, b"\nThis step ends and is saved, then the training stops.\n")  # a handler must not log

    def on_step_end(self, args, state, control, **kwargs):
        is_requested = torch.tensor(self.is_requested, dtype=torch.int, device=args.device)
        if PartialState().num_processes > 1:
            torch.distributed.all_reduce(is_requested)
        if is_requested:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def _letter_metrics(predictions) -> dict[str, float]:
    logits, votes = predictions
    probabilities = torch.tensor(logits).double().softmax(-1).numpy()
    return score(probabilities, votes)
