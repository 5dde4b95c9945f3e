"""Token ids of rows -> the logits of the letters after them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from .batching import pad_left, share_out, token_batches


@torch.inference_mode()
def letter_logits(
    model: PreTrainedModel,
    rows: list[np.ndarray],
    letters: list[int],
    pad_token_id: int,
    autocast: bool,
    max_tokens: int | None,
    processes: PartialState | None,
    on_progress: Callable[[float], None],
) -> torch.Tensor:
    """
    One forward pass over all rows, the longest first.

    Args:
        model (`PreTrainedModel`): Its last position is looked at, and no other gets logits.
        rows (`list[ndarray]`): The token ids of each.
        letters (`list[int]`): The ids of the letters' tokens.
        pad_token_id (`int`): What fills the beginning of shorter rows.
        autocast (`bool`): Compute in bfloat16.
        max_tokens (`int`, *optional*): Tokens in a batch, with padding (4096; on a CPU 512, which gains little from
            several rows at once and pays for their padding).
        processes (`PartialState`, *optional*): All of them make this call and share the rows.
        on_progress (`Callable`): Is told the share of this process's rows that is done, after each batch.

    Returns:
        `Tensor`: Of shape `(rows, letters)`, in double precision on the CPU, in all processes.
    """
    device, lengths = model.device, [len(row) for row in rows]
    batches = token_batches(lengths, max_tokens or (512 if device.type == "cpu" else 4096))
    if processes is not None:
        batches = share_out(batches, lengths, processes.num_processes)[processes.process_index]
    found, num_done, num_rows = [], 0, sum(map(len, batches))
    with _letters_only(model, letters) as columns:
        for batch in batches:
            inputs = pad_left([{"input_ids": rows[i].tolist()} for i in batch], pad_token_id)
            inputs = {key: tensor.to(device) for key, tensor in inputs.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                outputs = model(**inputs, logits_to_keep=1, use_cache=False)
            found.append((batch, outputs.logits[:, -1, columns].double().cpu()))
            num_done += len(batch)
            on_progress(num_done / num_rows)
    logits = torch.empty(len(rows), len(letters), dtype=torch.float64)
    for batch, values in found if processes is None else gather_object(found):
        logits[batch] = values
    return logits


@contextmanager
def _letters_only(model: PreTrainedModel, letters: list[int]) -> Iterator[list[int]]:
    """
    Within, the model's head computes the logits of the letters and of no other token; yields where they stand. To read
    the weights of a vocabulary of 262,144 takes a CPU as long as 25 tokens of gemma-3-270m.
    """
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear:  # such as one with an adapter
        yield letters
        return
    small = torch.nn.Linear(head.in_features, len(letters), bias=head.bias is not None, device="meta")
    for name, parameter in head.named_parameters():
        setattr(small, name, torch.nn.Parameter(parameter[letters], requires_grad=False))
    model.set_output_embeddings(small)
    try:
        yield list(range(len(letters)))
    finally:
        model.set_output_embeddings(head)


def put_on(model: PeftModel, adapter_name: str) -> None:
    """
    Let the model compute with this adapter, whatever others are on it. Where the base model's weights are float32 the
    adapter is added to them, since a forward pass is then as fast as without; in less the sum would be rounded.
    """
    merged = model.get_model_status().merged_adapters
    if merged == [adapter_name]:
        return
    if merged:
        model.unmerge_adapter()
    model.set_adapter(adapter_name)
    quantized = getattr(model.config, "quantization_config", None) is not None
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())  # may share their weights
    tuned = any(isinstance(layer, BaseTunerLayer) for layer in embeddings)
    if model.dtype == torch.float32 and not quantized and not tuned:
        model.merge_adapter()
