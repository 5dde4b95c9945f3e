"""
How fast is a training step, against the limit and against what people use? Models of the real size with random
weights, since time does not depend on their values; the same rows, LoRA and number of battles a step for all; one
process for each, which take their steps in turn.

    python benchmarks/training.py --quick          # the 135M model, under three minutes
    python benchmarks/training.py --json speed.json
"""

import json
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import BatchRebalanceSampler
from trl import SFTConfig, SFTTrainer

from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.rows import IGNORED
from lmsys_trl.trainer import JudgeTrainer, TrainingConfig

# The shapes of SmolLM2-135M and gemma-3-270m.
CONFIGS = {
    "SmolLM2-135M": LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, rope_theta=100_000,
    ),
    "gemma-3-270m": Gemma3TextConfig(
        vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, tie_word_embeddings=True,
    ),
}  # fmt: skip
CONTESTANTS = ("limit", "ours", "trl", "plain")
TITLES = {
    "limit": "the bare backbone, no padding, no head",
    "ours": "recipes/sft.py",
    "trl": "trl.SFTTrainer as it comes",
    "plain": "transformers.Trainer, batch 4, all logits",
}

KINDS = {  # operators of torch, as the profiler names them
    "matrix products of the layers and LoRA": ("mm", "addmm", "linear", "matmul", "mkldnn_convolution"),
    "attention: products and softmax": ("bmm", "baddbmm", "_softmax", "_softmax_backward_data"),
    "casts between float32 and bfloat16, copies": ("copy_", "_to_copy", "clone", "cat"),
    "element by element: norms, activations, sums": (
        "mul", "add", "add_", "mul_", "neg", "silu", "silu_backward", "pow", "mean", "sum", "rsqrt", "div", "gelu",
        "tanh", "gelu_backward", "tanh_backward", "fill_", "masked_fill_", "sigmoid",
    ),
}  # fmt: skip


