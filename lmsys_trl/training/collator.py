"""Examples -> what a training step computes at a time."""

import torch

from ..encoding.batching import pack_padding_free, pad_left, token_batches
from ..encoding.dataset import ORDER_FEATURES, TEACHER_FEATURES
from ..encoding.examples import IGNORED


class Collator:
    """
    Makes a batch of examples of [`encode_dataset`], or several that together make a step.

    Args:
        pad_token_id (`int`): The id of the padding token.
        packs (`bool`): Pack examples into one sequence, which takes an attention that keeps them apart.
        max_tokens (`int`, *optional*): Tokens in a batch, with padding. More are divided, the longest examples first.
        keeps_pairs (`bool`): Keep the two orders of a battle in one batch.

    Returns:
        `dict`: The inputs of the model, `labels`, `votes`, `teachers` (if there are any) and the `ids` of the battles.
        `answers` (where the labels are) and `num_tokens` are known here: to read them back from the device in each
        step would wait for it. Of several batches: `batches`, and as `labels` those of all, for the Trainer to count.
    """

    def __init__(self, pad_token_id: int, packs: bool, max_tokens: int | None = None, keeps_pairs: bool = False):
        self.pad_token_id, self.packs, self.max_tokens, self.keeps_pairs = pad_token_id, packs, max_tokens, keeps_pairs

    def __call__(self, examples: list[dict]) -> dict:
        if "swapped_input_ids" in examples[0]:  # both orders of a battle, in one step
            names = ("id", *ORDER_FEATURES, *TEACHER_FEATURES)
            examples = [
                {name: example["id" if name == "id" else prefix + name] for name in names if name in example}
                for example in examples
                for prefix in ("", "swapped_")
            ]
        size = 2 if self.keeps_pairs else 1
        lengths = [len(example["input_ids"]) for example in examples[::size]]  # both orders have as many tokens
        places = token_batches(lengths, self.max_tokens // size) if self.max_tokens else []
        if len(places) < 2:
            return self._batch(examples)
        labels = torch.tensor([[IGNORED, *example["labels"][-2:]] for example in examples])
        batches = [[examples[i * size + k] for i in batch for k in range(size)] for batch in places]
        return {"labels": labels, "batches": list(map(self._batch, batches))}

    def _batch(self, examples: list[dict]) -> dict:
        packs = self.packs or len(examples) == 1
        batch = pack_padding_free(examples) if packs else pad_left(examples, self.pad_token_id)
        targets = {
            name: torch.tensor([example[name] for example in examples])
            for name in ("votes", "teachers")
            if name in examples[0]
        }
        return {
            **batch,
            **targets,
            "ids": list(dict.fromkeys(example["id"] for example in examples)),
            "answers": (batch["labels"] != IGNORED).any(0).nonzero().squeeze(1),  # letter and end token of each
            "num_tokens": sum(len(example["input_ids"]) for example in examples),
        }
