"""A sweep: its grid, its runs, killed and started again, and its table."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.models import build_base
from helpers.run import REPOSITORY, recipe, run
from helpers.votes import draw, simulated, table, write_votes
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.metrics.functions import log_losses
from lmsys_trl.outputs import claim, is_claimed
from lmsys_trl.preflight.sweep import read_runs
from lmsys_trl.report.sweep import sweep_figures, sweep_notes

SWEEP = runpy.run_path(str(REPOSITORY / "recipes" / "sweep.py"), run_name="recipe")
TINY = "smollm2.yaml --model_name_or_path models/tiny --max_length 700 --bf16 false --lora_layers_to_transform 1 "
TINY += "--max_steps 6 --save_steps 2 --per_device_train_batch_size 2 --dataset_name data"
NAMES = ("learning_rate=0.001,swap=none", "learning_rate=0.01,swap=none")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a base model, a data set, a grid, and its sweep."""
    folder = tmp_path_factory.mktemp("sweep")
    build_base(folder / "models" / "tiny")
    write_votes(folder / "votes.csv", make_battles(40))
    recipe("prepare.py", "--sources", "votes.csv", "--output_dir", "data", cwd=folder)
    (folder / "grid.yaml").write_text("learning_rate: [1e-3, 0.01]\nswap: [none]\n")
    (folder / "output.txt").write_text(sweep(folder, "--tta", "swap"))
    return folder


def sweep(folder: Path, *words: str, output_dir: str = "runs/sweep", fails: bool = False) -> str:
    common = [*TINY.split(), "--sweep", "grid.yaml", "--output_dir", output_dir]
    return recipe("sweep.py", *common, *words, cwd=folder, fails=fails)


def adapters(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/adapter_model.safetensors")}


def test_a_sweep_leaves_judges_and_a_table(project):
    output, folder = (project / "output.txt").read_text(), project / "runs" / "sweep"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(NAMES)
    assert len(set(adapters(folder).values())) == 2
    for name in NAMES:
        recipe_yaml = yaml.safe_load((folder / name / "recipe.yaml").read_text())
        assert recipe_yaml["learning_rate"] == float(name.partition(",")[0].partition("=")[2])
        assert recipe_yaml["output_dir"] == f"runs/sweep/{name}" and "sweep" not in recipe_yaml
        log = (folder / name / "log.txt").read_text()
        assert "The judge is in" in log and log in output.replace("\r\n", "\n")
    found = json.loads((folder / "sweep.json").read_text())
    losses = [run["log_loss"]["value"] for run in found["runs"]]
    assert losses == sorted(losses) and {run["name"] for run in found["runs"]} == set(NAMES)
    assert found["runs"][0]["settings"].keys() == {"learning_rate", "swap"} and found["failed"] == {}
    assert found["configuration"]["tta"] == "swap" and found["versions"]["trl"] and found["order"] == "mean"
    text = (folder / "sweep.md").read_text()
    assert "is optimistic" in text and "Confirm it on other votes" in output and text.count("\n| learning_rate") == 2
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    best = found["runs"][0]["name"]
    assert f"Next: lmsys-trl validate --adapter runs/sweep/{best} --test_file OTHER_VOTES.csv" in output


def test_started_again_it_skips_what_is_finished_and_carries_out_what_is_new(project):
    folder, (first, second) = project / "runs" / "sweep", NAMES
    before = adapters(folder)
    (project / "grid.yaml").write_text("learning_rate: [1e-3, 0.01, 1e30]\nswap: [none]\n")
    output = sweep(project, "--tta", "swap", fails=True)
    (project / "grid.yaml").write_text("learning_rate: [1e-3, 0.01]\nswap: [none]\n")
    assert f"Run 1 of 3, {first}: finished before" in output and f"Run 2 of 3, {second}: finished before" in output
    assert "sweep.py: 1 of 3 runs failed:" in output and "sft ended with 1: " in output
    assert adapters(folder) == before
    found = json.loads((folder / "sweep.json").read_text())
    assert list(found["failed"]) == ["learning_rate=1e+30,swap=none"] and len(found["runs"]) == 2
    assert "1e+30" in (folder / "sweep.md").read_text()


def test_killed_and_started_again_equals_never_killed(project):
    killed, (first, second) = project / "runs" / "killed", NAMES
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sweep, project, "--tta", "swap", output_dir="runs/killed", fails=True)
        deadline = time.monotonic() + 300
        while not (killed / second / "checkpoint-2" / "manifest.json").exists():
            assert time.monotonic() < deadline and not running.done(), running.result()
            time.sleep(0.002)
        holder = (killed.parent / ".killed.lock").read_text()
        os.kill(int(re.match(r"process (\d+) on", holder)[1]), signal.SIGKILL)
        running.result()
    assert not (killed / second / "judge.json").exists() and not (killed / "sweep.json").exists()
    output = sweep(project, "--tta", "swap", output_dir="runs/killed")
    assert f"{first}: finished before" in output and f"Resuming from runs/killed/{second}/checkpoint-" in output
    assert adapters(killed) == adapters(project / "runs" / "sweep")
    found, expected = (
        json.loads((project / "runs" / name / "sweep.json").read_text())["runs"] for name in ("killed", "sweep")
    )
    assert found == expected


