"""A recipe and an accelerate config -> how many bytes things take on a device, and what processes split."""

from dataclasses import dataclass

from accelerate.commands.config.config_args import ClusterConfig
from accelerate.utils import DistributedType
from transformers import PreTrainedConfig
from trl import ModelConfig

from ..errors import UserError
from ..training.config import TrainingConfig
from .shapes import Shape

SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
# nf4 and fp4: half a byte, and for 64 weights a scale: in float32 or, nested, in 8 bits with a float32 for each 256.
BLOCK, NESTED_BLOCK = 64, 256
PLAIN_BYTES, NESTED_BYTES = 0.5 + 4 / BLOCK, 0.5 + (1 + 4 / NESTED_BLOCK) / BLOCK
# Bytes of an optimizer's state for each parameter, by the beginning of its name; what is not listed has two float32.
OPTIMIZERS = {"sgd": 0, "adafactor": 0, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "lion": 4}
# Elements of DeepSpeed's buffers, and parameters that ZeRO-3 keeps gathered, by default.
BUCKET, LIVE_PARAMETERS = 500_000_000, 1_000_000_000


@dataclass(frozen=True)
class Setup:
    """
    How a model is trained on each device.

    Args:
        matrix_bytes (`float`): Of a weight in the layers' matrices, quantised or not.
        weight_bytes (`int`): Of another parameter that is not trained.
        residual_bytes (`int`): Of a value between layers.
        compute_bytes (`int`): Of a value inside layers.
        adapter_bytes (`int`): Of a parameter that is trained, and of its gradient.
        optimizer_bytes (`int`): Of its state.
        adapter_input_bytes (`int`): Of what an adapter keeps of its input.
        shares_inputs (`bool`): Whether adapters that read the same input keep it once.
        dropout (`bool`): Whether adapters have dropout.
        quantised (`bool`): Whether a matrix is dequantised for each pass.
        checkpointing (`bool`): Whether layers are computed again in the backward pass.
        on_gpu (`bool`): Whether there is a driver.
        processes (`int`): The number of devices.
        sharding (`str`): "none", "ddp", "zero2", "zero3" or "fsdp".
    """

    matrix_bytes: float
    weight_bytes: int
    residual_bytes: int
    compute_bytes: int
    adapter_bytes: int = 4
    optimizer_bytes: int = 8
    adapter_input_bytes: int = 2
    shares_inputs: bool = False
    dropout: bool = False
    quantised: bool = False
    checkpointing: bool = False
    on_gpu: bool = True
    processes: int = 1
    sharding: str = "none"

    @property
    def splits_weights(self) -> bool:
        return self.sharding in ("zero3", "fsdp")

    @property
    def splits_gradients(self) -> bool:
        return self.sharding in ("zero2", "zero3", "fsdp")

    @property
    def dropout_bytes(self) -> int:
        """Of the mask: a GPU keeps a byte, a CPU the factor itself."""
        return self.dropout * (1 if self.on_gpu else self.adapter_bytes)

    def dequantised(self, shape: Shape) -> float:
        """Bytes of the largest matrix in 16 bits, if it has to be dequantised."""
        if not self.quantised:
            return 0.0
        largest = max(matrix.inputs * matrix.outputs for layer in shape.layers for matrix in layer.matrices)
        return float(largest * self.compute_bytes)

    def communication(self, shape: Shape) -> float:
        """
        Bytes of buffers: DDP's buckets hold all gradients; DeepSpeed reserves its buckets; FSDP holds two gathered
        layers, or the embeddings if those are larger, and ZeRO-3 the parameters that it may keep.
        """
        if self.sharding == "ddp":
            return float(self.adapter_bytes * shape.num_trained)
        if self.sharding == "zero2":
            return float(BUCKET * self.adapter_bytes)
        if self.sharding == "zero3":
            live = min(LIVE_PARAMETERS, shape.num_matrix_weights + shape.num_frozen)
            return float(BUCKET * self.adapter_bytes + live * self.weight_bytes)
        if self.sharding == "fsdp":
            layers = 2 * max(layer.num_weights for layer in shape.layers) * self.matrix_bytes
            return max(layers, shape.vocabulary * shape.hidden * self.weight_bytes)
        return 0.0


def quantised_bytes(model: ModelConfig, stored: int) -> float:
    """Bytes of a weight in the layers' matrices."""
    if model.load_in_4bit:
        return NESTED_BYTES if model.use_bnb_nested_quant else PLAIN_BYTES
    return 1.0 if model.load_in_8bit else float(stored)


def setup_of_recipe(
    config: PreTrainedConfig,
    model: ModelConfig,
    training: TrainingConfig,
    cluster: ClusterConfig | None = None,
    on_gpu: bool = True,
) -> Setup:
    """
    How a recipe trains on each device.

    Args:
        config (`PreTrainedConfig`): Of the base model.
        model (`ModelConfig`), training (`TrainingConfig`): The recipe, as recipes/sft.py parses it.
        cluster (`ClusterConfig`, *optional*): The accelerate config. Default: one device.
        on_gpu (`bool`): Whether that device is a GPU, if the accelerate config does not say that it is a CPU.
    """
    dtype = str(model.dtype).removeprefix("torch.")
    if dtype == "auto":
        dtype = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    if dtype not in SIZES:
        raise UserError(f"dtype: plan has no formulas for {dtype}. Use {', '.join(SIZES)}")
    stored, autocast = SIZES[dtype], bool(training.bf16 or training.fp16)
    sharding = sharding_of(cluster) if cluster else "none"
    quantised = bool(model.load_in_4bit or model.load_in_8bit)
    compute = 2 if autocast or stored == 2 else 4
    deepspeed = sharding.startswith("zero")  # which trains in the type that it computes in, with a copy in float32
    matrix_bytes = quantised_bytes(model, stored)
    if autocast and stored == 4 and not quantised:
        matrix_bytes += 2  # the backward pass needs the matrices as they were computed with
    return Setup(
        matrix_bytes=matrix_bytes,
        weight_bytes=stored,
        residual_bytes=stored,
        compute_bytes=compute,
        adapter_bytes=2 if deepspeed and autocast else 4,
        optimizer_bytes=optimizer_bytes(str(training.optim.value)) + (4 if deepspeed and autocast else 0),
        adapter_input_bytes=2 if autocast else 4,
        shares_inputs=stored == 4 and not autocast,
        dropout=model.lora_dropout > 0,
        quantised=quantised,
        checkpointing=bool(training.gradient_checkpointing),
        on_gpu=on_gpu and not (cluster and cluster.use_cpu),
        processes=cluster.num_processes if cluster else 1,
        sharding=sharding,
    )


def optimizer_bytes(name: str) -> int:
    """Bytes of an optimizer's state for each parameter."""
    return next((size for known, size in OPTIMIZERS.items() if name.startswith(known)), 8)


def sharding_of(cluster: ClusterConfig) -> str:
    """What the processes of an accelerate config split."""
    if cluster.distributed_type == DistributedType.FSDP:
        return "fsdp"
    if cluster.distributed_type == DistributedType.DEEPSPEED:
        return {2: "zero2", 3: "zero3"}.get(cluster.deepspeed_config.get("zero_stage"), "ddp")
    return "ddp" if cluster.num_processes > 1 else "none"
