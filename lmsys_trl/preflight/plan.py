"""A recipe, an accelerate config and the lengths of examples -> what memory, time and money it takes, and on what."""

from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from accelerate.commands.config.config_args import ClusterConfig
from transformers import PreTrainedConfig
from trl import ModelConfig

from ..encoding.batching import CPU_TOKENS, GPU_TOKENS, token_batches
from ..models.precision import attention_in_training
from ..options import JudgeConfig
from ..training.config import TrainingConfig
from .changes import Case, smallest_change
from .cost import Work, prediction_work, training_work
from .gpus import Gpu
from .lengths import Lengths
from .memory import Batch, Memory, prediction_memory, training_memory
from .setup import Setup, setup_of_recipe
from .shapes import Shape, shape_of_recipe


class Verdict(NamedTuple):
    """
    What a plan says of a GPU.

    Args:
        gpu (`Gpu`): Which.
        trains (`bool`), predicts (`bool`): Whether training and prediction fit.
        change (`str`, *optional*): What makes training fit, if anything does.
        note (`str`): What else must be known.
        hours (`float`): Of training.
        prediction_hours (`float`, *optional*): Of the prediction.
        cost (`float`, *optional*), prediction_cost (`float`, *optional*): Of all devices, where there is a price.
    """

    gpu: Gpu
    trains: bool
    predicts: bool
    change: str | None
    note: str
    hours: float
    prediction_hours: float | None
    cost: float | None
    prediction_cost: float | None


@dataclass(frozen=True)
class Plan:
    """
    What a recipe takes.

    Args:
        shape (`Shape`), setup (`Setup`), batch (`Batch`): What is trained, how, and the largest batch.
        memory (`Memory`): Of a device in training.
        work (`Work`): Of training.
        prediction_batch (`Batch`), prediction_memory (`Memory`): The same of a prediction.
        prediction_work (`Work`, *optional*): Of the prediction, if one was asked for.
        verdicts (`list[Verdict]`): For each GPU.
    """

    shape: Shape
    setup: Setup
    batch: Batch
    memory: Memory
    work: Work
    prediction_batch: Batch
    prediction_memory: Memory
    prediction_work: Work | None
    verdicts: list[Verdict]

    def to_dict(self) -> dict:
        """The plan for `--json`: memory in bytes, time in hours."""

        def facts(memory: Memory, batch: Batch) -> dict:
            return {**batch._asdict(), **asdict(memory), "total": memory.total}

        verdicts = [
            {
                "gpu": verdict.gpu.name,
                "gib": verdict.gpu.gib,
                **{k: v for k, v in verdict._asdict().items() if k != "gpu"},
            }
            for verdict in self.verdicts
        ]
        return {
            "training": {"memory": facts(self.memory, self.batch), **asdict(self.work)},
            "prediction": {
                "memory": facts(self.prediction_memory, self.prediction_batch),
                **(asdict(self.prediction_work) if self.prediction_work else {}),
            },
            "devices": self.setup.processes,
            "gpus": verdicts,
        }


class Request(NamedTuple):
    """
    What a plan is made for.

    Args:
        gpus (`list[Gpu]`): Which GPUs.
        utilisation (`float`): The fraction of their peak that is reached.
        headroom (`float`): The fraction of their memory that is left free.
        prices (`dict[str, float]`): Of an hour of a GPU, by its name.
        num_predicted (`int`, *optional*): Battles to predict.
        orders (`int`): 2 to predict both orders of the answers.
        on_gpu (`bool`): Whether the recipe runs on a GPU, if the accelerate config does not say that it is a CPU.
    """

    gpus: list[Gpu]
    utilisation: float
    headroom: float
    prices: dict[str, float]
    num_predicted: int | None = None
    orders: int = 1
    on_gpu: bool = True