def test_all_mistakes_are_reported_before_the_first_run(project):
    (project / "bad.yaml").write_text(
        "lora_r: [0, 8]\nlerning_rate: [1]\nwarmup_steps: 3\noutput_dir: [a, b]\ntta: [none]\nseed: [1, 1]\n"
        "weight_decay: []\nmax_length: [long]\nlora_dropout: [0.1]\n"
    )
    words = ["--sweep", "bad.yaml", "--lora_dropout", "0.2", "--num_train_epochs", "-1", "--output_dir", "runs/bad"]
    output = recipe("sweep.py", "smollm2.yaml", *words, cwd=project, fails=True)
    for message in (
        "warmup_steps: expected a list of values in bad.yaml, such as [8, 16], found 3",
        "output_dir: not in bad.yaml, each run has its own folder",
        "tta: not in bad.yaml, it is the same for all runs",
        "seed: a value is listed twice in bad.yaml",
        "weight_decay: expected a list",
        "lora_dropout: is in bad.yaml and on the command line. Give it once",
        "num_train_epochs: input should be a number above 0 in the command line",
    ):
        assert output.count(message) == 1, (message, output)
    (project / "bad.yaml").write_text("lora_r: [0, 8]\nlerning_rate: [1]\nmax_length: [long, 700]\n")
    output = recipe("sweep.py", "smollm2.yaml", *words, "--push_to_hub", cwd=project, fails=True)
    for message in (
        "lora_r: input should be 1 or more in bad.yaml, found 0",
        "lerning_rate: unknown key in bad.yaml. Did you mean learning_rate?",
        "max_length: input should be a valid integer",
    ):
        assert output.count(message) == 1, (message, output)
    assert "Traceback" not in output and not (project / "runs" / "bad").exists()


def test_what_does_not_fit_together_is_reported_with_its_runs(project):
    (project / "head.yaml").write_text("loss: [answer, letters]\n")
    words = ["--sweep", "head.yaml", "--accelerate_config", "none.yaml", "--output_dir", "runs/head"]
    output = recipe("sweep.py", *TINY.split(), *words, cwd=project, fails=True)
    assert "head: new has rows for the letters only. Set loss: letters (in 1 of 2 runs, such as loss=answer)" in output
    assert "accelerate_config: there is no file 'none.yaml'" in output and "Traceback" not in output
    assert not list((project / "runs" / "head").glob("*"))


def test_folders_of_others_and_other_settings_are_refused(project):
    words = ["--sweep", "grid.yaml", "--weight_decay", "0.5", "--output_dir", "runs/sweep"]
    output = recipe("sweep.py", *TINY.split(), *words, cwd=project, fails=True)
    assert output.count("holds a finished judge with other settings or data") == 2
    assert "weight_decay: 0.01 then, 0.5 now" in output
    words[-1] = f"runs/sweep/{NAMES[0]}"
    assert "is a judge. Choose another folder" in recipe("sweep.py", *TINY.split(), *words, cwd=project, fails=True)
    (project / "mine").mkdir()
    (project / "mine" / "sweep.md").touch()
    words[-1] = "mine"
    assert "is not a sweep" in recipe("sweep.py", *TINY.split(), *words, cwd=project, fails=True)


GRIDS = {
    "learning_rate": st.floats(1e-6, 1.0),
    "lora_r": st.integers(1, 512),
    "swap": st.sampled_from(["none", "all", "paired"]),
    "bf16": st.booleans(),
    "lora_target_modules": st.lists(st.sampled_from(["q_proj", "k_proj", "v_proj"]), min_size=1, unique=True),
}


@settings(max_examples=20)
@given(
    st.fixed_dictionaries(
        {}, optional={key: st.lists(value, min_size=1, max_size=2, unique_by=str) for key, value in GRIDS.items()}
    ).filter(bool)
)
def test_every_point_of_a_grid_appears_once(tmp_path_factory, grid):
    file = tmp_path_factory.mktemp("grids") / "grid.yaml"
    file.write_text(yaml.safe_dump(grid, sort_keys=False))
    argv = ["--sweep", str(file), "--dataset_name", "data", "--output_dir", "runs"]
    runs = read_runs(SWEEP["CONFIGS"], argv, file, SWEEP["SweepConfig"])
    expected = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    assert [run.settings for run in runs] == expected
    assert len({run.name for run in runs}) == len(runs)
    assert all(run.given == {"dataset_name": "data", **run.settings} for run in runs)
    assert all(re.fullmatch(r"[\w.,=+-]+", run.name) for run in runs)


