"""
From votes to examples, in seconds and GiB: recipes/prepare.py on up to a million generated battles, encoding against
the tokenizer alone, and distributing turns over examples against pandas.

    python benchmarks/data.py --sizes 1000 10000
    python benchmarks/data.py --assets DIR --record  # all, to docs/results.md
"""

import csv
import json
import math
import os
import shutil
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

from results import markdown_table, record

from lmsys_trl.battle import WINNERS, swap_battle, vote_for
from lmsys_trl.config import parse_config
from lmsys_trl.terminal import run_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "prepare.py"
TURNS = ("prompt", "response_a", "response_b")
NUM_FEW = 50  # battles that take little longer than the imports
NUM_ENCODED, BATCH, MAX_LENGTH = 5_000, 1_000, 2_048
NUM_FITTED, MAX_WORDS = 57_000, 400  # about as many battles as the competition has


@dataclass
class DataConfig:
    """How many battles, which tokenizer, and where the figures go."""

    sizes: list[int] = field(
        default_factory=lambda: [1_000, 10_000, 100_000, 1_000_000],
        metadata={"help": "Numbers of battles to prepare, ascending."},
    )
    tokenizer: str = field(default="models/SmolLM2-135M-Instruct", metadata={"help": "Its folder or Hub id."})
    pad_token: str = field(default="<|endoftext|>", metadata={"help": "As in the YAML of its base model."})
    assets: str | None = field(
        default=None, metadata={"help": "A folder with data/mt_bench_human.csv: real votes to encode as well."}
    )
    record: bool = field(default=False, metadata={"help": "Write the tables to docs/results.md."})
    json: str | None = field(default=None, metadata={"help": "A file for the figures."})
    work_dir: str | None = field(default=None, metadata={"help": "A folder for temporary files."})