def make_plan(
    config: PreTrainedConfig,
    judge: JudgeConfig,
    model: ModelConfig,
    training: TrainingConfig,
    cluster: ClusterConfig | None,
    lengths: Lengths,
    request: Request,
) -> Plan:
    """
    What a recipe takes on each GPU.

    Args:
        config (`PreTrainedConfig`): Of the base model.
        judge (`JudgeConfig`), model (`ModelConfig`), training (`TrainingConfig`): The recipe, as recipes/sft.py parses
            it.
        cluster (`ClusterConfig`, *optional*): The accelerate config. Default: one GPU.
        lengths (`Lengths`): Of the examples.
        request (`Request`): For which GPUs, at which prices.
    """
    setup = setup_of_recipe(config, model, training, cluster, request.on_gpu)
    letters = shape_of_recipe(config, judge, model)
    shape = replace(letters, attention=attention_in_training(model, not setup.on_gpu) or letters.attention)
    smallest = 2 if judge.swap == "paired" else 1
    at_once = training.per_device_train_batch_size * smallest
    limit = max_tokens(training, setup)
    batches = possible_batches(lengths.training, at_once, limit)
    batch = max(batches, key=lambda batch: training_memory(shape, setup, batch).total)
    memory = training_memory(shape, setup, batch)
    at_a_time = training.per_device_train_batch_size * setup.processes
    per_step = training.battles_per_step or at_a_time * training.gradient_accumulation_steps
    epochs = training.num_train_epochs
    if training.max_steps > 0:
        epochs = training.max_steps * per_step * smallest / len(lengths.training)
    together = [lengths.training[i : i + at_once] for i in range(0, len(lengths.training), at_once)]
    num_batches = sum(len(token_batches(examples, limit)) if limit else 1 for examples in together)
    work = training_work(shape, setup, lengths.training, epochs, num_batches, per_step * smallest)

    reading = replace(setup, sharding="none", checkpointing=False, processes=1)
    tokens = GPU_TOKENS if setup.on_gpu else CPU_TOKENS
    batches = possible_batches(lengths.prediction, len(lengths.prediction), tokens)
    prediction_batch = max(batches, key=lambda batch: prediction_memory(letters, reading, batch).total)
    reading_memory = prediction_memory(letters, reading, prediction_batch)
    prediction = None
    if request.num_predicted:
        prediction = _prediction(letters, reading, lengths.prediction, tokens, request.num_predicted * request.orders)
    case, evaluation = Case(shape, setup, batch), 0.0
    if training.eval_strategy != "no":
        evaluated = Batch(training.per_device_eval_batch_size, max(lengths.training))
        evaluation = prediction_memory(shape, setup, evaluated).total + memory.optimizer
    verdicts = [
        _judge_gpu(gpu, case, memory, work, reading_memory, prediction, smallest, request, evaluation)
        for gpu in (request.gpus if setup.on_gpu else ())
    ]
    return Plan(shape, setup, batch, memory, work, prediction_batch, reading_memory, prediction, verdicts)


def estimate_memory(
    config: PreTrainedConfig, judge: JudgeConfig, model: ModelConfig, training: TrainingConfig
) -> tuple[Memory, Batch]:
    """The memory of a recipe on one GPU, and its largest batch if examples have the maximum length."""
    shape, setup = shape_of_recipe(config, judge, model), setup_of_recipe(config, model, training)
    at_once = training.per_device_train_batch_size * (2 if judge.swap == "paired" else 1)
    tokens, length = max_tokens(training, setup), training.max_length
    batch = Batch(_fitting(length, at_once, tokens), length)
    return training_memory(shape, setup, batch), batch


def max_tokens(training: TrainingConfig, setup: Setup) -> int | None:
    """Tokens in a batch of training, as `training.trainer` has them."""
    return training.max_tokens_per_batch or (None if setup.on_gpu else CPU_TOKENS)


def possible_batches(lengths: list[int], at_once: int, tokens: int | None) -> list[Batch]:
    """
    The batches one of which needs most memory: of each number of examples that with the longest.

    Args:
        lengths (`list[int]`): Of all examples.
        at_once (`int`): Examples that may be together.
        tokens (`int`, *optional*): Tokens in a batch, with padding; a longer example is a batch of its own.
    """
    longest: dict[int, int] = {}
    for i, length in enumerate(sorted(lengths), 1):
        longest[min(_fitting(length, at_once, tokens), i)] = length
    return [Batch(*batch) for batch in longest.items()]


def _fitting(length: int, at_once: int, tokens: int | None) -> int:
    """Examples of a length in a batch."""
    return at_once if tokens is None else max(1, min(at_once, tokens // length))


def _prediction(shape: Shape, setup: Setup, lengths: list[int], tokens: int, number: int) -> Work:
    """The work of predicting a number of battles whose lengths are distributed as those that are known."""
    batches = len(token_batches(lengths, tokens))
    work, scale = prediction_work(shape, setup, lengths, batches), number / len(lengths)
    return replace(
        work, examples=number, tokens=round(work.tokens * scale), passes=round(batches * scale),
        flops=work.flops * scale, dequantised_bytes=work.dequantised_bytes * scale, kernels=work.kernels * scale,
    )  # fmt: skip


def _judge_gpu(
    gpu: Gpu,
    case: Case,
    memory: Memory,
    work: Work,
    reading: Memory,
    prediction: Work | None,
    smallest: int,
    request: Request,
    evaluation: float,
) -> Verdict:
    available, devices = gpu.available(request.headroom), case.setup.processes
    trains = memory.total <= available
    hours = work.seconds(gpu, request.utilisation, devices) / 3600
    later = prediction.seconds(gpu, request.utilisation, devices) / 3600 if prediction else None
    price = request.prices.get(gpu.name)
    notes = []
    if not gpu.has_bfloat16 and case.setup.compute_bytes == 2:
        notes.append("has no bfloat16: dtype: float16, bf16: false, fp16: true")
    if evaluation > available:
        notes.append("evaluation does not fit: per_device_eval_batch_size: 1")
    if trains and work.waits(gpu, request.utilisation):
        notes.append("waits for the CPU between kernels: larger batches are faster, see max_tokens_per_batch")
    return Verdict(
        gpu=gpu,
        trains=trains,
        predicts=reading.total <= available,
        change=None if trains else smallest_change(case, smallest, available),
        note="; ".join(notes),
        hours=hours,
        prediction_hours=later,
        cost=None if price is None else price * hours * devices,
        prediction_cost=None if price is None or later is None else price * later * devices,
    )
