"""
What a second process brings on a CPU: the same training steps and the same prediction in one process and in two, with
one thread each, and in one process with two threads. Processes share a step's battles (DDP), and a prediction's.

    python benchmarks/scaling.py --output_dir runs/scaling --record
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from results import markdown_table, record

from lmsys_trl.config import find_accelerate_config, parse_config
from lmsys_trl.terminal import run_recipe

BATTLES_PER_STEP = 8
SETUPS = ((1, 1), (1, 2), (2, 1))  # processes, and threads of each


@dataclass
class ScalingConfig:
    """How much is computed."""

    output_dir: str = field(metadata={"help": "A folder for data and judges."})
    steps: int = field(default=12, metadata={"help": "Of training; the first third is not timed."})
    battles: list[int] = field(
        default_factory=lambda: [20, 120], metadata={"help": "Predicted in two runs, ascending."}
    )
    record: bool = field(default=False, metadata={"help": "Write the table to docs/results.md."})


def main():
    config, _ = parse_config(ScalingConfig)
    output = Path(config.output_dir)
    for battles in config.battles:
        launch("synthesize", "--num_test", battles, "--output_dir", output / f"battles-{battles}")
    launch(
        "prepare", "--sources", output / f"battles-{config.battles[0]}" / "train.csv", "--output_dir", output / "data"
    )
    figures = []
    for processes, threads in SETUPS:
        options = {"accelerate_config": accelerate_config(output, processes), "threads": threads}
        judge = output / f"judge-{processes}-{threads}"
        trained = train(config, output / "data", judge, processes, options)
        few, many = (predict(judge, output, battles, options) for battles in config.battles)
        figures.append((trained, (config.battles[1] - config.battles[0]) / (many - few)))
    rows = [
        [f"{processes}", f"{threads}", f"{tokens:.0f}", f"{tokens / figures[0][0]:.2f}", f"{battles:.2f}",
         f"{battles / figures[0][1]:.2f}"]
        for (processes, threads), (tokens, battles) in zip(SETUPS, figures, strict=True)
    ]  # fmt: skip
    header = ["processes", "threads of each", "training, tokens/s", "times the first", "prediction, battles/s"]
    table = markdown_table([*header, "times the first"], rows)
    print(f"\n{table}")
    if config.record:
        record("scaling", table)


def accelerate_config(output: Path, processes: int) -> Path:
    """multi_gpu.yaml with a number of processes, which without a GPU talk over gloo; cpu.yaml for one."""
    path = find_accelerate_config("multi_gpu" if processes > 1 else "cpu")
    settings = yaml.safe_load(path.read_text(encoding="utf-8")) | {"num_processes": processes}
    changed = output / f"{processes}-processes.yaml"
    changed.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return changed


def train(config: ScalingConfig, data: Path, judge: Path, processes: int, options: dict) -> float:
    """Tokens a second after the first third of the steps."""
    logging_steps = config.steps // 3
    launch(
        "sft", "smollm2.yaml", "--dataset_name", data, "--output_dir", judge, "--max_steps", config.steps,
        "--logging_steps", logging_steps, "--save_steps", config.steps, "--eval_strategy", "no",
        "--per_device_train_batch_size", BATTLES_PER_STEP // processes, **options,
    )  # fmt: skip
    state = json.loads((judge / f"checkpoint-{config.steps}" / "trainer_state.json").read_text(encoding="utf-8"))
    speeds = [logs["tokens_per_second"] for logs in state["log_history"] if "tokens_per_second" in logs]
    return sum(speeds[1:]) / len(speeds[1:])


def predict(judge: Path, output: Path, battles: int, options: dict) -> float:
    """Seconds of a prediction, with its start."""
    start = time.perf_counter()
    launch(
        "predict", "--adapter", judge, "--test_file", output / f"battles-{battles}" / "test.csv",
        "--output_file", judge / f"predictions-{battles}.csv", **options,
    )  # fmt: skip
    return time.perf_counter() - start


def launch(verb: str, *arguments, accelerate_config: Path | None = None, threads: int | None = None) -> None:
    words = [*arguments, *(("--accelerate_config", accelerate_config) if accelerate_config else ())]
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    subprocess.run([sys.executable, "-m", "lmsys_trl.cli", verb, *map(str, words)], check=True, env=environment)


if __name__ == "__main__":
    run_recipe(main)
