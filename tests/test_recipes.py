"""Every recipe as a user runs it, on a tiny model with random weights."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, build_base, recipe, write_votes
from safetensors.torch import load_file

from lmsys_trl import Judge
from lmsys_trl.synthetic import make_battles

CPU = REPOSITORY / "accelerate_configs" / "cpu.yaml"
TINY = [
    "--model_name_or_path",
    "models/tiny",
    "--max_length",
    "700",
    "--bf16",
    "false",
    "--base_model_id",
    "owner/tiny",
]
TINY += ["--lora_layers_to_transform", "1"]  # it has two layers


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a base model, votes, a data set and a trained judge."""
    folder = tmp_path_factory.mktemp("project")
    build_base(folder / "models" / "tiny")
    # accelerate starts several processes for this type only; with use_cpu they run on the CPU, over gloo.
    two = CPU.read_text().replace('distributed_type: "NO"', "distributed_type: MULTI_GPU")
    (folder / "two.yaml").write_text(two.replace("num_processes: 1", "num_processes: 2"))
    write_votes(folder / "votes.csv", make_battles(40))
    write_votes(folder / "test.csv", make_battles(7, seed="test"))
    recipe("prepare.py", "--sources", "votes.csv", "--output_dir", "data/battles", cwd=folder)
    output = recipe("sft.py", "smollm2.yaml", *TINY, "--output_dir", "runs/judge", cwd=folder, launch=[])
    assert "max_length: 700" in output and "The judge is in runs/judge" in output
    return folder


