"""
How much memory a device needs for training and for prediction, by part.

The formulas count what the code of transformers and PEFT keeps, operator by operator. They do not know fragmentation
in the allocator, for which a plan leaves a fraction of each GPU free. `docs/planning.md` explains them, and
`benchmarks/plan.py` compares them with measured peaks.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

from .setup import Setup
from .shapes import Layer, Shape

GIB = 2**30
FLOAT32 = 4
CONTEXT = 0.5 * GIB  # CUDA's context with the kernels that are used: "~300 MB", and the workspace of cuBLAS
# Of a logit in a training step: itself, in float32, its log softmax, and their gradients.
LOGIT_COPIES = 4
ANSWER_POSITIONS = 2  # letter and end token


class Batch(NamedTuple):
    """What goes through the model at a time: `examples` padded to `length` tokens."""

    examples: int
    length: int

    @property
    def tokens(self) -> int:
        return self.examples * self.length

    @property
    def pairs(self) -> int:
        """Pairs of tokens of which a head computes a score."""
        return self.examples * self.length**2


@dataclass(frozen=True)
class Memory:
    """
    Bytes on a device at the peak.

    Args:
        weights (`float`): Of the base model, as they are stored, with what is not quantised.
        adapter, gradients, optimizer (`float`): Of what is trained.
        activations (`float`): What is saved for the backward pass, in proportion to the tokens.
        scores (`float`): The same, in proportion to the pairs of tokens.
        logits (`float`): At the positions that are scored.
        workspace (`float`): What a layer needs for itself: gradients, a dequantised matrix.
        communication (`float`): Buffers between processes.
        context (`float`): What the driver takes.
    """

    weights: float = 0.0
    adapter: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    scores: float = 0.0
    logits: float = 0.0
    workspace: float = 0.0
    communication: float = 0.0
    context: float = 0.0

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


def training_memory(shape: Shape, setup: Setup, batch: Batch, positions: int | None = None) -> Memory:
    """
    The peak of a training step.

    Args:
        shape (`Shape`), setup (`Setup`): The model, and how it is trained.
        batch (`Batch`): The largest batch of a step.
        positions (`int`, *optional*): Positions whose logits are computed. Default: those of the answers.
    """
    trained = [layer for i, layer in enumerate(shape.layers) if i >= shape.first_trained]
    saved = {layer: saved_by_token(shape, layer, setup, batch) for layer in set(trained)}  # most are equal
    by_token = [saved[layer] for layer in trained]
    by_pair = saved_by_pair(shape, setup, batch) * batch.pairs
    activations = sum(by_token) * batch.tokens
    scores = by_pair * len(trained)
    if setup.checkpointing:  # then trl lets all layers have a backward pass
        inputs = len(shape.layers) * shape.hidden * setup.residual_bytes
        activations = (inputs + max(by_token, default=0.0)) * batch.tokens
        scores = by_pair
    else:
        activations -= FLOAT32 * shape.hidden * batch.tokens  # the first norm's input needs no gradient
    activations += FLOAT32 * shape.hidden * batch.tokens  # the norm after the last layer
    positions = ANSWER_POSITIONS * batch.examples if positions is None else positions
    owners = setup.processes
    return Memory(
        weights=_weights(shape, setup) / (owners if setup.splits_weights else 1),
        adapter=setup.adapter_bytes * shape.num_trained / (owners if setup.splits_weights else 1),
        gradients=setup.adapter_bytes * shape.num_trained / (owners if setup.splits_gradients else 1),
        optimizer=setup.optimizer_bytes * shape.num_trained / (owners if setup.splits_gradients else 1),
        activations=activations,
        scores=scores + _mask(shape, setup, batch),
        logits=positions * shape.head_rows * LOGIT_COPIES * FLOAT32,
        workspace=_backward_workspace(shape, setup, batch),
        communication=setup.communication(shape),
        context=CONTEXT if setup.on_gpu else 0.0,
    )


def prediction_memory(shape: Shape, setup: Setup, batch: Batch) -> Memory:
    """The peak of a prediction, which keeps nothing for a backward pass."""
    return Memory(
        weights=_weights(shape, setup),
        adapter=setup.adapter_bytes * shape.num_trained,
        scores=_mask(shape, setup, batch),
        workspace=_forward_workspace(shape, setup, batch),
        context=CONTEXT if setup.on_gpu else 0.0,
    )


def saved_by_token(shape: Shape, layer: Layer, setup: Setup, batch: Batch) -> float:
    """Bytes that a layer saves for its backward pass, for each token."""
    size = setup.compute_bytes
    queries, keys = shape.heads * shape.head_dim, shape.key_value_heads * shape.head_dim
    saved: float = FLOAT32 * layer.norm_width  # norms compute in float32, and save their inputs
    # The activation function saves its input, and the product after it both of its factors.
    saved += 3 * size * shape.intermediate
    if shape.attention == "eager":
        saved += size * 3 * queries  # keys and values are repeated for each head
    else:
        repeats = shape.attention == "sdpa" and batch.examples > 1  # a mask of padding
        saved += size * (2 * queries + 2 * (queries if repeats else keys)) + FLOAT32 * shape.heads
    inputs: dict[str, float] = {}
    for i, matrix in enumerate(layer.matrices):
        if not matrix.rank:
            continue
        saved += setup.adapter_input_bytes * matrix.rank
        # Each adapter has its own copy of its input, unless that is in float32 anyway and without dropout.
        shared = setup.shares_inputs and not setup.dropout
        if shared and matrix.reads == "o_proj" and shape.attention != "eager":
            continue  # which attention has saved
        inputs[matrix.reads if shared else str(i)] = matrix.inputs * (setup.adapter_input_bytes + setup.dropout_bytes)
    return saved + sum(inputs.values())


def saved_by_pair(shape: Shape, setup: Setup, batch: Batch) -> float:
    """Bytes that a layer saves for its backward pass, for each pair of tokens."""
    size = setup.compute_bytes
    if shape.attention == "eager":
        cast = size if size < FLOAT32 else 0  # the softmax is in float32
        return shape.heads * (size * shape.softcap + FLOAT32 + cast)
    # sdpa makes numbers of a mask of padding, in each layer; the others know where examples begin.
    return float(size) if shape.attention == "sdpa" and batch.examples > 1 else 0.0


def _weights(shape: Shape, setup: Setup) -> float:
    return shape.num_matrix_weights * setup.matrix_bytes + shape.num_frozen * setup.weight_bytes


def _mask(shape: Shape, setup: Setup, batch: Batch) -> float:
    """Eager attention adds a mask, one for layers with a window and one for the others, or sdpa one for padding."""
    if shape.attention == "eager":
        return (1 + bool(shape.window)) * batch.pairs * setup.residual_bytes
    return float(batch.pairs) if shape.attention == "sdpa" and batch.examples > 1 else 0.0


def _backward_workspace(shape: Shape, setup: Setup, batch: Batch) -> float:
    """The gradients inside of a layer. The feed-forward part comes first, and then gives back what it saved."""
    wide = shape.intermediate * batch.tokens
    feed_forward: float = 3 * setup.compute_bytes * wide
    if setup.compute_bytes < FLOAT32 and any(
        m.rank and m.inputs == shape.intermediate for m in shape.layers[-1].matrices
    ):
        feed_forward += FLOAT32 * wide  # an adapter's input has a gradient in float32, before it is cast
    attention = 0.0
    if shape.attention == "eager":
        cast = setup.compute_bytes if setup.compute_bytes < FLOAT32 else 0
        attention = batch.pairs * shape.heads * (2 * FLOAT32 - cast) - feed_forward
    return max(feed_forward, attention) + setup.dequantised(shape)


def _forward_workspace(shape: Shape, setup: Setup, batch: Batch) -> float:
    """What is alive inside of a layer: its input, the embeddings, the residual and its norm, and the larger part."""
    size = setup.compute_bytes
    around = shape.hidden * (3 * setup.residual_bytes + size) + 2 * shape.head_dim * size
    feed_forward = 3 * size * shape.intermediate * batch.tokens
    attention = 4 * size * shape.heads * shape.head_dim * batch.tokens
    if shape.attention == "eager":
        scores = size + FLOAT32  # before and after the softmax
        if size < FLOAT32:
            scores += size if setup.on_gpu else FLOAT32  # a cast: of the result, or on a CPU of the input
        attention += scores * shape.heads * batch.pairs
    return around * batch.tokens + max(feed_forward, attention) + setup.dequantised(shape)
