"""
From votes to rows of tokens, in seconds and GiB: recipes/prepare.py on up to a million generated battles, encoding
against the tokenizer alone, and sharing rounds out over rows against pandas.

    python benchmarks/data.py --json data.json
    python benchmarks/data.py --sizes 1000 10000 --assets DIR
"""

import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from random import Random
from statistics import median

from lmsys_trl.config import parse_config, run_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "prepare.py"
WINNERS = ("model_a", "model_b", "tie")
TURNS = ("prompt", "response_a", "response_b")
NUM_ENCODED, BATCH, MAX_LENGTH = 5_000, 1_000, 2_048
NUM_PACKED, MAX_WORDS = 57_000, 400  # about as many battles as the competition has


@dataclass
class DataConfig:
    """How much, with which tokenizer, and where the figures go."""

    sizes: list[int] = field(
        default_factory=lambda: [1_000, 10_000, 100_000, 1_000_000],
        metadata={"help": "Numbers of battles that are prepared, ascending."},
    )
    tokenizer: str = field(default="models/SmolLM2-135M-Instruct", metadata={"help": "Its folder or Hub id."})
    pad_token: str = field(default="<|endoftext|>", metadata={"help": "As in the YAML of its base model."})
    assets: str | None = field(
        default=None, metadata={"help": "A folder with data/mt_bench_human.csv: real votes to encode as well."}
    )
    json: str | None = field(default=None, metadata={"help": "A file for the figures."})
    work_dir: str | None = field(default=None, metadata={"help": "Where a temporary folder for the data is made."})


