"""
This project against pairjudge, its direct peer: the same base model, votes, LoRA, learning rate, steps and maximum
length; ours with the head, the loss and the LoRA+ of its recipe. Trains both, one after the other, and validates both
on the same held-out votes. The report is in OUTPUT/report.

    python benchmarks/peers.py --output_dir runs/peers --record
    python benchmarks/peers.py --output_dir runs/peers --train_file votes.csv --test_file others.csv
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from real_votes import RECIPES, interval, run
from results import markdown_table, record

from lmsys_trl.battle import winner_of
from lmsys_trl.config import parse_config
from lmsys_trl.data.dataset import load_battles
from lmsys_trl.data.sources import read_battles
from lmsys_trl.predictions.table import PROBABILITIES, predictions_table, save_predictions
from lmsys_trl.terminal import run_recipe

REQUIREMENTS = ("pairjudge[train]==0.3.0", "transformers<6", "huggingface_hub<2", "peft<0.22")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


@dataclass
class PeersConfig:
    """The votes, and the settings that both share."""

    output_dir: str = field(metadata={"help": "The folder for the peer's environment, data, judges and the report."})
    model: str = field(default="models/SmolLM2-135M-Instruct", metadata={"help": "The base model's folder."})
    num_layers: int = field(default=30, metadata={"help": "The layers that the base model has."})
    train_file: str | None = field(default=None, metadata={"help": "Votes (default: those of the demo)."})
    test_file: str | None = field(default=None, metadata={"help": "Votes on other prompts."})
    known_probabilities: str | None = field(default=None, metadata={"help": "Of the demo's test battles."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Of both."})
    battles_per_step: int = field(default=8, metadata={"help": "Of both."})
    max_length: int = field(default=1024, metadata={"help": "Maximum tokens in an example, of both."})
    seed: int = field(default=42, metadata={"help": "Of both."})
    options: list[str] = field(
        default_factory=lambda: ["loss=letters", "head=new", "loraplus_lr_ratio=4"],
        metadata={"help": "key=value for recipes/sft.py."},
    )
    record: bool = field(default=False, metadata={"help": "Write the table to docs/results.md."})


def main():
    config, _ = parse_config(PeersConfig)
    output = Path(config.output_dir)
    train, test, known = votes(config, output)
    run("prepare.py", "--sources", train, "--validation_fraction", 0.1, "--output_dir", output / "data")
    battles = load_battles(str(output / "data"))["train"]
    held_out = [battle for battle in read_battles(test)[0] if winner_of(battle["vote"])]
    ours = train_ours(config, output)
    calibrate(output)
    peer = train_peer(config, output, battles, held_out)
    run(
        "validate.py", "--adapter", output / "ours", output / "calibrated",
        "--predictions", output / "pairjudge.parquet", "--test_file", test, "--output_dir", output / "report",
        "--overwrite", *known,
    )  # fmt: skip
    blocks = show(config, output, {"ours": ours, "calibrated": ours, "pairjudge": peer}, len(battles))
    if config.record:
        record("peers_real_votes" if config.train_file else "peers", *blocks)


def votes(config: PeersConfig, output: Path) -> tuple[Path, Path, list]:
    """The files of votes to train on and to test on, and how the report learns of known probabilities."""
    if config.train_file and config.test_file:
        return Path(config.train_file), Path(config.test_file), []
    run("synthesize.py", "--output_dir", output / "votes")
    known = ["--known_probabilities", output / "votes" / "test_probabilities.csv"]
    return output / "votes" / "train.csv", output / "votes" / "test.csv", known


def train_ours(config: PeersConfig, output: Path) -> dict:
    layers = map(str, range(config.num_layers))
    log, memory = run_and_measure(
        sys.executable, RECIPES / "sft.py", "smollm2.yaml", "--model_name_or_path", config.model, "--dataset_name",
        output / "data", "--output_dir", output / "ours", "--lora_layers_to_transform", *layers, "--learning_rate",
        config.learning_rate, "--battles_per_step", config.battles_per_step, "--max_length", config.max_length,
        "--seed", config.seed, "--lora_target_modules", *TARGETS,
        *(f"--{option}" for option in config.options),
    )  # fmt: skip
    seconds = float(re.findall(r"'train_runtime': '?([\d.]+)", log)[-1])
    tokens = int(re.search(r"train: \d+ examples, (\d+) tokens", log)[1])
    return {"seconds": seconds, "tokens": tokens, "memory": memory}


def calibrate(output: Path) -> None:
    """A copy of our judge, calibrated on the validation split of its data."""
    predictions = output / "validation.parquet"
    run("predict.py", "--adapter", output / "ours", "--dataset_name", output / "data", "--tta", "swap",
        "--output_file", predictions)  # fmt: skip
    shutil.copytree(output / "ours", output / "calibrated", dirs_exist_ok=True)
    run("calibrate.py", "--adapter", output / "calibrated", "--predictions", predictions)


def train_peer(config: PeersConfig, output: Path, battles, held_out: list[dict]) -> dict:
    python = environment(output / "environment")
    write_votes(output / "train.jsonl", battles)
    write_votes(output / "test.jsonl", held_out)
    # It chooses the best epoch by its validation votes: one epoch leaves it no choice.
    write_votes(
        output / "unused.jsonl",
        [{"id": "0", "prompt": ["-"], "response_a": ["+"], "response_b": ["*"], "vote": [1.0, 0.0, 0.0]}],
    )
    steps = -(-len(battles) // config.battles_per_step)
    settings = {
        "train_path": str(output / "train.jsonl"),
        "validation_path": str(output / "unused.jsonl"),
        "output_dir": str(output / "pairjudge"),
        "model_name": str(Path(config.model).resolve()),
        "local_files_only": True,
        "max_length": config.max_length,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target_modules": TARGETS,
        "lr": config.learning_rate,
        "warmup_steps": round(0.1 * steps),
        "per_device_train_batch_size": config.battles_per_step,
        "gradient_accumulation_steps": 1,
        "seed": config.seed,
        "merge_adapter": False,
    }
    job, result = output / "job.json", output / "result.json"
    job.write_text(json.dumps({"config": settings, "test_file": str(output / "test.jsonl"), "result": str(result)}))
    _, memory = run_and_measure(python, Path(__file__).with_name("pairjudge_worker.py"), job)
    found = json.loads(result.read_text())
    winners = {battle["id"]: winner_of(battle["vote"]) for battle in held_out}
    triples = {order: dict(zip(found["ids"], rows, strict=True)) for order, rows in found["orders"].items()}
    triples["mean"] = {
        key: [(a + b) / 2 for a, b in zip(triples["ab"][key], triples["ba"][key], strict=True)] for key in winners
    }
    rows = [
        {"id": key, "order": order, **dict(zip(PROBABILITIES, triple, strict=True)), "winner": winners[key],
         "num_tokens": 0}
        for order, by_id in triples.items()
        for key, triple in by_id.items()
    ]  # fmt: skip
    table = predictions_table(rows)
    table[PROBABILITIES] = table[PROBABILITIES].div(table[PROBABILITIES].sum(axis=1), axis=0)  # of float32
    save_predictions(table, output / "pairjudge.parquet")
    return {
        "seconds": found["training_seconds"],
        "tokens": found["training_tokens"],
        "memory": memory,
        "versions": found["versions"],
    }


def environment(folder: Path) -> Path:
    """The Python of an environment with pairjudge, which is made if it is missing."""
    python = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        venv.create(folder, with_pip=True)
        torch_version = torch.__version__.partition("+")[0]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", f"torch=={torch_version}", *REQUIREMENTS], check=True
        )
        (folder / "installed").touch()
    return python


def write_votes(path: Path, battles) -> None:
    """Votes as JSON lines in the competition's columns, with lists of texts."""
    rows = [
        {
            "id": battle["id"],
            **{name: [text or "" for text in battle[name]] for name in ("prompt", "response_a", "response_b")},
            **dict(zip(PROBABILITIES, map(int, battle["vote"]), strict=True)),
        }
        for battle in battles
    ]
    pd.DataFrame(rows).to_json(path, orient="records", lines=True)


