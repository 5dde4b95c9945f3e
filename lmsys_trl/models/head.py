"""The head of a judge: a few rows, of the letters, in the place of those of a whole vocabulary."""

import torch
from transformers import PreTrainedModel

from ..errors import UserError

FROZEN = "lm_head"  # the base model's own head; others are trained with the adapter
MODULE = "lm_head"  # what models of transformers call their head


class LettersHead(torch.nn.Linear):
    """
    The rows of a model's head for the tokens that judges answer with, and no others: reading the weights of a
    vocabulary of 262,144 takes a CPU as long as 25 tokens of gemma-3-270m.
    """

    def __init__(self, head: torch.nn.Linear, token_ids: list[int]):
        super().__init__(head.in_features, len(token_ids), bias=head.bias is not None, device="meta")
        for name, parameter in head.named_parameters():
            setattr(self, name, torch.nn.Parameter(parameter[token_ids], requires_grad=False))
        self.token_ids = token_ids
        self.complete = (head,)  # a tuple, so that it is not a part of this module


class TrainedHead(torch.nn.Linear):
    """Three rows that are trained and saved with the adapter, in float32 whatever the model computes in."""

    def __init__(self, weight: torch.Tensor, token_ids: list[int]):
        super().__init__(weight.shape[1], len(token_ids), bias=False, device="meta")
        self.weight = torch.nn.Parameter(weight.detach().to(torch.float32, copy=True))
        self.token_ids = token_ids

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden_states.device.type, enabled=False):
            return super().forward(hidden_states.float())


def install_head(model: PreTrainedModel, kind: str, letters: list[int]) -> None:
    """
    Give a base model the head that a judge trains, before the adapter is put on it.

    Args:
        model (`PreTrainedModel`): The base model. May be on the meta device.
        kind (`str`): "lm_head" leaves its own head; "letters" starts from that head's rows of the letters; "new" from
            zeros, so that all letters are equally likely: on hidden states as large as these (a norm of 57 in
            SmolLM2) random rows are a bias of two nats, which the first votes are spent on and which remains in part.
        letters (`list[int]`): The ids of the letters' tokens.
    """
    if kind == FROZEN:
        return
    head = model.get_output_embeddings()
    if not head.weight.numel():
        raise UserError("head: ZeRO-3 divides the base model's head. Use zero2.yaml or fsdp.yaml, or head: lm_head")
    rows = head.weight[letters]
    if kind == "new":
        rows = torch.zeros_like(rows)
    model.set_output_embeddings(TrainedHead(rows, letters))
    model.config.tie_word_embeddings = False  # it has nothing in common with the embeddings any more


def untie_head(model: PreTrainedModel, complete: torch.nn.Linear, letters: list[int]) -> None:
    """
    Put a trained head's rows into a copy of the complete head, so that any program reads the letters' logits there.
    The input embeddings stay as they are.

    Args:
        model (`PreTrainedModel`): With a trained head, without an adapter.
        complete (`Linear`): The base model's head.
        letters (`list[int]`): The ids of the letters' tokens.
    """
    weight = complete.weight.detach().clone()
    weight[letters] = model.get_output_embeddings().weight.detach().to(weight)
    complete.weight = torch.nn.Parameter(weight)
    model.set_output_embeddings(complete)


def keep_letters(model: PreTrainedModel, letters: list[int]) -> None:
    """
    Let a model's head compute the logits of the letters alone, for as long as it lives: its forward pass changes
    nothing, so that threads can share it. A judge that is added to the model adds its letters behind those there.
    """
    head = model.get_output_embeddings()
    token_ids, complete = (head.token_ids, head.complete[0]) if isinstance(head, LettersHead) else ([], head)
    if type(complete) is not torch.nn.Linear:  # such as one with an adapter, or one that is trained
        return
    added = [token for token in letters if token not in token_ids]
    if added:
        model.set_output_embeddings(LettersHead(complete, [*token_ids, *added]))


def letter_columns(model: PreTrainedModel, letters: list[int]) -> list[int]:
    """Where the letters' logits are among those that the model computes."""
    token_ids = getattr(model.get_output_embeddings(), "token_ids", None)
    return letters if token_ids is None else [token_ids.index(token) for token in letters]
