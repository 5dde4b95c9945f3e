"""
How fast is a training step, against an upper bound and against other implementations? Models of the real size with
random weights, since time does not depend on their values; the same examples, LoRA and number of battles a step for
all; one process for each, which take steps by turns. On the GPU if there is one, else on the CPU.

    python benchmarks/training.py --quick          # the 135M model, under three minutes on two cores
    python benchmarks/training.py --record         # all, to docs/results.md
    python benchmarks/training.py --max_tokens_per_batch 256 512 1024 --implementations upper_bound ours --record
"""

import json
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from datasets import Dataset
from devices import CUDA, DEVICE, device_name, peak_memory, reset_peak_memory, synchronize
from peft import LoraConfig, PeftModel, get_peft_model
from results import markdown_table, record
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

from lmsys_trl.battle import WINNERS
from lmsys_trl.config import parse_config
from lmsys_trl.encoding.batching import token_batches
from lmsys_trl.encoding.examples import IGNORED, letter_ids
from lmsys_trl.models.head import MODULE, install_head
from lmsys_trl.terminal import run_recipe
from lmsys_trl.training.config import TrainingConfig
from lmsys_trl.training.trainer import JudgeTrainer

# The shapes of SmolLM2-135M and gemma-3-270m.
MODELS = {
    "SmolLM2-135M": LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, rope_theta=100_000,
    ),
    "gemma-3-270m": Gemma3TextConfig(
        vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, tie_word_embeddings=True,
    ),
}  # fmt: skip
TITLES = {
    "upper_bound": "the upper bound: the bare backbone with the same LoRA, no padding, no head",
    "ours": "`recipes/sft.py`: `head: new` and `loss: letters`, as in the YAMLs of both",
    "vocabulary": "the same over the vocabulary: `loss: answer`, the base model's head at letter and end token",
    "trl": "`trl.SFTTrainer`: its defaults",
    "plain": "`transformers.Trainer`: batches of 4 in file order, all logits",
}