def main():
    config, _ = parse_config(DataConfig)
    with tempfile.TemporaryDirectory(dir=config.work_dir) as folder:
        figures = {
            "prepare": measure_prepare(config.sizes, Path(folder)),
            "encode": measure_encode(config, Path(folder)),
            "turns": measure_turns(),
        }
    blocks = [*show_prepare(figures["prepare"]), *show_encode(figures["encode"]), *show_turns(figures["turns"])]
    print("", *blocks, sep="\n\n")
    if config.record:
        record("data", *blocks)
    if config.json:
        Path(config.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def make_battles(seed: int = 0) -> Iterator[dict]:
    """
    Endless battles of random words: 13% with several turns, 5% on texts that were voted on before (half of them with
    A and B swapped), 3% whose prompt is an earlier one with one word changed.
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
                texts = swap_battle(texts)
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
        yield {"id": number, **models, **texts, "vote": vote_for(random.choice(WINNERS))}


def write_csv(num_battles: int, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)  # in the columns of the LMSYS competition
        writer.writerow(["id", "model_a", "model_b", *TURNS, *(f"winner_{winner}" for winner in WINNERS)])
        for battle in islice(make_battles(), num_battles):
            texts = [json.dumps(battle[name]) for name in TURNS]
            votes = map(int, battle["vote"])
            writer.writerow([battle["id"], battle["model_a"], battle["model_b"], *texts, *votes])


def measure_prepare(sizes: list[int], folder: Path) -> dict:
    """Wall time and peak memory of the recipe. `exponent` is that of the number of battles since the last size."""
    fixed = median(prepare_generated(NUM_FEW, folder)["seconds"] for _ in range(3))
    measured = []
    for size in sizes:
        row = prepare_generated(size, folder)
        if measured and min(row["seconds"], measured[-1]["seconds"]) > fixed:  # a busy machine may take longer for few
            before, growth = measured[-1], math.log(size / measured[-1]["battles"])
            row["exponent"] = math.log((row["seconds"] - fixed) / (before["seconds"] - fixed)) / growth
            row["exponent_of_n_log_n"] = 1 + math.log(math.log(size) / math.log(before["battles"])) / growth
        print(f"{size} battles prepared in {row['seconds']:.1f} seconds", flush=True)
        measured.append(row)
    return {"fixed_seconds": fixed, "sizes": measured}


def show_prepare(figures: dict) -> list[str]:
    header = ["battles prepared", "CSV", "seconds", "battles/s", "peak memory", "exponent of growth", "n log n has"]
    rows = [
        [
            f"{row['battles']:,}", f"{row['csv_mb']:.0f} MB", f"{row['seconds']:.1f}",
            f"{row['battles'] / row['seconds']:,.0f}", f"{row['peak_gib']:.2f} GiB",
            *(f"{row[name]:.2f}" if name in row else "" for name in ("exponent", "exponent_of_n_log_n")),
        ]
        for row in figures["sizes"]
    ]  # fmt: skip
    fixed = (
        f"{NUM_FEW} battles take {figures['fixed_seconds']:.1f} seconds, mostly imports; exponents are without them."
    )
    return [markdown_table(header, rows), fixed]


def prepare_generated(num_battles: int, folder: Path) -> dict:
    """Prepare generated battles, which are removed afterwards."""
    votes, data = folder / "votes.csv", folder / "data"
    write_csv(num_battles, votes)
    seconds, peak = run_prepare("--sources", votes, "--output_dir", data, "--num_folds", 5)
    row = {"battles": num_battles, "csv_mb": votes.stat().st_size / 1e6, "seconds": seconds, "peak_gib": peak}
    votes.unlink()
    shutil.rmtree(data)
    return row


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
    """Tokens a second against an upper bound: the tokenizer alone, called on the same texts in the same batches."""
    import datasets  # these import torch, see run_prepare
    import pyarrow as pa
    from transformers.utils import logging

    from lmsys_trl.data.schema import BATTLE_SCHEMA
    from lmsys_trl.data.sources import read_battles
    from lmsys_trl.encoding.dataset import encode_dataset
    from lmsys_trl.encoding.examples import encode_battles
    from lmsys_trl.encoding.template import PROMPT_VERSION, TEMPLATES
    from lmsys_trl.encoding.tokenizer import load_tokenizer

    datasets.disable_progress_bars()
    logging.set_verbosity_error()  # of texts longer than the model's context
    tokenizer = load_tokenizer(config.tokenizer, config.pad_token)
    others = {"source": "generated", "language": None}
    votes = {"generated": [b | others | {"id": str(b["id"])} for b in islice(make_battles(), NUM_ENCODED)]}
    if config.assets:
        votes["mt_bench_human"], _ = read_battles(Path(config.assets) / "data" / "mt_bench_human.csv")

    def bare(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    def encode_cold(dataset: datasets.Dataset) -> None:
        datasets.config.HF_DATASETS_CACHE = tempfile.mkdtemp(dir=folder)
        encode_dataset(dataset, tokenizer, MAX_LENGTH)

    figures, write = {}, TEMPLATES[PROMPT_VERSION].turn_text
    for name, battles in votes.items():
        batches = [battles[i : i + BATCH] for i in range(0, len(battles), BATCH)]
        texts = [
            list(dict.fromkeys(write(turn) for battle in batch for column in TURNS for turn in battle[column]))
            for batch in batches
        ]
        num_tokens = sum(len(ids) for batch in texts for ids in bare(batch))
        dataset = datasets.Dataset(pa.Table.from_pylist(battles, BATTLE_SCHEMA))
        functions = {
            "tokenizer alone": lambda texts=texts: list(map(bare, texts)),
            "encode_battles": lambda bs=batches: [encode_battles(b, tokenizer, MAX_LENGTH) for b in bs],
            "encode_dataset, cold cache": lambda dataset=dataset: encode_cold(dataset),
        }
        seconds, cpu_seconds = timed_in_turn(functions, repetitions)
        found = {"battles": len(battles), "tokens": num_tokens}
        figures[name] = {**found, "seconds": seconds, "cpu_seconds": cpu_seconds}
    return figures


def show_encode(figures: dict) -> list[str]:
    rows = [
        [
            f"{found['battles']:,} of {name}", what, f"{taken:.2f}", f"{found['tokens'] / taken:,.0f}",
            f"{taken / found['seconds']['tokenizer alone']:.2f}",
            f"{found['cpu_seconds'][what] / found['cpu_seconds']['tokenizer alone']:.2f}",
        ]
        for name, found in figures.items()
        for what, taken in found["seconds"].items()
    ]  # fmt: skip
    header = ["battles encoded", "by", "seconds", "tokens/s", "times the tokenizer alone", "the same in CPU seconds"]
    return [markdown_table(header, rows)]


def timed_in_turn(functions: dict[str, Callable], repetitions: int) -> list[dict[str, float]]:
    """Median seconds, and CPU seconds, of each. They run by turns: whatever else the machine does slows all."""
    taken: dict[str, list] = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in functions.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            function()
            taken[name].append((time.perf_counter() - start, time.process_time() - cpu_start))
    return [{name: median(both[i] for both in taken[name]) for name in functions} for i in (0, 1)]


def measure_turns() -> dict:
    """Distributing turns over examples by their lengths in words: no tokenizer, the same job for both."""
    import pandas as pd

    from lmsys_trl.encoding.turns import fit_turns

    battles, built = list(islice(make_battles(), NUM_FITTED)), {}
    frame = pd.DataFrame(battles)
    functions = {
        "pandas, a list of seen ids": lambda: built.update(pandas=examples_by_pandas(frame)),
        "pandas, a dictionary of them": lambda: built.update(lookup=examples_by_pandas(frame, list_of_ids=False)),
        "fit_turns": lambda: built.update(ours=examples_by_fit_turns(battles, fit_turns)),
    }
    seconds, _ = timed_in_turn(functions, repetitions=1)
    assert built["pandas"] == built["lookup"] == built["ours"], "they build different examples"
    several = sum(len(examples) > 1 for examples in built["pandas"].values())
    return {"battles": NUM_FITTED, "several": several, "seconds": seconds}


def show_turns(figures: dict) -> list[str]:
    ours = figures["seconds"]["fit_turns"]
    rows = [[name, f"{taken:.2f}", f"{taken / ours:.1f}"] for name, taken in figures["seconds"].items()]
    title = f"turns of {figures['battles']:,} battles distributed, {figures['several']:,} over several examples"
    return [markdown_table([title, "seconds", "times fit_turns"], rows)]


def examples_by_pandas(frame, list_of_ids: bool = True) -> dict[int, list[list[int]]]:
    """Id -> the turns of each example, as public notebooks do it: a row a turn, from the last one backwards."""
    frame = frame.assign(turn=frame["prompt"].map(lambda turns: list(range(len(turns)))))
    turns = frame.explode([*TURNS, "turn"])
    seen, examples = [], {}
    for _, turn in turns[::-1].iterrows():
        length = min(MAX_WORDS, sum(len(turn[name].split()) for name in TURNS))
        if turn["id"] not in (seen if list_of_ids else examples):
            seen.append(turn["id"])
            examples[turn["id"]], left = [], 0
        if length > left:
            examples[turn["id"]].insert(0, [])
            left = MAX_WORDS
        examples[turn["id"]][0].insert(0, turn["turn"])
        left -= length
    return examples


def examples_by_fit_turns(battles: list[dict], fit_turns: Callable) -> dict[int, list[list[int]]]:
    """The same with this project's function."""
    examples = {}
    for battle in battles:
        turns = zip(*(battle[name] for name in TURNS), strict=True)
        lengths = [tuple(len(text.split()) for text in turn) for turn in turns]
        fitted = fit_turns(lengths, [0] * len(lengths), MAX_WORDS)
        examples[battle["id"]] = [[turn for turn, _ in example] for example in fitted]
    return examples


if __name__ == "__main__":
    run_recipe(main)
