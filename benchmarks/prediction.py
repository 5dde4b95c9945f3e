"""
How fast is prediction, against an upper bound and against other implementations? Models of the real size with random
weights, since time does not depend on their values; the same battles for all; one process for each, which run by
turns. On the GPU if there is one, else on the CPU.

    python benchmarks/prediction.py --quick          # the 135M model, a few battles
    python benchmarks/prediction.py --record         # all, to docs/results.md
    python benchmarks/prediction.py --adapter runs/judge --test_file votes.csv   # what each --tta costs and gains
"""

import json
import math
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from devices import DEVICE, device_name, peak_memory, reset_peak_memory, timed
from peft import LoraConfig, get_peft_model
from results import markdown_table, record
from tokenizers import Tokenizer, models, pre_tokenizers
from training import MODELS, compare, relative_speeds
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from lmsys_trl import Judge, encode_battle
from lmsys_trl.config import parse_config
from lmsys_trl.data.sources import read_battles
from lmsys_trl.encoding.batching import pad_left, token_batches
from lmsys_trl.encoding.examples import letter_ids
from lmsys_trl.encoding.template import LETTERS, PROMPT_VERSION
from lmsys_trl.errors import UserError
from lmsys_trl.metrics.functions import log_losses
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.predictions.table import PROBABILITIES, best_order, votes_and_groups
from lmsys_trl.terminal import run_recipe

MAX_LENGTH, WORDS = 2048, [f"word{i}" for i in range(100)]
TITLES = {
    "upper_bound": "the upper bound: the bare backbone without adapter, padding and head",
    "ours": "`Judge.predict_dataset`: from the texts",
    "notebook": "the usual notebook: batches of 4 in file order, all logits",
    "generate": "`generate`: one token with scores, batches of 4",
}
TTA = ("none", "longest:0.1", "uncertain:0.33", "swap")