@dataclass
class BenchmarkConfig:
    """What is measured, and how often."""

    quick: bool = field(default=False, metadata={"help": "The 135M model only, fewer steps."})
    models: list[str] = field(default_factory=lambda: list(MODELS), metadata={"help": "Names of models."})
    battles_per_step: int = field(default=8, metadata={"help": "Battles in an optimizer step."})
    mean_length: int = field(
        default=200, metadata={"help": "Mean tokens in an example; log-normal, as real lengths are."}
    )
    implementations: list[str] = field(default_factory=lambda: list(TITLES), metadata={"help": "What is compared."})
    steps: int = field(default=5, metadata={"help": "Timed steps of each, after one that is not timed."})
    per_device_train_batch_size: int = field(default=1, metadata={"help": "Examples in our micro-batches."})
    max_tokens_per_batch: list[int] = field(
        default_factory=list, metadata={"help": "Compared as well: all battles of a step, divided by these tokens."}
    )
    dtype: str = field(default="float32", metadata={"help": "Of the frozen weights."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16. Some CPUs are slower with it."})
    layers: list[int] | None = field(default=None, metadata={"help": "Layers with LoRA (default: all)."})
    torch_compile: bool = field(default=False, metadata={"help": "Compile our model."})
    record: bool = field(default=False, metadata={"help": "Write the tables to docs/results.md."})
    json: str | None = field(default=None, metadata={"help": "A file for the figures."})


def main():
    config = parse_benchmark()
    alone = config.per_device_train_batch_size == 1 and not config.max_tokens_per_batch
    section, blocks, figures = "training" if alone else "training_batches", [], {}
    config.implementations = [*config.implementations, *map(str, config.max_tokens_per_batch)]
    for model in config.models:
        figures[model] = measure(model, config)
        blocks += show(model, figures[model], config)
    if config.record:
        record(section, *blocks)
    if config.json:
        content = {"device": device_name(), "ratios": figures[config.models[0]]["ratios"], "models": figures}
        Path(config.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def parse_benchmark() -> BenchmarkConfig:
    config, _ = parse_config(BenchmarkConfig)
    if config.quick:
        config.models, config.steps = ["SmolLM2-135M"], 2
    print(f"Device: {device_name()}", flush=True)
    return config


def make_examples(num_examples: int, mean_length: int, vocabulary: int) -> list[dict]:
    """Examples of random tokens with log-normal lengths, as battles have, of at most three times the mean."""
    rng, examples = random.Random(0), []
    for i in range(num_examples):
        length = min(3 * mean_length, 30 + int(rng.lognormvariate(0, 0.8) * (mean_length - 30) / 1.377))
        ids = [rng.randrange(10, vocabulary) for _ in range(length)]
        labels = [IGNORED] * (length - 2) + ids[-2:]
        examples.append({"id": str(i), "input_ids": ids, "labels": labels, "votes": [1.0, 0.0, 0.0], "length": length})
    return examples


def examples_of(model: str, config: BenchmarkConfig) -> list[dict]:
    """Those of all steps, with the one that is not timed."""
    return make_examples(config.battles_per_step * (config.steps + 1), config.mean_length, MODELS[model].vocab_size)


def measure(model: str, config: BenchmarkConfig) -> dict:
    """Seconds of each step, tokens per second and peak memory of each implementation, and ratios to ours."""
    context, workers = get_context("spawn"), {}
    for name in config.implementations:
        here, there = context.Pipe()
        process = context.Process(target=work, args=(name, model, config, there), daemon=True)
        process.start()
        there.close()  # so that the end of the worker is an error here
        workers[name] = here
    for worker in workers.values():
        worker.recv()  # ready
    seconds = {name: [] for name in config.implementations}
    for step in range(config.steps + 1):
        # Another one begins each step, since all would follow the same one else, and its caches and freed memory.
        first = step % len(workers)
        for name in [*config.implementations[first:], *config.implementations[:first]]:
            workers[name].send("step")
            elapsed = workers[name].recv()
            if step:
                seconds[name].append(elapsed)
    gib = {}
    for name, worker in workers.items():
        worker.send("end")
        gib[name] = worker.recv()
    examples = examples_of(model, config)
    tokens = [
        sum(example["length"] for example in examples[i : i + config.battles_per_step])
        for i in range(config.battles_per_step, len(examples), config.battles_per_step)
    ]
    speed = {name: statistics.median(n / s for n, s in zip(tokens, seconds[name], strict=True)) for name in seconds}
    ratios = {f"to_{name}": statistics.median(values) for name, values in relative_speeds(seconds).items()}
    figures = {"ratios": ratios, "tokens_per_second": speed, "peak_gib_over_loaded_model": gib, "seconds": seconds}
    if {"ours", "upper_bound"} <= gib.keys() and gib["upper_bound"]:
        figures["memory_to_upper_bound"] = gib["ours"] / gib["upper_bound"]
    return figures


def relative_speeds(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """
    Our speed as a multiple of each other implementation's, in each step. The same step is the same work, and a slow
    minute of the machine hits all.
    """
    ours = seconds.get("ours", [])
    others = {name: times for name, times in seconds.items() if name != "ours" and ours}
    return {name: [other / own for other, own in zip(times, ours, strict=True)] for name, times in others.items()}


def compare(seconds: dict[str, list[float]], titles: dict[str, str]) -> list[str]:
    """A sentence with the medians and ranges of [`relative_speeds`], if anything is compared with ours."""
    names = {name: title.partition(":")[0] for name, title in titles.items()}
    found = [
        f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) times {names[name]}"
        for name, values in relative_speeds(seconds).items()
    ]
    return [f"Speed of {names['ours']}, median (range) on the same work: {', '.join(found)}."] if found else []


def show(model: str, figures: dict, config: BenchmarkConfig) -> list[str]:
    """The table of a model and what follows from it. Both are printed."""
    batch = config.per_device_train_batch_size
    title = f"{model}, {batch} example{'s' * (batch > 1)} at a time"
    titles = TITLES | {str(tokens): title_of_budget(tokens, model, config) for tokens in config.max_tokens_per_batch}
    rows = [
        [titles[name], f"{speed:.0f}", f"{figures['peak_gib_over_loaded_model'][name]:.2f} GiB"]
        for name, speed in figures["tokens_per_second"].items()
    ]
    blocks = [
        markdown_table([title, "tokens/s", "peak memory over the loaded model"], rows),
        *compare(figures["seconds"], titles),
    ]
    if "memory_to_upper_bound" in figures:
        blocks[-1] += f" Memory: {figures['memory_to_upper_bound']:.2f} times the upper bound."
    print("", *blocks, sep="\n\n", flush=True)
    return blocks


def title_of_budget(max_tokens: int, model: str, config: BenchmarkConfig) -> str:
    """What `max_tokens_per_batch` comes to: the fraction of padding."""
    examples = examples_of(model, config)
    lengths, padded = [example["length"] for example in examples], 0
    for start in range(0, len(lengths), config.battles_per_step):
        step = lengths[start : start + config.battles_per_step]
        padded += sum(len(batch) * step[batch[0]] for batch in token_batches(step, max_tokens))
    return f"batches of at most {max_tokens} tokens: {1 - sum(lengths) / padded:.1%} padding"


def work(name: str, model: str, config: BenchmarkConfig, parent: Connection | None) -> None:
    """Train with one implementation: a step whenever the parent asks for one, or all at once without a parent."""
    torch.manual_seed(0)
    examples = examples_of(model, config)
    base = AutoModelForCausalLM.from_config(
        MODELS[model], dtype=getattr(torch, config.dtype), attn_implementation="eager"
    )
    lora = LoraConfig(
        r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM",
        layers_to_transform=config.layers,
    )  # fmt: skip
    if name == "upper_bound":
        run_upper_bound(
            get_peft_model(base, lora).to(DEVICE), our_batches(examples, config), examples, config.bf16, parent
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "output_dir": folder, "num_train_epochs": 1, "learning_rate": 1e-5, "bf16": config.bf16,
            "use_cpu": not CUDA, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
            "logging_steps": 1000,
        }  # fmt: skip
        data = Dataset.from_list(examples)
        callbacks = {"callbacks": [StepByStep(parent)] if parent else []}
        if name in ("ours", "vocabulary") or name.isdigit():
            tokenizer = build_tokenizer()
            if name != "vocabulary":
                letters = letter_ids(tokenizer)
                install_head(base, "new", [letters[winner] for winner in WINNERS])
                lora.modules_to_save, options["loss"] = [MODULE], "letters"
            if name.isdigit():
                config = replace(config, per_device_train_batch_size=config.battles_per_step)
                options["max_tokens_per_batch"] = int(name)
            options |= {
                "battles_per_step": config.battles_per_step, "torch_compile": config.torch_compile,
                "per_device_train_batch_size": config.per_device_train_batch_size,
            }  # fmt: skip
            trainer = JudgeTrainer(
                model=base, args=TrainingConfig(**options), train_dataset=data, peft_config=lora,
                processing_class=tokenizer, **callbacks,
            )  # fmt: skip
        elif name == "trl":
            options |= {"per_device_train_batch_size": config.battles_per_step, "max_length": None}
            trainer = SFTTrainer(
                model=base, args=SFTConfig(**options), train_dataset=data.select_columns(["input_ids", "labels"]),
                peft_config=lora, processing_class=build_tokenizer(), **callbacks,
            )  # fmt: skip
        else:
            options |= {
                "per_device_train_batch_size": 4, "gradient_accumulation_steps": max(1, config.battles_per_step // 4),
                "remove_unused_columns": False,
            }  # fmt: skip
            trainer = Trainer(
                model=get_peft_model(base, lora), args=TrainingArguments(**options), train_dataset=data,
                data_collator=pad_right, **callbacks,
            )  # fmt: skip
        is_ours = isinstance(trainer, JudgeTrainer)
        sampler = our_batches(examples, config) if is_ours else torch.utils.data.SequentialSampler(data)
        trainer._get_train_sampler = lambda *_: sampler  # the same battles in each step for all
        trainer.train()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Examples are tokens already, but trainers need a token to pad with, and ours the letters' tokens."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", "A", "B", "C"])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    return tokenizer


class StepByStep(TrainerCallback):
    """Makes a training wait for its parent before each step, and report how long the step took."""

    def __init__(self, parent: Connection):
        self.parent, self.start = parent, None

    def on_step_begin(self, args, state, control, **kwargs):
        if self.start is None:
            self.loaded = report_ready(self.parent)
        self.parent.recv()
        synchronize()
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        synchronize()
        self.parent.send(time.perf_counter() - self.start)

    def on_train_end(self, args, state, control, **kwargs):
        report_memory(self.parent, self.loaded)


def report_ready(parent: Connection) -> float:
    """Tell the parent that the model is loaded. Returns its GiB, and measures the peak from here on."""
    loaded = reset_peak_memory()
    parent.send("ready")
    return loaded


def report_memory(parent: Connection, loaded: float) -> None:
    """Wait for the end, and send the peak of memory over the loaded model in GiB."""
    parent.recv()
    parent.send(peak_memory() - loaded)


def our_batches(examples: list[dict], config: BenchmarkConfig) -> BatchRebalanceSampler:
    """The batches of recipes/sft.py, with the examples of each step in the order given."""
    num_batches = config.battles_per_step // config.per_device_train_batch_size
    lengths = [example["length"] for example in examples]
    return BatchRebalanceSampler(lengths, config.battles_per_step, 1, num_batches, shuffle=False)


def run_upper_bound(
    model: PeftModel, batches: BatchRebalanceSampler, examples: list[dict], bf16: bool, parent: Connection
) -> None:
    """
    Forward and backward pass of what every training needs: the backbone with its LoRA, over the tokens of our batches
    as full rectangles, as if all examples of a batch were equally long.
    """
    backbone = model.get_base_model().model
    loaded = report_ready(parent)
    for number, batch in enumerate(batches):
        if number % batches.grad_accum == 0:
            parent.recv()
            synchronize()
            began = time.perf_counter()
        tokens = [token for index in batch for token in examples[index]["input_ids"]]
        tokens = torch.tensor(tokens[: len(tokens) // len(batch) * len(batch)]).view(len(batch), -1).to(DEVICE)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            hidden = backbone(input_ids=tokens, use_cache=False).last_hidden_state
        hidden[:, -3:].float().square().mean().backward()
        if (number + 1) % batches.grad_accum == 0:
            model.zero_grad()
            synchronize()
            parent.send(time.perf_counter() - began)
    report_memory(parent, loaded)


def pad_right(examples: list[dict]) -> dict[str, torch.Tensor]:
    """A batch as most collators make it."""
    longest = max(example["length"] for example in examples)

    def pad(key: str, filler: int) -> torch.Tensor:
        return torch.tensor([example[key] + [filler] * (longest - example["length"]) for example in examples])

    mask = torch.tensor([[1] * e["length"] + [0] * (longest - e["length"]) for e in examples])
    return {"input_ids": pad("input_ids", 0), "labels": pad("labels", IGNORED), "attention_mask": mask}


if __name__ == "__main__":
    run_recipe(main)
