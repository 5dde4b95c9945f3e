"""
gemma-2-2b.yaml by its real commands, on a base model of four layers of the real width: prepare, train in 4 bits, kill
it halfway, run the same command again, predict. Is the judge of the interrupted run that of the uninterrupted one?
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import ASSETS, KIT, Results, build_base
from devices import CUDA
from safetensors.torch import load_file

STEPS, SAVE_STEPS = 12, 4


class Training:
    """Runs of the same training, each in a folder of its own."""

    def __init__(self, work: Path, base: Path, data: Path, results: Results, tiny: bool):
        self.work, self.base, self.data, self.results, self.tiny = work, base, data, results, tiny

    def command(self, folder: str, launch: bool) -> list[str]:
        settings = {
            "model_name_or_path": self.base, "dataset_name": self.data, "output_dir": self.work / folder,
            "max_steps": STEPS, "save_steps": SAVE_STEPS, "logging_steps": 1, "battles_per_step": 8,
            "learning_rate": 2e-4, "report_to": "none", "disable_tqdm": True, "eval_strategy": "steps",
            "eval_steps": STEPS,
        }  # fmt: skip
        if self.tiny:
            settings |= {"max_length": 192, "inference_max_length": 192, "battles_per_step": 2}
        config = f"accelerate_configs/{'single_gpu' if CUDA else 'cpu'}.yaml"
        launcher = ["-m", "accelerate.commands.launch", "--config_file", config] if launch else []
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        return [sys.executable, *launcher, "recipes/sft.py", "gemma-2-2b.yaml", *words]

    def run(self, folder: str, name: str, kill_at: int | None = None, with_signal: int = signal.SIGKILL) -> str:
        """Train, and if asked end the run when a checkpoint is complete. Returns what it logged."""
        log = self.work / f"{name}.log"
        with log.open("w") as file:
            # SIGTERM ends the launcher at once and leaves the training alone: then without it.
            command = self.command(folder, launch=with_signal == signal.SIGKILL)
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
            manifest, killed = self.work / folder / f"checkpoint-{kill_at}" / "manifest.json", False
            while process.poll() is None and time.time() < self.results.deadline:
                if kill_at and manifest.exists():
                    os.killpg(process.pid, with_signal)
                    kill_at, killed = None, True
                time.sleep(0.05)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                raise TimeoutError(f"{name}: out of time")
        text = log.read_text()
        if process.returncode and not killed:
            raise RuntimeError(f"{name} ended with {process.returncode}: {text.strip().splitlines()[-1]}")
        return text


def main():
    results, tiny = Results("recipe", float(sys.argv[2])), "--tiny" in sys.argv
    work = KIT / "work" / "recipe"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with results.row("base model of four layers"):
        base = build_base("gemma-2-2b", tiny, layers=4)
    votes, data = ASSETS / "data" / "arena_first100.csv", work / "data"
    with results.row("prepare.py"):
        run("prepare", "--sources", votes, "--output_dir", data, "--validation_fraction", 0.1)
    training = Training(work, base, data, results, tiny)
    with results.row("sft.py, uninterrupted") as row:
        text = training.run("uninterrupted", "sft-uninterrupted")
        row["losses"] = losses(text)
        row["tokens/s, last step"] = re.findall(r"'tokens_per_second': '?([\d.]+)", text)[-1:]
        row["judge"] = (work / "uninterrupted" / "judge.json").exists()
    with results.row("sft.py, killed after a checkpoint and run again") as row:
        training.run("killed", "sft-killed", SAVE_STEPS)
        assert not (work / "killed" / "judge.json").exists(), "it ended before it was killed"
        row["losses"] = losses(training.run("killed", "sft-resumed"))
        row |= compare(work / "uninterrupted", work / "killed")
    with results.row("sft.py, SIGTERM and run again") as row:
        training.run("stopped", "sft-stopped", SAVE_STEPS, signal.SIGTERM)
        row["judge before the second run"] = (work / "stopped" / "judge.json").exists()
        training.run("stopped", "sft-stopped-resumed")
        row |= compare(work / "uninterrupted", work / "stopped")
    first = None
    for name, options in (("predict.py", []), ("predict.py, other batches", ["--max_tokens_per_batch", 16384])):
        with results.row(name, needs=30) as row:
            if row is None:
                continue
            began = time.time()
            file = work / f"{name.replace(' ', '-').replace(',', '')}.parquet"
            run(
                "predict", "--adapter", work / "uninterrupted", "--test_file", votes, "--output_file", file,
                "--tta", "swap", "--model_name_or_path", base, *options,
            )  # fmt: skip
            table = pd.read_parquet(file)
            columns = [name for name in table if name.startswith("winner_")]
            predictions = table[columns].to_numpy()
            row["seconds"], row["predictions"] = time.time() - began, len(predictions)
            if first is not None:
                row["largest difference"] = float(np.abs(predictions - first).max())
            first = predictions
    shutil.rmtree(base)


def run(recipe: str, *arguments) -> None:
    subprocess.run([sys.executable, f"recipes/{recipe}.py", *map(str, arguments)], check=True)


def losses(text: str) -> str:
    return " ".join(re.findall(r"'loss': '?([-\d.]+|nan)", text))


def compare(one: Path, other: Path) -> dict:
    """Of two adapters: whether they are the same, and the largest difference."""
    a, b = (load_adapter(folder / "adapter_model.safetensors") for folder in (one, other))
    differences = [float(np.abs(a[name] - b[name]).max()) for name in a]
    return {
        "bit for bit": max(differences) == 0,
        "largest difference": max(differences),
        "largest weight": max(float(np.abs(value).max()) for value in a.values()),
    }


def load_adapter(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}


if __name__ == "__main__":
    main()
