"""
Are the estimates of `lmsys-trl plan` right? The memory of training steps of small models, counted by torch's own
allocations, beside the formulas; and memory that others have published for QLoRA, beside the same formulas.

    python benchmarks/plan.py                # minutes on one core
    python benchmarks/plan.py --published    # the second alone, in seconds
    python benchmarks/plan.py --record       # both, to docs/results.md
"""

import gc
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from datasets import Dataset
from peft import LoraConfig
from results import markdown_table, record
from torch.profiler import ProfilerActivity, profile
from training import build_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, TrainerCallback
from trl import ModelConfig

from lmsys_trl.config import parse_config
from lmsys_trl.encoding.examples import IGNORED
from lmsys_trl.models.base import load_base
from lmsys_trl.models.precision import quantization_of
from lmsys_trl.preflight.cost import training_work
from lmsys_trl.preflight.gpus import UTILISATION, find_gpus
from lmsys_trl.preflight.memory import CONTEXT, GIB, Batch, training_memory
from lmsys_trl.preflight.recipe import find_model_config
from lmsys_trl.preflight.setup import NESTED_BYTES, PLAIN_BYTES, Setup, setup_of_recipe
from lmsys_trl.preflight.shapes import Shape, measure_shape
from lmsys_trl.terminal import run_recipe
from lmsys_trl.training.config import TrainingConfig
from lmsys_trl.training.trainer import JudgeTrainer

MIB = 2**20
ATTENTION_MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL_MATRICES = [*ATTENTION_MATRICES, "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Small:
    """A small model and how it is trained."""

    kind: str
    attention: str
    length: int
    rank: int
    nf4: bool = False
    checkpointing: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] = tuple(ATTENTION_MATRICES)
    examples: int = 1
    layers: int = 6
    hidden: int = 256
    intermediate: int = 1024
    heads: int = 8
    key_value_heads: int = 2
    head_dim: int = 32

    def title(self) -> str:
        bits = "nf4, bfloat16" if self.nf4 else "float32"
        size = f"{self.layers} layers of {self.hidden}"
        matrices = "all matrices" if len(self.targets) > 4 else "q, k, v, o"
        extras = [f"dropout {self.dropout}"] * bool(self.dropout) + ["checkpointing"] * self.checkpointing
        tokens = f"{self.examples} x {self.length} tokens"
        return ", ".join([self.kind, size, bits, self.attention, tokens, f"r {self.rank} on {matrices}", *extras])


SMALL = (
    Small("llama", "eager", 512, 16),
    Small("llama", "sdpa", 1024, 8, checkpointing=True),
    Small("gemma2", "eager", 384, 32, nf4=True, dropout=0.05, heads=4, head_dim=64),
    Small("gemma2", "eager", 512, 32, nf4=True, checkpointing=True, heads=4, head_dim=64),
    Small("qwen2", "sdpa", 768, 64, nf4=True, targets=tuple(ALL_MATRICES), hidden=384),
    Small("qwen3", "sdpa", 512, 16, examples=2, intermediate=768),
)
# Chosen when the formulas were as they are, and run once.
HELD_OUT = (
    Small("mistral", "eager", 448, 8, checkpointing=True, targets=tuple(ALL_MATRICES), layers=4),
    Small("gemma3_text", "sdpa", 448, 16, nf4=True, layers=4),
    Small("qwen3", "eager", 256, 32, nf4=True, dropout=0.1, examples=2, layers=4),
    Small("llama", "sdpa", 512, 64, checkpointing=True, targets=tuple(ALL_MATRICES), examples=2, layers=4),
)


class Published(NamedTuple):
    """A peak that others have measured or, of `up to`, a GPU whose memory was enough for no more tokens."""

    source: str
    model: str
    training: str
    gib: float
    lora: LoraConfig
    setup: Setup
    batch: Batch