@dataclass
class BenchmarkConfig:
    """What is measured, and how often."""

    quick: bool = field(default=False, metadata={"help": "The 135M model only, few battles, one repetition."})
    models: list[str] = field(default_factory=lambda: list(MODELS), metadata={"help": "Names of models."})
    implementations: list[str] = field(default_factory=lambda: list(TITLES), metadata={"help": "What is compared."})
    battles: int = field(default=24, metadata={"help": "Battles in a repetition."})
    mean_length: int = field(default=512, metadata={"help": "Mean tokens in an example; log-normal."})
    repetitions: int = field(default=3, metadata={"help": "A few battles are predicted before each, untimed."})
    dtype: str = field(default="float32", metadata={"help": "Of the weights."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16. Some CPUs are slower with it."})
    adapter: str | None = field(default=None, metadata={"help": "Instead of all this, measure --tta with a judge."})
    test_file: str | None = field(default=None, metadata={"help": "Votes for the judge to predict."})
    record: bool = field(default=False, metadata={"help": "Write the tables to docs/results.md."})
    json: str | None = field(default=None, metadata={"help": "A file for the figures."})


def main():
    config, _ = parse_config(BenchmarkConfig)
    if config.quick:
        config.models, config.battles, config.repetitions = ["SmolLM2-135M"], 12, 1
    print(f"Device: {device_name()}", flush=True)
    if config.adapter is not None:
        figures = {"tta": measure_tta(config.adapter, config.test_file)}
        section, blocks = "second_order", show_tta(figures["tta"])
    else:
        section, blocks, by_model = "prediction", [], {}
        for model in config.models:
            by_model[model] = measure(model, config)
            blocks += show(model, by_model[model], config)
        figures = {"ratios": by_model[config.models[0]]["ratios"], "models": by_model}
    if config.record:
        record(section, *blocks)
    if config.json:
        content = {"device": device_name(), **figures}
        Path(config.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def make_battles(num_battles: int, mean_length: int, tokenizer: PreTrainedTokenizerFast) -> list[dict]:
    """
    Battles of random words, a token each. Their lengths are log-normal, and vary so that batches of 4 in file order
    are padded to 1.75 times their tokens, as the competition's first hundred battles are.
    """
    rng, battles = random.Random(0), []
    empty = {"id": "0", "prompt": [""], "response_a": [""], "response_b": [""]}
    template = len(encode_battle(empty, tokenizer, MAX_LENGTH)[-1]["input_ids"])
    for i in range(num_battles):
        length = min(MAX_LENGTH, rng.lognormvariate(math.log(mean_length) - 0.65**2 / 2, 0.65))
        size = max(1, int(length - template) // 3)
        texts = {name: [" ".join(rng.choices(WORDS, k=size))] for name in ("prompt", "response_a", "response_b")}
        battles.append({"id": str(i), **texts})
    return battles


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A token for every word."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", "A", "B", "C", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0]['content'] }}\n"
    return tokenizer


def measure(model: str, config: BenchmarkConfig) -> dict:
    """Seconds of each repetition, battles per second and peak memory of each implementation, and ratios to ours."""
    workers = {name: start(name, model, config, config.battles) for name in config.implementations}
    seconds = {name: [] for name in workers}
    for _ in range(config.repetitions):
        for name, worker in workers.items():
            worker.send("run")
            seconds[name].append(worker.recv())
    gib = {name: stop(worker) for name, worker in workers.items()}
    if "ours" in workers:
        fourfold = start("ours", model, config, 4 * config.battles)
        fourfold.send("run")
        fourfold.recv()
        gib["ours, four times the battles"] = stop(fourfold)
    speed = {name: config.battles / statistics.median(times) for name, times in seconds.items()}
    ratios = {f"to_{name}": statistics.median(values) for name, values in relative_speeds(seconds).items()}
    return {"ratios": ratios, "battles_per_second": speed, "peak_gib_over_loaded_model": gib, "seconds": seconds}


def show(model: str, figures: dict, config: BenchmarkConfig) -> list[str]:
    """The table of a model and what follows from it. Both are printed."""
    title, speed = f"{model}, {config.battles} battles of {config.mean_length} tokens", figures["battles_per_second"]
    rows = [
        [
            TITLES.get(name, "`Judge.predict_dataset`: four times the battles"),
            f"{speed[name]:.2f}" if name in speed else "",
            f"{gib:.2f} GiB",
        ]
        for name, gib in figures["peak_gib_over_loaded_model"].items()
    ]
    blocks = [
        markdown_table([title, "battles/s", "peak memory over the loaded model"], rows),
        *compare(figures["seconds"], TITLES),
    ]
    print("", *blocks, sep="\n\n", flush=True)
    return blocks


def start(name: str, model: str, config: BenchmarkConfig, num_battles: int) -> Connection:
    """A process that predicts all battles whenever it is asked to."""
    context = get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=work, args=(name, model, config, num_battles, there), daemon=True).start()
    there.close()  # so that the end of the worker is an error here
    here.recv()  # ready: one loads at a time
    return here


def stop(worker: Connection) -> float:
    """Its peak of memory over the loaded model, in GiB."""
    worker.send("end")
    return worker.recv()


def work(name: str, model: str, config: BenchmarkConfig, num_battles: int, parent: Connection) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    battles = make_battles(config.battles, config.mean_length, tokenizer) * (num_battles // config.battles)
    examples = [{"input_ids": encode_battle(battle, tokenizer, MAX_LENGTH)[-1]["input_ids"]} for battle in battles]
    base = AutoModelForCausalLM.from_config(MODELS[model], dtype=getattr(torch, config.dtype)).eval().to(DEVICE)
    if name != "upper_bound":
        lora = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
        base = get_peft_model(base, lora).eval()
    if name == "ours":
        judge = Judge(base, tokenizer, describe_judge(tokenizer, config.bf16), base.active_adapter)

        def run(number: int) -> float:
            return timed(lambda: judge.predict_dataset(battles[:number], shard_size=config.battles, progress=False))
    else:
        implementation = {"upper_bound": run_upper_bound, "notebook": run_notebook, "generate": run_generate}[name]

        def run(number: int) -> float:
            with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=config.bf16):
                return implementation(base, examples[:number], tokenizer.pad_token_id)

    run(4)
    loaded = reset_peak_memory()
    parent.send("ready")
    while parent.recv() != "end":
        run(4)  # after a pause weights come back from wherever the system has put them
        parent.send(run(num_battles))
    parent.send(peak_memory() - loaded)