def test_values_that_would_share_a_folder_are_refused(tmp_path):
    (tmp_path / "grid.yaml").write_text("run_name: [a b, a_b]\n")
    argv = ["--sweep", "x", "--dataset_name", "data", "--output_dir", "runs"]
    with pytest.raises(UserError, match="2 runs would be called run_name=a_b"):
        read_runs(SWEEP["CONFIGS"], argv, tmp_path / "grid.yaml", SWEEP["SweepConfig"])
    (tmp_path / "grid.yaml").write_text(f"run_name: [{'a' * 300}]\n")
    with pytest.raises(UserError, match="too long for a folder"):
        read_runs(SWEEP["CONFIGS"], argv, tmp_path / "grid.yaml", SWEEP["SweepConfig"])


def test_a_grid_of_too_many_runs_is_refused_at_once(tmp_path):
    keys = ("lora_r", "lora_alpha", "warmup_steps", "max_steps", "seed")
    (tmp_path / "grid.yaml").write_text("".join(f"{key}: {list(range(1, 100))}\n" for key in keys))
    argv = ["--sweep", "grid.yaml", "--output_dir", "sweep", "--model_name_or_path", "base", "--dataset_name", "data"]
    with pytest.raises(ValueError, match="makes 9,509,900,499 runs, and 1,000 are the most"):
        read_runs(SWEEP["CONFIGS"], argv, tmp_path / "grid.yaml", SWEEP["SweepConfig"])


def test_runs_are_compared_on_the_same_battles():
    predictions = simulated(60, 3)
    labels = draw(predictions[:, 2])
    tables = {name: table(predictions[:, i], labels=labels) for i, name in enumerate("abc")}
    found = sweep_figures(tables, "ab")
    assert found["num_battles"] == 60 and found["num_groups"] == 30
    assert found["runs"][0]["name"] == "c" and found["runs"][0]["minus_best"] is None
    losses = {name: log_losses(predictions[:, i], labels) for i, name in enumerate("abc")}
    for row in found["runs"]:
        assert row["log_loss"]["value"] == pytest.approx(losses[row["name"]].mean())
    for row in found["runs"][1:]:
        assert row["minus_best"]["value"] == pytest.approx((losses[row["name"]] - losses["c"]).mean())
        assert 0 < row["minus_best"]["low"] < row["minus_best"]["high"]
    assert found["num_not_worse"] == 0
    shuffled = {name: rows.sample(frac=1, random_state=1) if name == "a" else rows for name, rows in tables.items()}
    assert sweep_figures(shuffled, "ab")["runs"] == found["runs"]
    same = sweep_figures({"a": tables["a"], "b": tables["a"]}, "ab")
    assert same["num_not_worse"] == 1 and "1 of the 1 other runs" in " ".join(sweep_notes(same))
    with pytest.raises(UserError, match="has predicted other battles than a"):
        sweep_figures({"a": tables["a"], "b": tables["b"].iloc[1:]}, "ab")


def test_one_run_alone_is_the_best_of_none():
    tables = {"a": table(simulated(10, 1)[:, 0], labels=np.zeros(10, dtype=int))}
    assert "optimistic" not in " ".join(sweep_notes(sweep_figures(tables, "ab")))


def test_what_is_claimed(tmp_path):
    output = tmp_path / "out"
    assert not is_claimed(output)
    with claim(output):
        code = "from pathlib import Path; from lmsys_trl.outputs import is_claimed; print(is_claimed(Path('out')))"
        assert run(sys.executable, "-c", code, cwd=tmp_path) == "True\n"
    assert not is_claimed(output)


@pytest.mark.slow
def test_a_sweep_that_is_stopped_lets_its_run_save(project):
    """With the processes that a user has: sweep, accelerate launch, sft."""
    words = [*TINY.replace("max_steps 6", "max_steps 600").split(), "--sweep", "grid.yaml", "--output_dir", "stopped"]
    command = [sys.executable, str(REPOSITORY / "recipes" / "sweep.py"), *words, "--accelerate_config", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=project, env=environment, **streams)
    folder, deadline = project / "stopped" / NAMES[0], time.monotonic() + 300
    while not list(folder.glob("checkpoint-2/manifest.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 143 and "sweep.py: stopped by SIGTERM" in output, output
    assert "Stopped after a complete step, which is saved" in output and not is_claimed(folder)