def run_and_measure(*command) -> tuple[str, float]:
    """Run a program; what it printed, and the peak memory of its largest process in GiB."""
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[1]} failed")
    return "".join(lines), usage.ru_maxrss / 2**20


def show(config: PeersConfig, output: Path, measured: dict[str, dict], num_battles: int) -> list[str]:
    """The table of both, and what is paired. Both are printed."""
    figures = json.loads((output / "report" / "metrics.json").read_text())
    rows = []
    for name, run_of in measured.items():
        judge = figures["judges"][name]
        rows.append([
            name, interval(judge["orders"]["ab"]["log_loss"]), interval(judge["orders"]["mean"]["log_loss"]),
            f"{judge['orders']['mean']['accuracy']['value']:.1%}", interval(judge["position"]["flip_rate"]),
            f"{run_of['seconds']:.0f}", f"{run_of['tokens'] / run_of['seconds']:.0f}", f"{run_of['memory']:.2f} GiB",
        ])  # fmt: skip
    header = [
        f"{num_battles} votes, one epoch; {figures['num_battles']} held out", "log loss, one order", "both orders",
        "accuracy", "verdicts that flip", "seconds of training", "tokens/s", "peak memory",
    ]  # fmt: skip
    paired = "; ".join(
        f"{entry['judge']} minus {entry['baseline']}: {interval(entry['log_loss'])}"
        for entry in figures["differences"]
        if entry["baseline"] in measured and entry["judge"] in measured
    )
    versions = ", ".join(f"{package} {number}" for package, number in measured["pairjudge"]["versions"].items())
    blocks = [
        markdown_table(header, rows),
        f"Log loss in both orders on the same battles, {paired}. Ours: {' '.join(config.options)}; calibrated: the "
        f"same, after `calibrate` on the validation split. The peer: {versions}.",
    ]
    print("", *blocks, sep="\n\n", flush=True)
    return blocks


if __name__ == "__main__":
    run_recipe(main)
