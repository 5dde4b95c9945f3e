"""What a wheel holds, and that it works without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers.run import REPOSITORY

from lmsys_trl.config import bundled_folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder of an unpacked wheel, as pip would install it."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"  # a build leaves files beside the sources
    for name in ("lmsys_trl", "recipes", "accelerate_configs"):
        shutil.copytree(REPOSITORY / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    result = subprocess.run([*command, folder, sources], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def python(wheel, *words, cwd):
    """Run Python with the wheel installed; returns what it prints."""
    command, environment = [sys.executable, *map(str, words)], {**os.environ, "PYTHONPATH": str(wheel)}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def files_in(folder):
    """The files below a folder of the checkout, relative to it."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_wheel_holds_what_the_command_needs(wheel):
    for name, place in (("lmsys_trl", ""), ("recipes", "lmsys_trl/"), ("accelerate_configs", "lmsys_trl/")):
        assert files_in(REPOSITORY / name) <= files_in(wheel / f"{place}{name}")
    assert {path.name.partition("-")[0] for path in wheel.iterdir()} == {"lmsys_trl"}
    assert "lmsys-trl = lmsys_trl.cli:main" in next(wheel.glob("*.dist-info/entry_points.txt")).read_text()


def test_the_command_works_from_a_wheel(wheel, tmp_path):
    def lmsys_trl(*words):
        return python(wheel, "-m", "lmsys_trl.cli", *words, cwd=tmp_path)

    listing = lmsys_trl("recipes")
    assert "gemma.yaml" in listing and "submission-1.yaml" in listing
    lmsys_trl("copy", "smollm2.yaml", "mine.yaml")
    assert (tmp_path / "mine.yaml").is_file()
    assert "--learning_rate" in lmsys_trl("sft", "mine.yaml", "--help")
    lmsys_trl("synthesize", "--output_dir", "demo", "--num_train", 20, "--num_test", 5)
    lmsys_trl("prepare", "--sources", "demo/train.csv", "--output_dir", "battles")
    assert json.loads((tmp_path / "battles" / "prepare.json").read_text())["command"].startswith("recipes/prepare.py")


def test_metrics_of_a_wheel_are_loaded_by_evaluate(wheel, tmp_path):
    code = (
        "import lmsys_trl; from lmsys_trl.metrics import score; import numpy as np\n"
        "print(lmsys_trl.__file__); print(score(np.array([[0.5, 0.25, 0.25]]), np.array([0]))['log_loss'])"
    )
    where, loss = python(wheel, "-c", code, cwd=tmp_path).split()
    assert where.startswith(str(wheel)) and float(loss) == pytest.approx(0.6931, abs=1e-4)


def test_a_checkout_uses_its_own_recipes():
    assert bundled_folder("recipes") == REPOSITORY / "recipes"
    assert bundled_folder("accelerate_configs") == REPOSITORY / "accelerate_configs"
