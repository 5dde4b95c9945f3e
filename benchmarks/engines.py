"""
The same judge here and on vLLM: predictions and seconds, in both orders of the answers. Every run is a command of its
own; the battles of a second, longer run than the first say what a battle takes, the rest is the start.

    python benchmarks/engines.py --adapter runs/judge --test_file votes.csv --engine_python vllm/bin/python --record
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from real_votes import run
from results import markdown_table, record

from lmsys_trl.config import parse_config
from lmsys_trl.predictions.table import PROBABILITIES
from lmsys_trl.terminal import run_recipe


@dataclass
class EnginesConfig:
    """The judge, the battles, and vLLM."""

    adapter: str = field(metadata={"help": "A judge with its base model's own head."})
    test_file: str = field(metadata={"help": "Battles, a CSV with a row each."})
    engine_python: str = field(metadata={"help": "The Python of an environment with vLLM."})
    engine_options: list[str] = field(default_factory=list, metadata={"help": "Arguments of vllm.LLM."})
    battles: list[int] = field(default_factory=lambda: [40, 200], metadata={"help": "In the two runs, ascending."})
    record: bool = field(default=False, metadata={"help": "Write the table to docs/results.md."})


def main():
    config, _ = parse_config(EnginesConfig)
    vllm = ["--engine", "vllm", "--engine_python", config.engine_python]
    vllm += ["--engine_options", *config.engine_options] if config.engine_options else []
    engines: dict[str, list[str]] = {"`predict`": [], "`predict --engine vllm`": vllm}
    with tempfile.TemporaryDirectory() as scratch:
        runs = {
            name: [predict(config, Path(scratch), options, battles) for battles in config.battles]
            for name, options in engines.items()
        }
    (few, many), rows = config.battles, []
    for name, ((first, _), (second, _)) in runs.items():
        each = (second - first) / (many - few)
        rows.append([name, f"{first - few * each:.0f}", f"{1 / each:.2f}"])
    (_, (_, here)), (_, (_, there)) = runs.values()
    difference = np.abs(here - there).max()
    table = markdown_table(["", "seconds to start", "battles/s, in both orders"], rows)
    largest = f"No probability of {many} battles differs by more than {difference:.1e}."
    print(f"\n{table}\n\n{largest}")
    if config.record:
        record("engines", table, largest)


def predict(config: EnginesConfig, scratch: Path, options: list[str], battles: int) -> tuple[float, np.ndarray]:
    """Seconds of a prediction in a process of its own, and the probabilities."""
    pd.read_csv(config.test_file).head(battles).to_csv(scratch / "battles.csv", index=False)
    output = scratch / f"{time.monotonic_ns()}.parquet"
    files = ["--test_file", scratch / "battles.csv", "--output_file", output]
    start = time.perf_counter()
    run("predict.py", "--adapter", config.adapter, *files, "--tta", "swap", *options)
    return time.perf_counter() - start, pd.read_parquet(output)[PROBABILITIES].to_numpy()


if __name__ == "__main__":
    run_recipe(main)