@dataclass
class BenchmarkConfig:
    """What is measured, and how often."""

    quick: bool = field(default=False, metadata={"help": "The 135M model only, fewer steps."})
    models: list[str] = field(default_factory=lambda: list(CONFIGS), metadata={"help": "Names of models."})
    battles_per_step: int = field(default=8, metadata={"help": "Battles in an optimizer step."})
    mean_length: int = field(
        default=200, metadata={"help": "Tokens in a row on average; log-normal as real ones are."}
    )
    contestants: list[str] = field(default_factory=lambda: list(CONTESTANTS), metadata={"help": "Who takes part."})
    steps: int = field(default=5, metadata={"help": "Steps of each that are timed, after one that is not."})
    rows_at_once: int = field(default=1, metadata={"help": "Our per_device_train_batch_size."})
    dtype: str = field(default="float32", metadata={"help": "Of the frozen weights."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16: faster or slower, as the CPU is."})
    layers: list[int] | None = field(default=None, metadata={"help": "Layers with LoRA (all unless told)."})
    torch_compile: bool = field(default=False, metadata={"help": "Compile our model."})
    profile: bool = field(default=False, metadata={"help": "Show what our steps are spent on instead."})
    json: str | None = field(default=None, metadata={"help": "A file for the figures."})


def main():
    config, _ = parse_config(BenchmarkConfig)
    if config.quick:
        config.models, config.steps = ["SmolLM2-135M"], 2
    if config.profile:
        for model in config.models:
            show_profile(model, config)
        return
    figures = {}
    for model in config.models:
        figures[model] = measure(model, config)
        show(model, figures[model], config)
    if config.json:
        first = figures[config.models[0]]["ratios"]
        Path(config.json).write_text(
            json.dumps({"ratios": first, "models": figures}, indent=2) + "\n", encoding="utf-8"
        )


def make_rows(num_rows: int, mean_length: int, vocabulary: int) -> list[dict]:
    """Rows of random tokens, as long as battles are: log-normal, and none above three times the mean."""
    rng, rows = random.Random(0), []
    for i in range(num_rows):
        length = min(3 * mean_length, 30 + int(rng.lognormvariate(0, 0.8) * (mean_length - 30) / 1.377))
        ids = [rng.randrange(10, vocabulary) for _ in range(length)]
        labels = [IGNORED] * (length - 2) + ids[-2:]
        rows.append({"id": str(i), "input_ids": ids, "labels": labels, "votes": [1.0, 0.0, 0.0], "length": length})
    return rows


def measure(model: str, config: BenchmarkConfig) -> dict:
    context, workers = get_context("spawn"), {}
    for name in config.contestants:
        here, there = context.Pipe()
        process = context.Process(target=work, args=(name, model, config, there), daemon=True)
        process.start()
        there.close()  # so that the end of the worker is an error here
        workers[name] = here
    for worker in workers.values():
        worker.recv()  # ready
    seconds = {name: [] for name in config.contestants}
    for step in range(config.steps + 1):
        for name, worker in workers.items():
            worker.send("step")
            elapsed = worker.recv()
            if step:
                seconds[name].append(elapsed)
    gib = {}
    for name, worker in workers.items():
        worker.send("end")
        gib[name] = worker.recv()
    rows = make_rows(config.battles_per_step * (config.steps + 1), config.mean_length, CONFIGS[model].vocab_size)
    tokens = [
        sum(row["length"] for row in rows[i : i + config.battles_per_step])
        for i in range(config.battles_per_step, len(rows), config.battles_per_step)
    ]
    speed = {name: statistics.median(n / s for n, s in zip(tokens, seconds[name], strict=True)) for name in seconds}
    # Ratios of the same step, which is the same work, so that a slow minute of the machine hits all.
    ratio = {
        f"to_{name}": statistics.median(
            other / ours for other, ours in zip(seconds[name], seconds["ours"], strict=True)
        )
        for name in seconds
        if name != "ours"
    }
    return {
        "ratios": ratio,
        "memory_to_limit": gib["ours"] / gib["limit"],
        "tokens_per_second": speed,
        "peak_gib_over_loaded_model": gib,
        "seconds": seconds,
    }


def show(model: str, figures: dict, config: BenchmarkConfig) -> None:
    print(f"\n{model}, {config.battles_per_step} battles a step, {config.mean_length} tokens each on average")
    print(f"{'':42} tokens/s  peak GiB over the loaded model")
    for name in figures["seconds"]:
        speed, gib = figures["tokens_per_second"][name], figures["peak_gib_over_loaded_model"][name]
        print(f"{TITLES[name]:42} {speed:8.0f} {gib:9.2f}")
    ratios = ", ".join(f"{key} {value:.2f}" for key, value in figures["ratios"].items())
    print(f"speed: {ratios}; memory to_limit {figures['memory_to_limit']:.2f}", flush=True)


def show_profile(model: str, config: BenchmarkConfig) -> None:
    """Our steps under the profiler of torch: the share of each kind of work, as its operators count themselves."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work("ours", model, config, None)
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    kinds = dict.fromkeys([*KINDS, "the optimizer", "all else"], 0.0)
    for event in events:
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in KINDS.items() if name in names), "all else")
        kinds["the optimizer" if "Optimizer" in name or "_foreach" in name else kind] += event.self_cpu_time_total
    print(f"\n{model}, {config.steps + 1} steps and their preparation, {total / 1e6:.0f} seconds of all operators")
    for kind, microseconds in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"{kind:42} {microseconds / total:6.1%}")


def work(name: str, model: str, config: BenchmarkConfig, parent: Connection | None) -> None:
    """Takes a step whenever the parent says so; without one, all at once."""
    torch.manual_seed(0)
    rows = make_rows(config.battles_per_step * (config.steps + 1), config.mean_length, CONFIGS[model].vocab_size)
    base = AutoModelForCausalLM.from_config(
        CONFIGS[model], dtype=getattr(torch, config.dtype), attn_implementation="eager"
    )
    lora = LoraConfig(
        r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM",
        layers_to_transform=config.layers,
    )  # fmt: skip
    if name == "limit":
        run_limit(get_peft_model(base, lora), our_batches(rows, config), rows, config.bf16, parent)
        return
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "output_dir": folder, "num_train_epochs": 1, "learning_rate": 1e-5, "bf16": config.bf16, "use_cpu": True,
            "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1000,
        }  # fmt: skip
        data = Dataset.from_list(rows)
        turns = {"callbacks": [InTurns(parent)] if parent else []}
        if name == "ours":
            options |= {
                "battles_per_step": config.battles_per_step, "per_device_train_batch_size": config.rows_at_once,
                "torch_compile": config.torch_compile,
            }  # fmt: skip
            trainer = JudgeTrainer(
                model=base, args=TrainingConfig(**options), train_dataset=data, peft_config=lora,
                processing_class=tokenizer(), **turns,
            )  # fmt: skip
        elif name == "trl":
            options |= {"per_device_train_batch_size": config.battles_per_step, "max_length": None}
            trainer = SFTTrainer(
                model=base, args=SFTConfig(**options), train_dataset=data.select_columns(["input_ids", "labels"]),
                peft_config=lora, processing_class=tokenizer(), **turns,
            )  # fmt: skip
        else:
            options |= {
                "per_device_train_batch_size": 4, "gradient_accumulation_steps": max(1, config.battles_per_step // 4),
                "remove_unused_columns": False,
            }  # fmt: skip
            trainer = Trainer(
                model=get_peft_model(base, lora), args=TrainingArguments(**options), train_dataset=data,
                data_collator=pad_right, **turns,
            )  # fmt: skip
        sampler = our_batches(rows, config) if name == "ours" else torch.utils.data.SequentialSampler(data)
        trainer._get_train_sampler = lambda *_: sampler  # the same battles in each step for all
        trainer.train()


def tokenizer() -> PreTrainedTokenizerFast:
    """Rows are made already, but trainers want to know how to pad, and ours what the letters are."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", "A", "B", "C"])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    return tokenizer


