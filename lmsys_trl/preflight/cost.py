"""Tokens -> floating point operations, hours and money."""

from dataclasses import dataclass

from .gpus import Gpu
from .memory import ANSWER_POSITIONS
from .setup import Setup
from .shapes import Shape

# A GPU waits for the CPU where its kernels are short. Operators of a layer, forward and backward, in 4 bits: between
# those counted for Llama 3 with sdpa (86, 125) and Gemma 2 with eager attention (122, 166). And seconds for each, as
# measured beside an H200 with llama.yaml and gemma.yaml, by their mean: 40e-6 and 41e-6 (by their own, 47 and 36).
KERNELS, BACKWARD_KERNELS, LAUNCH = 105, 145, 40e-6


@dataclass(frozen=True)
class Work:
    """
    What a run computes.

    Args:
        examples, tokens, steps (`int`): Of all epochs; a prediction has no steps.
        passes (`int`): Forward and backward passes over a batch, for each of which matrices are dequantised.
        flops (`float`): Floating point operations of matrix products and attention.
        dequantised_bytes (`float`): What dequantisation reads and writes.
        kernels (`float`): How often the CPU starts something on the GPU.
    """

    examples: int
    tokens: int
    steps: int
    passes: int
    flops: float
    dequantised_bytes: float
    kernels: float

    def seconds(self, gpu: Gpu, utilisation: float, devices: int = 1) -> float:
        """How long it takes on some devices, without loading, evaluation and what they send to each other."""
        return max(self._computing(gpu, utilisation), self.kernels * LAUNCH) / devices

    def waits(self, gpu: Gpu, utilisation: float) -> bool:
        """Whether the GPU is faster than what starts its kernels."""
        return self._computing(gpu, utilisation) < self.kernels * LAUNCH

    def _computing(self, gpu: Gpu, utilisation: float) -> float:
        return self.flops / (utilisation * gpu.tflops * 1e12) + self.dequantised_bytes / (gpu.bandwidth * 1e9)


def forward_flops(shape: Shape, length: float) -> tuple[float, float]:
    """
    What a token costs in a forward pass, in an example of some length.

    Returns:
        `tuple[float, float]`: Operations of the matrices with their adapters, and of attention.
    """
    matrices = 2 * shape.num_matrix_weights
    adapters = sum(2 * m.rank * (m.inputs + m.outputs) for layer in shape.layers for m in layer.matrices)
    # Scores, and sums of the values by them. Only eager attention computes those that the mask removes.
    attention = (
        4 * length * shape.heads * shape.head_dim * len(shape.layers) * (1 if shape.attention == "eager" else 0.5)
    )
    return float(matrices + adapters), attention


def training_work(shape: Shape, setup: Setup, lengths: list[int], epochs: float, batches: int, per_step: int) -> Work:
    """
    What a training run computes.

    Args:
        shape (`Shape`), setup (`Setup`): The model, and how it is trained.
        lengths (`list[int]`): Tokens of each example, all of an epoch.
        epochs (`float`): How often all are seen.
        batches (`int`): Of an epoch: how often the model is run forward and backward.
        per_step (`int`): Examples in an optimizer step, over all devices.
    """
    tokens = sum(lengths)
    matrices, attention = _all_examples(shape, lengths)
    # Frozen matrices have no gradient of their own, attention one for each factor; checkpointing computes all again.
    flops = matrices * (2 + setup.checkpointing) + attention * (3 + setup.checkpointing)
    flops += 3 * 2 * ANSWER_POSITIONS * len(lengths) * shape.hidden * shape.head_rows
    passes = (2 + setup.checkpointing) * batches
    kernels = batches * len(shape.layers) * (KERNELS * (1 + setup.checkpointing) + BACKWARD_KERNELS)
    return Work(
        examples=round(len(lengths) * epochs),
        tokens=round(tokens * epochs),
        steps=-(-round(len(lengths) * epochs) // per_step),
        passes=round(passes * epochs),
        flops=flops * epochs,
        dequantised_bytes=_dequantised(shape, setup, passes * epochs),
        kernels=kernels * epochs,
    )


def prediction_work(shape: Shape, setup: Setup, lengths: list[int], batches: int) -> Work:
    """What a prediction computes, in a number of batches."""
    matrices, attention = _all_examples(shape, lengths)
    return Work(
        examples=len(lengths),
        tokens=sum(lengths),
        steps=0,
        passes=batches,
        flops=matrices + attention,
        dequantised_bytes=_dequantised(shape, setup, batches),
        kernels=float(batches * KERNELS * len(shape.layers)),
    )


def _all_examples(shape: Shape, lengths: list[int]) -> tuple[float, float]:
    """Operations of matrices, and of attention, in a forward pass over all examples."""
    matrices, attention = forward_flops(shape, 1)
    return matrices * sum(lengths), attention * sum(length * length for length in lengths)


def _dequantised(shape: Shape, setup: Setup, passes: float) -> float:
    """Bytes: a weight is read as it is stored, written in 16 bits, and read again by the product."""
    if not setup.quantised:
        return 0.0
    return passes * shape.num_matrix_weights * (setup.matrix_bytes + 2 * setup.compute_bytes)