LLAMA_2_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
BASES = {
    "Llama-2-7B": AutoConfig.for_model("llama", **LLAMA_2_7B, vocab_size=32000),
    "Llama-2-13B": AutoConfig.for_model(
        "llama",
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=40,
        num_attention_heads=40,
        vocab_size=32000,
    ),
    "Llama-2-70B": AutoConfig.for_model(
        "llama",
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=32000,
    ),
    "Llama-3.1-8B": find_model_config("meta-llama/Llama-3.1-8B-Instruct", None, None)[0],
}
# What these programs do differently from ours, by their sources: logits at all positions; fsdp_qlora and LitGPT keep
# adapters and AdamW's state in bfloat16. docs/results.md says what was assumed of unsloth's runs.
ANSWER_AI = Setup(
    PLAIN_BYTES, 2, 2, 2, adapter_bytes=2, optimizer_bytes=4, dropout=True, quantised=True, checkpointing=True
)
UNSLOTH = Setup(NESTED_BYTES, 4, 2, 2, optimizer_bytes=2, quantised=True, checkpointing=True)
LITGPT = Setup(NESTED_BYTES, 2, 2, 2, adapter_bytes=2, optimizer_bytes=4, dropout=True, quantised=True)
FSDP_QLORA = LoraConfig(
    r=64, lora_dropout=0.1, target_modules=[name for name in ALL_MATRICES if name != "o_proj"], task_type="CAUSAL_LM"
)
ALL_LINEAR = LoraConfig(r=32, target_modules=ALL_MATRICES, task_type="CAUSAL_LM")
QUERY_VALUE = LoraConfig(r=8, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def published() -> list[Published]:
    """Figures of QLoRA, each with its source."""
    rows = []
    for examples, length, gib, sharding in (
        (1, 512, 4.98, "fsdp"), (1, 2048, 5.21, "fsdp"), (4, 2048, 11.22, "fsdp"), (10, 2048, 20.97, "fsdp"),
        (8, 2048, 20.94, "ddp"),
    ):  # fmt: skip
        setup = replace(ANSWER_AI, processes=2, sharding=sharding)
        name = f"{sharding.upper()} over 2 GPUs, checkpointing"
        rows.append(Published("answer.ai", "Llama-2-7B", name, gib, FSDP_QLORA, setup, Batch(examples, length)))
    for gib, length in ((12, 932), (16, 2551), (24, 5789), (40, 12264), (48, 15502), (80, 28454)):
        name = "flash attention, checkpointing, up to"
        rows.append(Published("unsloth", "Llama-3.1-8B", name, gib, ALL_LINEAR, UNSLOTH, Batch(1, length)))
    for model, gigabytes, size in (
        ("Llama-2-7B", 13.84, NESTED_BYTES), ("Llama-2-7B", 14.14, PLAIN_BYTES), ("Llama-2-13B", 22.55, NESTED_BYTES),
        ("Llama-2-13B", 23.14, PLAIN_BYTES),
    ):  # fmt: skip
        setup = replace(LITGPT, matrix_bytes=size)
        name = "nested nf4" if size == NESTED_BYTES else "nf4"
        rows.append(Published("LitGPT", model, name, gigabytes * 1e9 / GIB, QUERY_VALUE, setup, Batch(1, 1304)))
    return rows


def compare_published() -> str:
    """A table of what others have published beside the formulas."""
    shapes: dict[tuple, Shape] = {}
    rows = []
    for entry in published():
        key = (entry.model, id(entry.lora))
        if key not in shapes:
            shapes[key] = measure_shape(BASES[entry.model], entry.lora, attention="sdpa")
        shape = replace(shapes[key], attention="flash_attention_2")
        memory = training_memory(shape, entry.setup, entry.batch, positions=entry.batch.tokens).total / GIB
        if entry.source != "unsloth":  # which says what fits a GPU; the others do not count the driver
            memory -= CONTEXT / GIB
        rows.append([
            entry.source, entry.model, entry.training, f"{entry.batch.examples} x {entry.batch.length:,}",
            f"{entry.gib:.2f}", f"{memory:.2f}", f"{memory / entry.gib - 1:+.0%}",
        ])  # fmt: skip
    return markdown_table(["source", "model", "training", "tokens", "published GiB", "planned GiB", "off by"], rows)


# Of the same benchmarks of answer.ai: seconds for 1,024 examples of 2,048 tokens, on a number of GPUs.
TIMES = (
    ("Llama-2-7B", "4090", 2, 8, "DDP", 450), ("Llama-2-7B", "4090", 2, 10, "FSDP", 466),
    ("Llama-2-70B", "A100-40", 4, 4, "FSDP", 1266), ("Llama-2-70B", "A100-40", 8, 4, "FSDP", 672),
    ("Llama-2-70B", "H100", 4, 8, "FSDP", 667),
)  # fmt: skip


def compare_times() -> str:
    """A table of the fraction of the peak that published runs reached, by our count of operations."""
    rows = []
    for model, name, devices, examples, how, seconds in TIMES:
        (gpu,) = find_gpus([name])
        shape = measure_shape(BASES[model], FSDP_QLORA, attention="sdpa")
        work = training_work(shape, ANSWER_AI, [2048] * 1024, 1, 1024 // examples, examples * devices)
        rate = work.flops / seconds / devices / 1e12
        rows.append([
            model, f"{devices} {name}, {how}, {examples} x 2,048", f"{seconds:,}",
            f"{work.seconds(gpu, UTILISATION, devices):,.0f}", f"{rate:.0f}", f"{rate / gpu.tflops:.0%}",
        ])  # fmt: skip
    return markdown_table(
        ["model", "GPUs and tokens at once", "published seconds", "planned", "TFLOP/s of a GPU", "of its peak"], rows
    )


@dataclass
class BenchmarkConfig:
    """What is compared, and whether the tables are recorded."""

    published: bool = field(default=False, metadata={"help": "Only what others have published."})
    record: bool = field(default=False, metadata={"help": "Write the tables to docs/results.md."})


def main():
    config, _ = parse_config(BenchmarkConfig)
    times = "Published times of answer.ai, and the fraction of the peak that they come to:"
    tables = {"plan_published": [compare_published(), times, compare_times()]}
    if not config.published:
        held_out = "Models that were chosen when the formulas were as they are now:"
        tables["plan"] = [measure_all(SMALL), held_out, measure_all(HELD_OUT)]
    for section, blocks in tables.items():
        print(*blocks, sep="\n\n", flush=True)
        if config.record:
            record(section, *blocks)


def measure_all(cases: tuple[Small, ...]) -> str:
    rows = []
    for small in cases:
        stored, kept, peak = measure(small)
        planned = plan(small)
        held = planned.weights + planned.adapter + planned.optimizer
        growth = planned.total - held
        rows.append([
            small.title(), f"{(stored + kept) / MIB:.1f}", f"{held / MIB:.1f}", f"{peak / MIB:.1f}",
            f"{growth / MIB:.1f}", f"{growth / peak - 1:+.1%}", f"{planned.total / (stored + kept + peak) - 1:+.1%}",
        ])  # fmt: skip
        print(rows[-1], flush=True)
    header = [
        "model and training", "MiB held between steps", "planned", "MiB more at the peak of a step", "planned",
        "off by", "all of it off by",
    ]  # fmt: skip
    return markdown_table(header, rows)


def configuration(small: Small):
    return AutoConfig.for_model(
        small.kind, hidden_size=small.hidden, intermediate_size=small.intermediate, vocab_size=512,
        num_hidden_layers=small.layers, num_attention_heads=small.heads, num_key_value_heads=small.key_value_heads,
        head_dim=small.head_dim, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def settings(small: Small, folder: str) -> tuple[ModelConfig, TrainingConfig, LoraConfig]:
    model = ModelConfig(
        dtype="bfloat16" if small.nf4 else "float32", attn_implementation=small.attention, load_in_4bit=small.nf4,
        use_bnb_nested_quant=small.nf4, lora_dropout=small.dropout,
    )  # fmt: skip
    training = TrainingConfig(
        output_dir=folder, max_steps=1, per_device_train_batch_size=small.examples, bf16=small.nf4, use_cpu=True,
        gradient_accumulation_steps=2,
        activation_checkpointing=small.checkpointing, max_tokens_per_batch=10**6, report_to="none",
        max_length=small.length,
        save_strategy="no", disable_tqdm=True, logging_strategy="no", train_sampling_strategy="random",
    )  # fmt: skip
    lora = LoraConfig(
        r=small.rank, lora_dropout=small.dropout, target_modules=list(small.targets), task_type="CAUSAL_LM"
    )
    return model, training, lora


def plan(small: Small):
    """The formulas' memory, on a CPU."""
    with tempfile.TemporaryDirectory() as folder:
        model, training, lora = settings(small, folder)
    config = configuration(small)
    shape = measure_shape(config, lora, attention=small.attention)
    setup = setup_of_recipe(config, model, training, on_gpu=False)
    return training_memory(shape, setup, Batch(small.examples, small.length))


def measure(small: Small) -> tuple[int, int, int]:
    """
    Train a step of two batches with the real trainer.

    Returns:
        `tuple[int, int, int]`: Bytes of the model with its adapter, of the optimizer's state, and by how much all of
        torch's allocations grow at its peak.
    """
    with tempfile.TemporaryDirectory() as folder:
        model_config, training, lora = settings(small, folder)
        base = Path(folder) / "base"
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(configuration(small)).save_pretrained(base)
        model = load_base(base, model_config.dtype, small.attention, quantization_of(model_config))
        counter = Allocations()
        trainer = JudgeTrainer(
            model=model, args=training, train_dataset=examples(small), peft_config=lora,
            processing_class=build_tokenizer(), callbacks=[counter],
        )  # fmt: skip
        trainer.train()
        tensors = [*trainer.model.parameters(), *trainer.model.buffers()]
        stored = sum(
            {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values()
        )
        stored += sum(quantization_state(parameter) for parameter in trainer.model.parameters())
        kept = sum(
            value.untyped_storage().nbytes()
            for state in trainer.optimizer.optimizer.state.values()
            for value in state.values()
            if torch.is_tensor(value)
        )
    return stored, kept, counter.peak


def quantization_state(parameter: torch.nn.Parameter) -> int:
    """Bytes of the scales of a weight in 4 bits."""
    state = getattr(parameter, "quant_state", None)
    found = 0
    while state is not None:
        found += state.absmax.nbytes
        state = state.state2 if state.nested else None
    return found


class Allocations(TrainerCallback):
    """How much torch allocates at the peak of a step."""

    def on_step_begin(self, args, state, control, **kwargs):
        gc.collect()
        self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.profiler.__enter__()

    def on_step_end(self, args, state, control, **kwargs):
        self.profiler.__exit__(None, None, None)
        events = [event for event in self.profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
        used = self.peak = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            used += event.nbytes()
            self.peak = max(self.peak, used)


def examples(small: Small) -> Dataset:
    rows = []
    for i in range(2 * small.examples):
        ids = torch.randint(7, 512, (small.length,)).tolist()
        ids[-2:] = [4, 2]
        # Batches have padding, as those of real examples.
        cut = 8 * (i % small.examples)
        ids = ids[cut:]
        labels = [IGNORED] * (len(ids) - 2) + ids[-2:]
        rows.append({"id": str(i), "input_ids": ids, "labels": labels, "votes": [1.0, 0.0, 0.0], "length": len(ids)})
    return Dataset.from_list(rows)


if __name__ == "__main__":
    run_recipe(main)