def main():
    config, _ = parse_config(DataConfig)
    with tempfile.TemporaryDirectory(dir=config.work_dir) as folder:
        figures = {
            "prepare": measure_prepare(config.sizes, Path(folder)),
            "encode": measure_encode(config, Path(folder)),
            "rows": measure_rows(),
        }
    if config.json:
        Path(config.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def make_battles(seed: int = 0) -> Iterator[dict]:
    """
    Battles of random words without end: 13% with several turns, 5% on texts that were voted on before (half of them
    with A and B exchanged), 3% whose prompt is an earlier one with one word changed.
    """
    random = Random(seed)
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
    vocabulary = ["".join(random.choices(syllables, k=random.choice((1, 2, 2, 3, 3, 4)))) for _ in range(20_000)]
    words = random.choices(vocabulary, [1 / rank for rank in range(10, 20_010)], k=1_000_000)
    text = " ".join(words)

    def prompt() -> str:
        # No slice of the text, as the answers are: most of a million slices would overlap with another.
        return " ".join(random.choices(words, k=random.randint(8, 26)))

    def answer() -> str:
        start = random.randrange(len(text) - 10_000)
        return text[start : start + min(10_000, 1 + int(random.lognormvariate(math.log(400), 0.8)))]

    earlier = deque(maxlen=10_000)
    for number in count(1):
        kind = random.random() if earlier else 1.0
        if kind < 0.05:
            texts = random.choice(earlier)
            if kind < 0.025:
                texts = texts | {"response_a": texts["response_b"], "response_b": texts["response_a"]}
        else:
            turns = range(random.randint(2, 4) if random.random() < 0.13 else 1)
            texts = {"prompt": [prompt() for _ in turns]}
            texts |= {name: [answer() for _ in turns] for name in ("response_a", "response_b")}
            if kind < 0.08:
                changed = random.choice(earlier)["prompt"][0].split()
                changed[random.randrange(len(changed))] = random.choice(vocabulary)
                texts["prompt"][0] = " ".join(changed)
            earlier.append(texts)
        models = {side: f"model-{random.randrange(20)}" for side in ("model_a", "model_b")}
        yield {"id": number, **models, **texts, "winner": random.choice(WINNERS)}


def write_csv(num_battles: int, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)  # in the columns of the LMSYS competition
        writer.writerow(["id", "model_a", "model_b", *TURNS, *(f"winner_{winner}" for winner in WINNERS)])
        for battle in islice(make_battles(), num_battles):
            texts = [json.dumps(battle[name]) for name in TURNS]
            vote = [int(battle["winner"] == winner) for winner in WINNERS]
            writer.writerow([battle["id"], battle["model_a"], battle["model_b"], *texts, *vote])


def measure_prepare(sizes: list[int], folder: Path) -> dict:
    """Wall time and peak memory of the recipe. `exponent` is that of the number of battles since the last size."""
    fixed = median(run_prepare("--help")[0] for _ in range(3))
    print(f"PREPARE: recipes/prepare.py --num_folds 5; importing it takes {fixed:.1f} s of these")
    print(f"{'battles':>10} {'CSV MB':>7} {'seconds':>8} {'battles/s':>10} {'GiB':>5} {'exponent':>9} {'n log n':>8}")
    measured = []
    for size in sizes:
        votes = folder / f"votes{size}.csv"
        write_csv(size, votes)
        seconds, peak = run_prepare("--sources", votes, "--output_dir", folder / f"data{size}", "--num_folds", 5)
        row = {"battles": size, "csv_mb": votes.stat().st_size / 1e6, "seconds": seconds, "peak_gib": peak}
        votes.unlink()
        told = f"{size:10} {row['csv_mb']:7.0f} {seconds:8.1f} {size / seconds:10.0f} {peak:5.2f}"
        if measured:
            before, growth = measured[-1], math.log(size / measured[-1]["battles"])
            row["exponent"] = math.log((seconds - fixed) / (before["seconds"] - fixed)) / growth
            row["exponent_of_n_log_n"] = 1 + math.log(math.log(size) / math.log(before["battles"])) / growth
            told += f" {row['exponent']:9.2f} {row['exponent_of_n_log_n']:8.2f}"
        print(told, flush=True)
        measured.append(row)
    return {"fixed_seconds": fixed, "sizes": measured}


def run_prepare(*arguments) -> tuple[float, float]:
    """
    Seconds and peak GiB of the recipe in a process of its own. A child's peak is never below what its parent holds
    when it starts, so nothing large is imported or kept here before.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, RECIPE, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{RECIPE.name} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def measure_encode(config: DataConfig, folder: Path, repetitions: int = 5) -> dict:
    """Tokens a second against the limit: the tokenizer alone, called on the same texts in the same batches."""
    import datasets  # these import torch, see run_prepare
    from transformers.utils import logging

    from lmsys_trl import prepared, rows
    from lmsys_trl.battle import BATTLE_FEATURES
    from lmsys_trl.prompts import turn_text
    from lmsys_trl.sources import read_battles

    datasets.disable_progress_bars()
    logging.set_verbosity_error()  # of texts longer than the model's context
    tokenizer = rows.load_tokenizer(config.tokenizer, config.pad_token)
    others = {"source": "generated", "language": None, "soft_label": None}
    votes = {"generated": [b | others | {"id": str(b["id"])} for b in islice(make_battles(), NUM_ENCODED)]}
    if config.assets:
        votes["mt_bench_human"], _ = read_battles(Path(config.assets) / "data" / "mt_bench_human.csv")

    def bare(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    def encode_cold(dataset: datasets.Dataset) -> None:
        datasets.config.HF_DATASETS_CACHE = tempfile.mkdtemp(dir=folder)
        prepared.encode(dataset, tokenizer, MAX_LENGTH)

    figures = {}
    print(f"\nENCODE: batches of {BATCH}, {MAX_LENGTH} tokens a row at most, medians of {repetitions}")
    for name, battles in votes.items():
        batches = [battles[i : i + BATCH] for i in range(0, len(battles), BATCH)]
        texts = [
            list(dict.fromkeys(turn_text(turn) for battle in batch for column in TURNS for turn in battle[column]))
            for batch in batches
        ]
        num_tokens = sum(len(ids) for batch in texts for ids in bare(batch))
        dataset = datasets.Dataset.from_list(battles, features=BATTLE_FEATURES)
        functions = {
            "tokenizer alone": lambda texts=texts: list(map(bare, texts)),
            "rows.encode_battles": lambda bs=batches: [rows.encode_battles(b, tokenizer, MAX_LENGTH) for b in bs],
            "prepared.encode, cold cache": lambda dataset=dataset: encode_cold(dataset),
        }
        seconds = timed_by_turns(functions, repetitions)
        figures[name] = {"battles": len(battles), "tokens": num_tokens, "seconds": seconds}
        print(f"{len(battles)} battles ({name}) with {num_tokens} tokens in different texts")
        for what, taken in seconds.items():
            ratio = taken / seconds["tokenizer alone"]
            print(f"  {what:28} {taken:6.2f} s {num_tokens / taken:9.0f} tokens/s {ratio:6.2f} x alone", flush=True)
    return figures


def timed_by_turns(functions: dict[str, Callable], repetitions: int) -> dict[str, float]:
    """Median seconds of each; they take turns, so that whatever else the machine does falls on all of them."""
    seconds = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in seconds.items()}


def measure_rows() -> dict:
    """Sharing rounds out over rows by their lengths in words: no tokenizer, the same job for both."""
    import pandas as pd

    from lmsys_trl.rows import pack_rounds

    battles, built = list(islice(make_battles(), NUM_PACKED)), {}
    frame = pd.DataFrame(battles)
    functions = {
        "pandas": lambda: built.update(pandas=rows_by_pandas(frame)),
        "rows.pack_rounds": lambda: built.update(ours=rows_by_pack_rounds(battles, pack_rounds)),
    }
    seconds = timed_by_turns(functions, repetitions=1)
    assert built["pandas"] == built["ours"], "the two build different rows"
    several = sum(len(rows) > 1 for rows in built["pandas"].values())
    print(f"\nROWS: {NUM_PACKED} battles, {MAX_WORDS} words a row at most; {several} of them take more than one")
    for name, taken in seconds.items():
        print(f"  {name:28} {taken:6.2f} s {seconds['pandas'] / taken:6.1f} x as fast as pandas")
    return {"battles": NUM_PACKED, "seconds": seconds}


def rows_by_pandas(frame) -> dict[int, list[list[int]]]:
    """Id -> its rows of rounds, as public notebooks do it: a row a turn, gone through from the last one backwards."""
    frame = frame.assign(round=frame["prompt"].map(lambda turns: list(range(len(turns)))))
    turns = frame.explode([*TURNS, "round"])
    seen, rows = [], {}
    for _, turn in turns[::-1].iterrows():
        length = min(MAX_WORDS, sum(len(turn[name].split()) for name in TURNS))
        if turn["id"] not in seen:
            seen.append(turn["id"])
            rows[turn["id"]], left = [], 0
        if length > left:
            rows[turn["id"]].insert(0, [])
            left = MAX_WORDS
        rows[turn["id"]][0].insert(0, turn["round"])
        left -= length
    return rows


def rows_by_pack_rounds(battles: list[dict], pack_rounds: Callable) -> dict[int, list[list[int]]]:
    """The same with this project's packing."""
    rows = {}
    for battle in battles:
        rounds = zip(*(battle[name] for name in TURNS), strict=True)
        lengths = [tuple(len(text.split()) for text in one_round) for one_round in rounds]
        packed = pack_rounds(lengths, [0] * len(lengths), MAX_WORDS)
        rows[battle["id"]] = [[k for k, _ in row] for row in packed]
    return rows


if __name__ == "__main__":
    run_recipe(main)
