"""Token ids of examples -> the logits of the letters after them."""

from collections.abc import Callable

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from ..encoding.batching import CPU_TOKENS, GPU_TOKENS, distribute, pad_left, token_batches
from ..models.head import letter_columns


@torch.inference_mode()
def letter_logits(
    model: PreTrainedModel,
    examples: list[np.ndarray],
    letters: list[int],
    pad_token_id: int,
    autocast: bool,
    max_tokens: int | None,
    processes: PartialState | None,
    on_progress: Callable[[float], None],
) -> torch.Tensor:
    """
    Run the model on examples in batches, the longest first.

    Args:
        model (`PreTrainedModel`): Computes the logits of the last position only.
        examples (`list[ndarray]`): The token ids of each.
        letters (`list[int]`): The ids of the letters' tokens.
        pad_token_id (`int`): What shorter examples are padded with, on the left.
        autocast (`bool`): Compute in bfloat16.
        max_tokens (`int`, *optional*): Tokens in a batch, with padding. Default: 4096; on a CPU 512, since it gains
            little from several examples at once and pays for their padding.
        processes (`PartialState`, *optional*): All of them make this call and share the examples.
        on_progress (`Callable`): Called after each batch with the fraction of this process's examples that is done.

    Returns:
        `Tensor`: Of shape `(examples, letters)`, in double precision on the CPU, in all processes.
    """
    device, lengths = model.device, [len(example) for example in examples]
    batches = token_batches(lengths, max_tokens or (CPU_TOKENS if device.type == "cpu" else GPU_TOKENS))
    if processes is not None:
        batches = distribute(batches, lengths, processes.num_processes)[processes.process_index]
    computed, num_done, num_examples = [], 0, sum(map(len, batches))
    columns = letter_columns(model, letters)

    def finish(batch: list[int], values: torch.Tensor) -> None:
        nonlocal num_done
        computed.append((batch, values.double().cpu()))
        num_done += len(batch)
        on_progress(num_done / num_examples)

    running: tuple[list[int], torch.Tensor] | None = None
    for batch in batches:
        inputs = pad_left([{"input_ids": examples[i].tolist()} for i in batch], pad_token_id)
        inputs = {key: to_device(tensor, device) for key, tensor in inputs.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            outputs = model(**inputs, logits_to_keep=1, use_cache=False)
        # An accelerator computes this batch while the results of the one before are read and the next one is padded.
        if running:
            finish(*running)
        running = batch, outputs.logits[:, -1, columns]
    if running:
        finish(*running)
    logits = torch.empty(len(examples), len(letters), dtype=torch.float64)
    for batch, values in computed if processes is None else gather_object(computed):
        logits[batch] = values
    return logits


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the device; on a GPU through pinned memory, so that the copy does not wait for its computations."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def activate_adapter(model: PeftModel, adapter_name: str) -> None:
    """
    Let the model compute with this one of its adapters. If the base model's weights are float32 the adapter is added
    to them, since a forward pass is then as fast as without it; in fewer bits the sum would be rounded.
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