class InTurns(TrainerCallback):
    """Lets a training take one step at a time, and tells how long each took."""

    def __init__(self, parent: Connection):
        self.parent, self.start = parent, None

    def on_step_begin(self, args, state, control, **kwargs):
        wait_for_turn(self.parent, first=self.start is None)
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.parent.send(time.perf_counter() - self.start)

    def on_train_end(self, args, state, control, **kwargs):
        tell_memory(self.parent)


def wait_for_turn(parent: Connection, first: bool) -> None:
    if first:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        wait_for_turn.loaded = memory("VmRSS")
        parent.send("ready")
    parent.recv()


def tell_memory(parent: Connection) -> None:
    parent.recv()
    parent.send(memory("VmHWM") - wait_for_turn.loaded)


def memory(name: str) -> float:
    """GiB of this process: `VmRSS` now, or `VmHWM` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20


def our_batches(rows: list[dict], config: BenchmarkConfig) -> BatchRebalanceSampler:
    """The batches of recipes/sft.py, with the rows of each step in the order given."""
    num_batches = config.battles_per_step // config.rows_at_once
    lengths = [row["length"] for row in rows]
    return BatchRebalanceSampler(lengths, config.battles_per_step, 1, num_batches, shuffle=False)


def run_limit(model, batches: BatchRebalanceSampler, rows: list[dict], bf16: bool, parent: Connection) -> None:
    """
    Forward and backward of what every training needs: the backbone with its LoRA, over the tokens of our batches as
    full rectangles, as if all rows of a batch were equally long.
    """
    backbone = model.get_base_model().model
    for number, batch in enumerate(batches):
        if number % batches.grad_accum == 0:
            wait_for_turn(parent, first=number == 0)
            began = time.perf_counter()
        tokens = [token for index in batch for token in rows[index]["input_ids"]]
        tokens = torch.tensor(tokens[: len(tokens) // len(batch) * len(batch)]).view(len(batch), -1)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            hidden = backbone(input_ids=tokens, use_cache=False).last_hidden_state
        hidden[:, -3:].float().square().mean().backward()
        if (number + 1) % batches.grad_accum == 0:
            model.zero_grad()
            parent.send(time.perf_counter() - began)
    tell_memory(parent)


def pad_right(rows: list[dict]) -> dict[str, torch.Tensor]:
    longest = max(row["length"] for row in rows)

    def pad(key: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[key] + [filler] * (longest - row["length"]) for row in rows])

    mask = torch.tensor([[1] * row["length"] + [0] * (longest - row["length"]) for row in rows])
    return {"input_ids": pad("input_ids", 0), "labels": pad("labels", IGNORED), "attention_mask": mask}


if __name__ == "__main__":
    run_recipe(main)
