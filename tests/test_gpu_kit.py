"""The kit of measurements for a GPU, shrunken, on a CPU."""

import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

PARTS = ("env", "gemma-2-2b", "recipe", "real_votes")
NO_KERNEL_ON_A_CPU = ("flex_attention", "bare backbone")


@pytest.mark.slow
def test_all_parts_measure_something(assets, tmp_path):
    models = REPOSITORY / "models"
    if not (models / "SmolLM2-135M-Instruct" / "config.json").is_file():
        pytest.skip("models/ has no base model: make it with recipes/fetch.py")
    (tmp_path / "models").symlink_to(models)
    environment = {"KIT": str(tmp_path), "KIT_ASSETS": str(assets), "OUT": str(tmp_path / "out"), "PYTHONPATH": "."}
    command = [sys.executable, "benchmarks/gpu/run_gpu.py", *PARTS, "--tiny", "--budget", "3000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", **environment}
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    for part in PARTS:
        assert f"{part}: ended with 0" in run.stdout, run.stdout + run.stderr
        rows = json.loads((tmp_path / "out" / f"{part}.json").read_text())["rows"]
        assert rows and not [row for row in rows if "error" in row], rows
