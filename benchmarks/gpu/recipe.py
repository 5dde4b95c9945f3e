"""
gemma-2-2b.yaml by its real commands, on a base model of four layers of the real width: prepare, train in 4 bits, a
kill in the midst, the same command again, prediction. Is the judge of the broken run that of the whole one?
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
from common import ASSETS, CUDA, KIT, Results, build_base
from safetensors.torch import load_file

STEPS, SAVE = 12, 4


def main():
    results, tiny = Results("recipe", float(sys.argv[2])), "--tiny" in sys.argv
    work = KIT / "work" / "recipe"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with results.row("base model of four layers"):
        base = build_base("gemma-2-2b", tiny, layers=4)
    votes, data = ASSETS / "data" / "arena_first100.csv", work / "data"
    words = ["recipes/prepare.py", "--sources", votes, "--output_dir", data, "--validation_share", "0.1"]
    with results.row("prepare.py"):
        subprocess.run([sys.executable, *map(str, words)], check=True)

    def command(folder: str, launcher: bool) -> list[str]:
        settings = {
            "model_name_or_path": base, "dataset_name": data, "output_dir": work / folder, "max_steps": STEPS,
            "save_steps": SAVE, "logging_steps": 1, "battles_per_step": 8, "learning_rate": 2e-4, "report_to": "none",
            "disable_tqdm": True, "eval_strategy": "steps", "eval_steps": STEPS,
        }  # fmt: skip
        if tiny:
            settings |= {"max_length": 192, "inference_max_length": 192, "battles_per_step": 2}
        config = "single_gpu" if CUDA else "cpu"
        launch = ["-m", "accelerate.commands.launch", "--config_file", f"accelerate_configs/{config}.yaml"]
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        # Told to stop, the launcher goes at once and leaves the training alone: then without it.
        return [sys.executable, *(launch if launcher else []), "recipes/sft.py", "gemma-2-2b.yaml", *words]

    def train(folder: str, name: str, kill_at: int | None = None, with_signal: int = signal.SIGKILL) -> str:
        log = work / f"{name}.log"
        with log.open("w") as file:
            words = command(folder, with_signal == signal.SIGKILL)
            process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
            manifest, killed = work / folder / f"checkpoint-{kill_at}" / "manifest.json", False
            while process.poll() is None and time.time() < results.deadline:
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

    with results.row("sft.py, whole") as row:
        text = train("whole", "sft-whole")
        row["losses"] = losses(text)
        row["tokens/s, last step"] = re.findall(r"'tokens_per_second': '?([\d.]+)", text)[-1:]
        row["judge"] = (work / "whole" / "judge.json").exists()
    with results.row("sft.py, killed after a checkpoint and started again") as row:
        train("broken", "sft-broken", SAVE)
        assert not (work / "broken" / "judge.json").exists(), "it ended before it was killed"
        row["losses"] = losses(train("broken", "sft-again"))
        row |= compare(work / "whole", work / "broken")
    with results.row("sft.py, SIGTERM and started again") as row:
        train("told", "sft-told", SAVE, signal.SIGTERM)
        row["judge before the second start"] = (work / "told" / "judge.json").exists()
        train("told", "sft-told-again")
        row |= compare(work / "whole", work / "told")
    first = None
    for name, options in (("predict.py", []), ("predict.py, other batches", ["--max_tokens_per_batch", "16384"])):
        with results.row(name) as row:
            began = time.time()
            file = work / f"{name.replace(' ', '-').replace(',', '')}.parquet"
            words = ["--adapter", work / "whole", "--test_file", votes, "--output_file", file, "--tta", "swap"]
            words += ["--model_name_or_path", base, *options]
            subprocess.run([sys.executable, "recipes/predict.py", *map(str, words)], check=True)
            table = pd.read_parquet(file)
            columns = [name for name in table if name.startswith("winner_")]
            forecasts = table[columns].to_numpy()
            row["seconds"], row["forecasts"] = time.time() - began, len(forecasts)
            if first is not None:
                row["largest difference"] = float(np.abs(forecasts - first).max())
            first = forecasts
    shutil.rmtree(base)


def losses(text: str) -> str:
    return " ".join(re.findall(r"'loss': '?([-\d.]+|nan)", text))


def compare(one: Path, other: Path) -> dict:
    """Of two adapters: whether they are the same, and the largest difference."""
    a, b = (load_bf16(folder / "adapter_model.safetensors") for folder in (one, other))
    differences = [float(np.abs(a[name] - b[name]).max()) for name in a]
    return {"bit for bit": max(differences) == 0, "largest difference": max(differences), "largest weight": max(
        float(np.abs(value).max()) for value in a.values()
    )}  # fmt: skip


def load_bf16(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}


if __name__ == "__main__":
    main()
