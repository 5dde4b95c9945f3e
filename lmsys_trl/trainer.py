"""One small subclass of `SFTTrainer` that scores the answer only, and the defaults that ready-made rows need."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import SFTConfig, SFTTrainer

from .batching import pad_left
from .rows import IGNORED


@dataclass
class TrainingConfig(SFTConfig):
    """`trl.SFTConfig` with the defaults of this project; every other key is the Trainer's own."""

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
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})

    def __post_init__(self):
        # Rows come with input_ids and labels: trl must not cut them (its max_length drops rows without a label).
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        self.dataloader_pin_memory = self.dataloader_pin_memory and not self.use_cpu
        super().__post_init__()


class JudgeTrainer(SFTTrainer):
    """`trl.SFTTrainer` for rows of [`encode_battle`]: logits are computed at the labelled positions only."""

    def __init__(self, *args, processing_class, **kwargs):
        def collate(rows):
            return pad_left(rows, processing_class.pad_token_id)

        super().__init__(*args, processing_class=processing_class, data_collator=collate, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        Cross-entropy of the letter and the end token over the whole vocabulary, summed over the labels of this batch
        and divided by `num_items_in_batch`, the labels of the whole optimizer step: each battle weighs the same
        whatever the shape of the batches.
        """
        labels = inputs.pop("labels")
        # The answer stands in the last columns of every row. A position's logits are for the next token, so those
        # before the first label are needed too, and those of the last position are not.
        num_scored = int((labels != IGNORED).sum(-1).max())
        outputs = model(**inputs, logits_to_keep=num_scored + 1, use_cache=False)
        logits = outputs.logits[:, :-1].float()
        targets = labels[:, -num_scored:]
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
        if num_items_in_batch is None:  # evaluation
            loss = loss / (targets != IGNORED).sum()
        else:
            loss = loss / num_items_in_batch
            if self.args.average_tokens_across_devices:  # DDP averages the gradients over the processes
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def last_complete_checkpoint(output_dir: str | Path) -> str | None:
    """
    The newest checkpoint to go on from, or None. Of one that was being written when the run was killed the
    `trainer_state.json`, which the Trainer writes last, is missing or cut short: it is passed over.
    """
    checkpoints = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    for folder in sorted(checkpoints, key=lambda folder: int(folder.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((folder / "trainer_state.json").read_text())
            return str(folder)
        except (OSError, ValueError):
            print(f"{folder} is incomplete and passed over.")
    return None
