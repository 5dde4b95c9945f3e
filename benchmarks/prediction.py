"""
How fast is prediction, against the limit and against what people use? Models of the real size with random weights,
since time does not depend on their values; the same battles for all; one process for each, which take turns.

    python benchmarks/prediction.py --quick          # the 135M model, a few battles
    python benchmarks/prediction.py --json speed.json
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
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from training import CONFIGS, memory
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from lmsys_trl import Judge, encode_battle
from lmsys_trl.batching import pad_left, token_batches
from lmsys_trl.calibration import log_losses
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.predictions import PROBABILITIES, best_order, votes_and_groups
from lmsys_trl.rows import letter_ids
from lmsys_trl.sources import read_battles

MAX_LENGTH, WORDS = 2048, [f"word{i}" for i in range(100)]
TITLES = {
    "limit": "the bare backbone, no padding, no head",
    "ours": "Judge.predict_dataset, texts and all",
    "notebook": "batches of 4 in file order, all logits",
    "generate": "generate of one token with scores, batches of 4",
}
TTA = ("none", "longest:0.1", "uncertain:0.33", "swap")


@dataclass
class BenchmarkConfig:
    """What is measured, and how often."""

    quick: bool = field(default=False, metadata={"help": "The 135M model only, few battles, one round."})
    models: list[str] = field(default_factory=lambda: list(CONFIGS), metadata={"help": "Names of models."})
    contestants: list[str] = field(default_factory=lambda: list(TITLES), metadata={"help": "Who takes part."})
    battles: int = field(default=24, metadata={"help": "Battles in a round."})
    mean_length: int = field(default=512, metadata={"help": "Tokens in a row on average; log-normal."})
    rounds: int = field(default=3, metadata={"help": "Rounds; a few battles go before each, untimed."})
    dtype: str = field(default="float32", metadata={"help": "Of the weights."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16: faster or slower, as the CPU is."})
    adapter: str | None = field(default=None, metadata={"help": "In place of all this: a judge, for --tta."})
    test_file: str | None = field(default=None, metadata={"help": "Votes for the judge to predict."})
    json: str | None = field(default=None, metadata={"help": "A file for the figures."})


def main():
    config, _ = parse_config(BenchmarkConfig)
    if config.quick:
        config.models, config.battles, config.rounds = ["SmolLM2-135M"], 12, 1
    if config.adapter is not None:
        figures = {"tta": what_tta_costs_and_gains(config.adapter, config.test_file)}
    else:
        by_model = {model: measure(model, config) for model in config.models}
        figures = {"ratios": by_model[config.models[0]]["ratios"], "models": by_model}
    if config.json:
        Path(config.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def make_battles(num_battles: int, mean_length: int, tokenizer: PreTrainedTokenizerFast) -> list[dict]:
    """
    Battles of random words, a token each. Their lengths are log-normal, and vary so that batches of 4 in file order
    are padded to 1.75 times their tokens, as the competition's first hundred battles are.
    """
    rng, battles = random.Random(0), []
    empty = {"id": "0", "prompt": [""], "response_a": [""], "response_b": [""]}
    frame = len(encode_battle(empty, tokenizer, MAX_LENGTH)[-1]["input_ids"])
    for i in range(num_battles):
        length = min(MAX_LENGTH, rng.lognormvariate(math.log(mean_length) - 0.65**2 / 2, 0.65))
        size = max(1, int(length - frame) // 3)
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
    workers = {name: start(name, model, config, config.battles) for name in config.contestants}
    seconds = {name: [] for name in workers}
    for _ in range(config.rounds):
        for name, worker in workers.items():
            worker.send("round")
            seconds[name].append(worker.recv())
    gib = {name: stop(worker) for name, worker in workers.items()}
    if "ours" in workers:
        fourfold = start("ours", model, config, 4 * config.battles)
        fourfold.send("round")
        fourfold.recv()
        gib["ours, four times the battles"] = stop(fourfold)
    speed = {name: config.battles / statistics.median(times) for name, times in seconds.items()}
    # Ratios of the same round, so that a slow minute of the machine hits all.
    ratios = {
        f"to_{name}": statistics.median(other / ours for other, ours in zip(times, seconds["ours"], strict=True))
        for name, times in seconds.items()
        if name != "ours" and "ours" in seconds
    }
    print(f"\n{model}, {config.battles} battles of {config.mean_length} tokens on average")
    print(f"{'':50} battles/s  peak GiB over the loaded model")
    for name, value in gib.items():
        rate = f"{speed[name]:9.2f}" if name in speed else " " * 9
        print(f"{TITLES.get(name, name):50} {rate} {value:9.2f}")
    print("speed: " + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items()), flush=True)
    return {"ratios": ratios, "battles_per_second": speed, "peak_gib_over_loaded_model": gib, "seconds": seconds}


def start(name: str, model: str, config: BenchmarkConfig, num_battles: int) -> Connection:
    """A process that plays a round whenever it is told to."""
    context = get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=work, args=(name, model, config, num_battles, there), daemon=True).start()
    there.close()  # so that the end of the worker is an error here
    here.recv()  # ready: one loads at a time
    return here


def stop(worker: Connection) -> float:
    worker.send("end")
    return worker.recv()


def work(name: str, model: str, config: BenchmarkConfig, num_battles: int, parent: Connection) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    battles = make_battles(config.battles, config.mean_length, tokenizer) * (num_battles // config.battles)
    rows = [{"input_ids": encode_battle(battle, tokenizer, MAX_LENGTH)[-1]["input_ids"]} for battle in battles]
    base = AutoModelForCausalLM.from_config(CONFIGS[model], dtype=getattr(torch, config.dtype)).eval()
    if name != "limit":
        lora = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
        base = get_peft_model(base, lora).eval()
    play = {"limit": play_limit, "notebook": play_notebook, "generate": play_generate}.get(name)
    if name == "ours":
        settings = {
            "letters": {winner: {"id": token} for winner, token in letter_ids(tokenizer).items()},
            "inference_max_length": MAX_LENGTH,
            "temperature": 1.03,
            "precision": {"autocast": config.bf16},
        }
        judge = Judge(base, tokenizer, settings, base.active_adapter)

        def take_turn(number: int) -> float:
            return timed(
                lambda: judge.predict_dataset(battles[:number], battles_per_part=config.battles, progress=False)
            )
    else:

        def take_turn(number: int) -> float:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
                return play(base, rows[:number], tokenizer.pad_token_id)

    take_turn(4)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    loaded = memory("VmRSS")
    parent.send("ready")
    while parent.recv() != "end":
        take_turn(4)  # after a pause weights come back from wherever the system has put them
        parent.send(take_turn(num_battles))
    parent.send(memory("VmHWM") - loaded)


def timed(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def play_limit(model: PreTrainedModel, rows: list[dict], pad: int) -> float:
    """The faster of two ways to compute what every forecast needs: row after row, or batches as full rectangles."""

    def run(rectangles: list[torch.Tensor]) -> None:
        for tokens in rectangles:
            model.model(input_ids=tokens, use_cache=False)

    one_by_one = [torch.tensor([row["input_ids"]]) for row in rows]
    rectangles = []
    for batch in token_batches([len(row["input_ids"]) for row in rows], 4096):
        tokens = torch.tensor([token for i in batch for token in rows[i]["input_ids"]])
        rectangles.append(tokens[: len(tokens) // len(batch) * len(batch)].view(len(batch), -1))
    return min(timed(lambda: run(one_by_one)), timed(lambda: run(rectangles)))


def fours(rows: list[dict], pad: int) -> Iterator[dict]:
    for first in range(0, len(rows), 4):
        yield pad_left(rows[first : first + 4], pad)


def play_notebook(model: PreTrainedModel, rows: list[dict], pad: int) -> float:
    return timed(lambda: [model(**batch, use_cache=False).logits[:, -1, :3].softmax(-1) for batch in fours(rows, pad)])


def play_generate(model: PreTrainedModel, rows: list[dict], pad: int) -> float:
    options = {
        "max_new_tokens": 1, "do_sample": False, "output_scores": True, "return_dict_in_generate": True,
        "pad_token_id": pad,
    }  # fmt: skip

    def run() -> None:
        for batch in fours(rows, pad):
            batch.pop("position_ids")
            model.generate(**batch, **options).scores[0][:, :3].softmax(-1)

    return timed(run)


def what_tta_costs_and_gains(adapter: str, test_file: str | None) -> dict:
    if test_file is None:
        raise ValueError("test_file: missing. Votes for the judge to predict")
    judge, figures = Judge.from_pretrained(adapter), {}
    battles, _ = read_battles(test_file)
    print(f"{len(battles)} battles {'':20} seconds  log loss")
    for tta in TTA:
        began = time.perf_counter()
        predictions = judge.predict_dataset(battles, tta=tta, progress=False)
        seconds = time.perf_counter() - began
        rows = predictions[predictions["order"] == best_order(predictions)]
        loss = float(log_losses(rows[PROBABILITIES].to_numpy(), votes_and_groups(rows)[0]).mean())
        figures[tta] = {"seconds": seconds, "log_loss": loss}
        print(f"--tta {tta:27} {seconds:9.1f} {loss:9.4f}", flush=True)
    return figures


if __name__ == "__main__":
    run_recipe(main)
