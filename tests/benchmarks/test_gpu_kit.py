"""The GPU measurements, shrunk, on a CPU."""

import json
import os
import subprocess
import sys

import pytest
from helpers.run import REPOSITORY

PARTS = ("env", "gemma-2-2b", "recipe", "real_votes")


@pytest.mark.slow
def test_all_parts_measure_something(assets, tmp_path):
    if not (REPOSITORY / "models" / "SmolLM2-135M-Instruct" / "config.json").is_file():
        pytest.skip("models/ has no base model: lmsys-trl fetch makes it")
    folders = ["--kit_dir", tmp_path, "--output_dir", tmp_path / "out", "--assets", assets]
    words = [*PARTS, "--tiny", "--budget", "3000", *map(str, folders)]
    run = subprocess.run(
        [sys.executable, "benchmarks/gpu/run_gpu.py", *words],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for part in PARTS:
        assert f"{part}: ended with 0" in run.stdout, run.stdout + run.stderr
        rows = json.loads((tmp_path / "out" / f"{part}.json").read_text())["rows"]
        assert rows and not [row for row in rows if "error" in row], rows
        assert f"== {part}" in (tmp_path / "out" / "tables.txt").read_text()