def describe_judge(tokenizer: PreTrainedTokenizerFast, bf16: bool) -> JudgeFile:
    """A judge of random weights, which are in no folder."""
    return JudgeFile(
        prompt_version=PROMPT_VERSION,
        letters={winner: {"letter": LETTERS[winner], "id": i} for winner, i in letter_ids(tokenizer).items()},
        max_length=MAX_LENGTH,
        inference_max_length=MAX_LENGTH,
        temperature=1.03,
        base_model={},
        tokenizer={},
        precision={"autocast": bf16},
    )


def run_upper_bound(model: PreTrainedModel, examples: list[dict], pad: int) -> float:
    """The faster of two ways to compute what every prediction needs: one by one, or batches as full rectangles."""

    def run(rectangles: list[torch.Tensor]) -> None:
        for tokens in rectangles:
            model.model(input_ids=tokens, use_cache=False)

    one_by_one = [torch.tensor([example["input_ids"]]).to(DEVICE) for example in examples]
    rectangles = []
    for batch in token_batches([len(example["input_ids"]) for example in examples], 4096):
        tokens = torch.tensor([token for i in batch for token in examples[i]["input_ids"]])
        tokens = tokens[: len(tokens) // len(batch) * len(batch)].view(len(batch), -1)
        rectangles.append(tokens.to(DEVICE))
    return min(timed(lambda: run(one_by_one)), timed(lambda: run(rectangles)))


def batches_of_four(examples: list[dict], pad: int) -> Iterator[dict[str, torch.Tensor]]:
    for first in range(0, len(examples), 4):
        batch = pad_left(examples[first : first + 4], pad)
        yield {key: tensor.to(DEVICE) for key, tensor in batch.items()}


def run_notebook(model: PreTrainedModel, examples: list[dict], pad: int) -> float:
    def run() -> None:
        for batch in batches_of_four(examples, pad):
            model(**batch, use_cache=False).logits[:, -1, :3].softmax(-1)

    return timed(run)


def run_generate(model: PreTrainedModel, examples: list[dict], pad: int) -> float:
    options = {
        "max_new_tokens": 1, "do_sample": False, "output_scores": True, "return_dict_in_generate": True,
        "pad_token_id": pad,
    }  # fmt: skip

    def run() -> None:
        for batch in batches_of_four(examples, pad):
            batch.pop("position_ids")
            model.generate(**batch, **options).scores[0][:, :3].softmax(-1)

    return timed(run)


def measure_tta(adapter: str, test_file: str | None) -> dict:
    """What each kind of test-time augmentation costs in seconds, and gains in log loss."""
    if test_file is None:
        raise UserError("test_file: missing. Name votes for the judge to predict")
    judge, figures = Judge.from_pretrained(adapter), {}
    battles, _ = read_battles(test_file)
    for tta in TTA:
        began = time.perf_counter()
        predictions = judge.predict_dataset(battles, tta=tta, progress=False)
        seconds = time.perf_counter() - began
        best = predictions[predictions["order"] == best_order(predictions)]
        loss = float(log_losses(best[PROBABILITIES].to_numpy(), votes_and_groups(best)[0]).mean())
        figures[tta] = {"battles": len(battles), "seconds": seconds, "log_loss": loss}
    return figures


def show_tta(figures: dict) -> list[str]:
    title = f"`--tta`, {figures['none']['battles']} battles"
    rows = [[f"`{tta}`", f"{found['seconds']:.1f}", f"{found['log_loss']:.4f}"] for tta, found in figures.items()]
    table = markdown_table([title, "seconds", "log loss"], rows)
    print(f"\n{table}", flush=True)
    return [table]


if __name__ == "__main__":
    run_recipe(main)
