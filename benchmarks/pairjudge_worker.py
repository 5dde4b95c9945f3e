"""
Trains a judge with pairjudge and predicts with it in both orders of the answers. Runs in pairjudge's own environment,
which peers.py makes; imports nothing of this project.

    python benchmarks/pairjudge_worker.py JOB.json
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from pairjudge.judge import PairwiseJudge
from pairjudge.training import JudgeTrainConfig, train

SWAPPED = {"response_a": "response_b", "response_b": "response_a"}
PACKAGES = ("pairjudge", "torch", "transformers", "peft", "huggingface_hub")


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    trained = train(JudgeTrainConfig(**job["config"]))
    judge = PairwiseJudge.from_pretrained(Path(trained["output_dir"]) / "adapter")
    battles = pd.read_json(job["test_file"], lines=True, dtype={"id": str})
    began = time.perf_counter()
    orders = {
        "ab": judge.predict_proba(battles).tolist(),
        "ba": judge.predict_proba(battles.rename(columns=SWAPPED))[:, [1, 0, 2]].tolist(),
    }
    seconds = time.perf_counter() - began
    training = json.loads((Path(trained["output_dir"]) / "training.json").read_text())
    rows = pd.read_json(job["config"]["train_path"], lines=True)
    packed = (judge.packer.pack(*texts) for texts in zip(rows.prompt, rows.response_a, rows.response_b, strict=True))
    result = {
        "ids": battles["id"].tolist(),
        "orders": orders,
        "training_seconds": training["elapsed_s"],
        "training_tokens": sum(len(example.input_ids) for example in packed),
        "prediction_seconds": seconds,
        "versions": {package: version(package) for package in PACKAGES},
    }
    Path(job["result"]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