def test_what_a_finished_judge_consists_of(project):
    judge = project / "runs" / "judge"
    names = {path.name for path in judge.iterdir() if path.is_file()}
    assert {"adapter_model.safetensors", "adapter_config.json", "judge.json", "baseline_features.parquet"} <= names
    assert {"tokenizer.json", "tokenizer_config.json"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}
    settings = json.loads((judge / "judge.json").read_text())
    assert settings["base_model"]["id"] == "owner/tiny" and settings["max_length"] == 700
    assert settings["temperature"] == 1.03 and settings["versions"]["trl"]
    for name in ("judge.json", "adapter_config.json"):
        assert str(project) not in (judge / name).read_text()
    assert json.loads((judge / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/tiny"


def test_a_finished_run_says_so(project):
    before = (project / "runs" / "judge" / "adapter_model.safetensors").read_bytes()
    output = recipe("sft.py", "smollm2.yaml", *TINY, "--output_dir", "runs/judge", cwd=project)
    assert "runs/judge holds a finished judge" in output
    assert (project / "runs" / "judge" / "adapter_model.safetensors").read_bytes() == before


def test_mistakes_are_told_before_anything_is_loaded(project):
    output = recipe("sft.py", "smollm2.yaml", "--learning_rte", "1", "--max_length", "long", cwd=project, fails=True)
    assert "sft.py: 2 mistakes:" in output and "Did you mean learning_rate?" in output and "max_length: " in output
    assert "Traceback" not in output
    output = recipe("sft.py", "smollm2.yaml", *TINY, "--dataset_name", "none", cwd=project, fails=True)
    assert "dataset_name: none is no data set" in output and "Traceback" not in output
    output = recipe("sft.py", "smollm2.yaml", "--model_name_or_path", "models/none", cwd=project, fails=True)
    assert "base model models/none: there is no such folder" in output and "Traceback" not in output


def test_submission(project):
    common = ["--adapter", "runs/judge", "--test_file", "test.csv", "--tta", "swap"]
    recipe("predict.py", *common, "--output_file", "submission.csv", cwd=project, launch=["--config_file", CPU])
    submission = pd.read_csv(project / "submission.csv")
    assert list(submission.columns) == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    assert list(submission["id"]) == [battle["id"] for battle in make_battles(7, seed="test")]
    assert np.allclose(submission.iloc[:, 1:].sum(axis=1), 1, atol=1e-12)

    recipe(
        "predict.py",
        *common,
        "--output_file",
        "all.parquet",
        cwd=project,
        launch=["--config_file", project / "two.yaml"],
    )
    predictions = pd.read_parquet(project / "all.parquet")
    assert list(predictions["order"]) == ["ab", "ba", "mean"] * 7
    assert list(predictions["winner"][::3]) == [battle["winner"] for battle in make_battles(7, seed="test")]
    mean = predictions[predictions["order"] == "mean"]
    assert np.allclose(mean.iloc[:, 2:5], submission.iloc[:, 1:], atol=1e-6)  # in whatever processes


def test_predict_answers_every_id_of_a_broken_file(project):
    (project / "broken.csv").write_text(
        'id,prompt,response_a,response_b\nx,"[null]","[null]","[null]"\ny,[],[],[]\nz,oops,"[""a""]","[""a"",""b""]"\n'
    )
    output = recipe(
        "predict.py", "--adapter", "runs/judge", "--test_file", "broken.csv", "--output_file", "out.csv", cwd=project
    )
    assert "missing turns, filled with empty text" in output
    assert list(pd.read_csv(project / "out.csv")["id"]) == ["x", "y", "z"]
    output = recipe(
        "predict.py", "--adapter", "runs/judge", "--test_file", "test.csv", "--output_file", "x.txt", cwd=project,
        fails=True,
    )  # fmt: skip
    assert "expected a name that ends in .csv or .parquet" in output


def test_validation_report(project):
    known = pd.DataFrame([b["probabilities"] for b in make_battles(7, seed="test")])
    known.columns = ["winner_model_a", "winner_model_b", "winner_tie"]
    known.insert(0, "id", [b["id"] for b in make_battles(7, seed="test")])
    known.to_csv(project / "known.csv", index=False)
    recipe(
        "validate.py", "--adapter", "runs/judge", "--test_file", "test.csv", "--known_probabilities", "known.csv",
        "--output_dir", "reports/judge", cwd=project,
    )  # fmt: skip
    metrics = json.loads((project / "reports" / "judge" / "metrics.json").read_text())
    four = {"log_loss", "accuracy", "brier_score", "ece"}
    assert metrics.keys() >= four | {"flip_rate", "num_battles", "baselines"}
    assert metrics["baselines"].keys() == {"uniform", "class_prior", "logistic_regression"}
    assert all(scores.keys() == four for scores in metrics["baselines"].values())
    assert metrics["num_battles"] == 7 and metrics["baselines"]["uniform"]["log_loss"] == pytest.approx(np.log(3))
    assert "fitted on the judge's" in metrics["baselines_fitted"]

    predictions = pd.read_parquet(project / "reports" / "judge" / "predictions.parquet")
    given = predictions[predictions["order"] == "ab"]
    labels = [["model_a", "model_b", "tie"].index(winner) for winner in given["winner"]]
    chosen = given.iloc[:, 2:5].to_numpy()[range(7), labels]
    assert metrics["log_loss"] == pytest.approx(-np.log(chosen).mean())
    page = (project / "reports" / "judge" / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and page.count("data:image/png;base64,") == 2
    assert "<script" not in page

    recipe(
        "validate.py", "--adapter", "runs/judge", "--dataset_name", "data/battles", "--output_dir", "reports/split",
        cwd=project,
    )  # fmt: skip
    metrics = json.loads((project / "reports" / "split" / "metrics.json").read_text())
    assert metrics["num_battles_with_a_training_prompt"] == 0


def test_python(project, monkeypatch):
    monkeypatch.chdir(project)
    judge = Judge.from_pretrained("runs/judge")
    forecast = judge.predict(prompt=["p"], response_a=["a"], response_b=["b"])
    assert forecast.keys() == {"winner_model_a", "winner_model_b", "winner_tie"}
    assert sum(forecast.values()) == pytest.approx(1)
    # In both orders the forecast of the exchanged battle is the exchanged forecast.
    one = judge.predict(prompt="p", response_a="a", response_b="b", tta="swap")
    other = judge.predict(prompt="p", response_a="b", response_b="a", tta="swap")
    assert one["winner_model_a"] == pytest.approx(other["winner_model_b"])


def test_one_process_or_two_make_the_same_step(project):
    """A step of SGD with learning rate 1 is the gradient: 8 battles in one process, or 4 in each of two."""
    arguments = ["smollm2.yaml", *TINY, "--optim", "sgd", "--learning_rate", "1.0", "--max_grad_norm", "0"]
    arguments += ["--max_steps", "1", "--warmup_steps", "0"]
    adapters = {}
    # multi_gpu.yaml as it is, but for the number of processes: without a GPU they talk over gloo.
    two = [REPOSITORY / "accelerate_configs" / "multi_gpu.yaml", "--num_processes", 2]
    for name, rows, config in (("one", 8, [CPU]), ("two", 4, two)):
        batch = ["--per_device_train_batch_size", rows, "--output_dir", f"runs/{name}"]
        output = recipe("sft.py", *arguments, *batch, cwd=project, launch=["--config_file", *config])
        assert f"processes: {1 if name == 'one' else 2}" in output
        adapters[name] = load_file(project / "runs" / name / "adapter_model.safetensors")
    for name, one in adapters["one"].items():
        assert (one - adapters["two"][name]).norm() <= 1e-5 * one.norm(), name


def test_four_bits(project):
    """QLoRA as in gemma.yaml, on the CPU: trains, and its judge.json loads the base in 4 bits again."""
    build_base(project / "models" / "wide", hidden_size=64, intermediate_size=128)
    recipe(
        "sft.py", "smollm2.yaml", *TINY[2:], "--model_name_or_path", "models/wide", "--load_in_4bit",
        "--dtype", "bfloat16", "--output_dir", "runs/four_bits", cwd=project,
    )  # fmt: skip
    settings = json.loads((project / "runs" / "four_bits" / "judge.json").read_text())
    assert settings["precision"]["quantization"]["bnb_4bit_quant_type"] == "nf4"
    judge = Judge.from_pretrained(project / "runs" / "four_bits", str(project / "models" / "wide"))
    assert judge.model.get_base_model().is_loaded_in_4bit
    assert sum(judge.predict(prompt=["p"], response_a=["a"], response_b=["b"]).values()) == pytest.approx(1)


def sft_command(project, *arguments) -> dict:
    """What starts recipes/sft.py as a process that can be told to stop."""
    command = [sys.executable, REPOSITORY / "recipes" / "sft.py", "smollm2.yaml", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return {"args": [str(word) for word in command], "cwd": project, "env": environment}


def stop_when_saving(start: dict, folder, sent: int, delay: float) -> tuple[int, str]:
    """Send a signal a moment after a new checkpoint's folder appears, so that it may be half-written."""
    process = subprocess.Popen(**start, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    before, over = set(folder.glob("checkpoint-*")), time.monotonic() + 90
    while process.poll() is None and time.monotonic() < over and not set(folder.glob("checkpoint-*")) - before:
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(sent)
    return process.wait(), process.stdout.read()


def kill_and_go_on(project, delays: list[float], epochs: int) -> None:
    arguments = [*TINY, "--per_device_train_batch_size", "2", "--save_steps", "2", "--num_train_epochs", epochs]
    recipe("sft.py", "smollm2.yaml", *arguments, "--output_dir", "runs/whole", cwd=project)
    killed = project / "runs" / "killed"
    start = sft_command(project, *arguments, "--output_dir", "runs/killed")
    for delay in delays:
        status, _ = stop_when_saving(start, killed, signal.SIGKILL, delay)
        assert status == -signal.SIGKILL  # it had not ended
        assert len([path for path in killed.glob("checkpoint-*") if (path / "manifest.json").exists()]) <= 3
    recipe("sft.py", "smollm2.yaml", *arguments, "--output_dir", "runs/killed", cwd=project)
    whole, other = (project / "runs" / name / "adapter_model.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == other.read_bytes()
    shutil.rmtree(killed)
    shutil.rmtree(project / "runs" / "whole")


def test_killed_and_started_again_equals_never_killed(project):
    kill_and_go_on(project, delays=[0.0, 0.01, 0.05], epochs=2)


@pytest.mark.slow
def test_killed_twenty_times_equals_never_killed(project):
    """Half of them while a checkpoint is saved, half at any moment."""
    random_numbers = random.Random(0)
    kill_and_go_on(project, [random_numbers.uniform(0, 0.1 if i % 2 else 1.0) for i in range(20)], epochs=20)


def test_sigterm_ends_the_step_and_saves(project):
    arguments = [*TINY, "--per_device_train_batch_size", "2", "--save_steps", "3"]
    start = sft_command(project, *arguments, "--output_dir", "runs/told")
    status, output = stop_when_saving(start, project / "runs" / "told", signal.SIGTERM, 0.05)
    assert status == 128 + signal.SIGTERM and "Stopped by SIGTERM after a whole step" in output
    assert not (project / "runs" / "told" / "judge.json").exists()
    last = max(int(path.parent.name[11:]) for path in (project / "runs" / "told").glob("checkpoint-*/manifest.json"))

    changed = ["--learning_rate", "0.5", "--swap", "paired"]
    output = recipe(
        "sft.py", "smollm2.yaml", *arguments, *changed, "--output_dir", "runs/told", cwd=project, fails=True
    )
    assert "learning_rate: 0.001 then, 0.5 now" in output and "swap: none then, paired now" in output
    assert "Traceback" not in output
    # Another number of steps between saves is no other run; and a judge knows nothing of the interruption.
    arguments[-1] = "5"
    recipe("sft.py", "smollm2.yaml", *arguments, "--output_dir", "runs/told", cwd=project)
    recipe("sft.py", "smollm2.yaml", *arguments, "--output_dir", "runs/untold", cwd=project)
    told, untold = (project / "runs" / name / "adapter_model.safetensors" for name in ("told", "untold"))
    assert last < 16 and told.read_bytes() == untold.read_bytes()
