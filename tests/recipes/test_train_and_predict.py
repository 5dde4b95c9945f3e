"""Every recipe as a user runs it, on a tiny model with random weights."""

import json
import random
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from helpers.models import build_base
from helpers.run import REPOSITORY, programs, recipe
from helpers.votes import write_votes
from safetensors.torch import load_file

from lmsys_trl import Judge
from lmsys_trl.battle import winner_of
from lmsys_trl.data.dataset import load_battles
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.metrics import score
from lmsys_trl.predictions.table import PROBABILITIES

CPU = REPOSITORY / "accelerate_configs" / "cpu.yaml"
TINY = ["--model_name_or_path", "models/tiny", "--max_length", "700", "--bf16", "false"]
TINY += ["--base_model_id", "owner/tiny", "--lora_layers_to_transform", "1"]  # it has two layers
NOTICES = ("PAD/BOS/EOS", "is_gradient_checkpointing")  # that nobody can act on


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a base model, votes, a data set and a trained judge."""
    folder = tmp_path_factory.mktemp("project")
    build_base(folder / "models" / "tiny")
    write_votes(folder / "votes.csv", make_battles(40))
    write_votes(folder / "test.csv", make_battles(7, seed="test"))
    recipe("prepare.py", "--sources", "votes.csv", "--output_dir", "data/battles", cwd=folder)
    output = recipe(
        "sft.py", "smollm2.yaml", *TINY, "--output_dir", "runs/judge", cwd=folder, launch=["--config_file", CPU]
    )
    assert "max_length: 700" in output and "The judge is in runs/judge" in output
    (folder / "output.txt").write_text(output)
    return folder


def test_a_finished_run_says_what_came_out_and_what_to_do_next(project):
    lines = (project / "output.txt").read_text().splitlines()
    command = "lmsys-trl validate --adapter runs/judge --dataset_name data/battles --output_dir runs/judge/report"
    assert [line for line in lines if line.startswith("Next: ")] == [f"Next: {command}"]
    (reported,) = (line for line in lines if line.startswith("validation: log loss"))
    assert not [notice for notice in NOTICES if any(notice in line for line in lines)]
    judge = Judge.from_pretrained(project / "runs/judge", str(project / "models/tiny"))
    battles = list(load_battles(str(project / "data/battles"))["validation"])
    judge.settings.temperature = 1.0  # the loss is that of the logits as they are
    table = judge.predict_dataset(battles, max_length=700, progress=False)
    scores = score(table[PROBABILITIES].to_numpy(), np.array([battle["vote"].index(1) for battle in battles]))
    assert reported == (
        f"validation: log loss {scores['log_loss']:.4f}, accuracy {scores['accuracy']:.1%} at step 4, on "
        f"{len(battles)} battles"
    )


def test_what_a_finished_judge_consists_of(project):
    judge = project / "runs" / "judge"
    names = {path.name for path in judge.iterdir() if path.is_file()}
    assert {"adapter_model.safetensors", "adapter_config.json", "judge.json", "baseline_features.parquet"} <= names
    assert {"tokenizer.json", "tokenizer_config.json"} <= names
    assert (judge / "base_model.txt").read_text().strip() == str(project / "models" / "tiny")
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}
    settings = json.loads((judge / "judge.json").read_text())
    assert settings["base_model"]["id"] == "owner/tiny" and settings["max_length"] == 700
    assert settings["temperature"] == 1.25 and settings["versions"]["trl"]
    for name in ("judge.json", "adapter_config.json"):
        assert str(project) not in (judge / name).read_text()
    assert json.loads((judge / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/tiny"


def test_a_finished_run_says_so(project):
    before = (project / "runs" / "judge" / "adapter_model.safetensors").read_bytes()
    output = recipe("sft.py", "smollm2.yaml", *TINY, "--output_dir", "runs/judge", cwd=project)
    assert "runs/judge holds this judge already" in output
    changes = ["--learning_rate", "0.5", "--temperature", "2", "--save_steps", "7"]
    output = recipe("sft.py", "smollm2.yaml", *TINY, "--output_dir", "runs/judge", *changes, cwd=project, fails=True)
    assert "runs/judge holds a finished judge with other settings or data" in output
    assert "learning_rate: 0.001 then, 0.5 now" in output and "temperature: 1.25 then, 2.0 now" in output
    assert (project / "runs" / "judge" / "adapter_model.safetensors").read_bytes() == before


def test_a_checkpoint_to_resume_from_is_one(project):
    arguments = ["--resume_from_checkpoint", "none", "--packing", "true", "--lora_r", "0"]
    output = recipe("sft.py", "smollm2.yaml", *TINY, *arguments, cwd=project, fails=True)
    assert "packing: true in the command line has no effect here: battles would see each other" in output
    output = recipe("sft.py", "smollm2.yaml", *TINY, *arguments[:2], cwd=project, fails=True)
    assert "resume_from_checkpoint: there is no folder none" in output
    for name, problem in (("runs/judge", "is incomplete"),):
        arguments = ["--output_dir", "runs/new", "--resume_from_checkpoint", name]
        output = recipe("sft.py", "smollm2.yaml", *TINY, *arguments, cwd=project, fails=True)
        assert f"resume_from_checkpoint: {name} {problem}" in output and "Traceback" not in output
    checkpoint = sorted((project / "runs" / "judge").glob("checkpoint-*"))[0]
    arguments = ["--output_dir", "runs/new", "--resume_from_checkpoint", checkpoint]
    recipe("sft.py", "smollm2.yaml", *TINY, *arguments, cwd=project)
    old, new = (project / "runs" / name / "adapter_model.safetensors" for name in ("judge", "new"))
    assert old.read_bytes() == new.read_bytes()


def test_another_base_than_the_yaml_names_is_questioned(project):
    warning = "set base_model_id too"
    assert warning not in (project / "output.txt").read_text()  # where both are given
    options = ["--max_steps", "1", "--output_dir", "runs/other"]
    output = recipe("sft.py", "smollm2.yaml", *TINY[:6], *options, cwd=project)
    assert "judge.json calls models/tiny by the YAML's base_model_id, HuggingFaceTB" in output
    assert warning in output


def test_mistakes_are_reported_before_anything_is_loaded(project):
    output = recipe("sft.py", "smollm2.yaml", "--learning_rte", "1", "--max_length", "long", cwd=project, fails=True)
    assert "sft.py: 2 problems:" in output and "Did you mean learning_rate?" in output and "max_length: " in output
    assert "Traceback" not in output
    output = recipe("sft.py", "smollm2.yaml", *TINY, "--dataset_name", "none", cwd=project, fails=True)
    assert "dataset_name: none is not a data set" in output and "Traceback" not in output
    output = recipe("sft.py", "smollm2.yaml", "--model_name_or_path", "models/none", cwd=project, fails=True)
    assert "base model models/none: there is no such folder" in output and "Traceback" not in output


def test_submission(project):
    common = ["--adapter", "runs/judge", "--test_file", "test.csv", "--tta", "swap"]
    recipe("predict.py", *common, "--output_file", "submission.csv", cwd=project)
    submission = pd.read_csv(project / "submission.csv")
    assert list(submission.columns) == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    assert list(submission["id"]) == [battle["id"] for battle in make_battles(7, seed="test")]
    assert np.allclose(submission.iloc[:, 1:].sum(axis=1), 1, atol=1e-12)

    recipe("predict.py", *common, "--output_file", "all.parquet", cwd=project)
    predictions = pd.read_parquet(project / "all.parquet")
    assert list(predictions["order"]) == ["ab", "ba", "mean"] * 7
    assert list(predictions["winner"][::3]) == [winner_of(battle["vote"]) for battle in make_battles(7, seed="test")]
    mean = predictions[predictions["order"] == "mean"]
    assert np.allclose(mean.iloc[:, 2:5], submission.iloc[:, 1:], atol=1e-6)


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
    judge = metrics["judges"]["runs/judge"]
    assert metrics["num_battles"] == 7 and judge["orders"].keys() == {"ab", "ba", "mean"}
    assert metrics["baselines"].keys() == {"uniform", "class_prior", "logistic_regression"}
    assert metrics["baselines"]["uniform"]["log_loss"]["value"] == pytest.approx(np.log(3))
    assert "training votes" in metrics["baselines_fitted"]

    predictions = pd.read_parquet(project / "reports" / "judge" / "predictions.parquet")
    for order in ("ab", "mean"):
        rows = predictions[predictions["order"] == order]
        labels = [["model_a", "model_b", "tie"].index(winner) for winner in rows["winner"]]
        chosen = rows.iloc[:, 2:5].to_numpy()[range(7), labels]
        assert judge["orders"][order]["log_loss"]["value"] == pytest.approx(-np.log(chosen).mean())
    page = (project / "reports" / "judge" / "report.html").read_text()
    plots = list((project / "reports" / "judge" / "plots").glob("*.png"))
    assert page.count("data:image/png;base64,") == len(plots) == 6
    assert "http:" not in page and "https:" not in page and "<script" not in page

    recipe(
        "validate.py", "--adapter", "runs/judge", "--predictions", "reports/judge/predictions.parquet", "--test_file",
        "test.csv", "--output_dir", "reports/two", cwd=project,
    )  # fmt: skip
    metrics = json.loads((project / "reports" / "two" / "metrics.json").read_text())
    assert list(metrics["judges"]) == ["runs/judge", "reports/judge"]
    assert metrics["differences"][0]["log_loss"]["value"] == pytest.approx(0, abs=1e-5)

    recipe(
        "validate.py", "--adapter", "runs/judge", "--dataset_name", "data/battles", "--output_dir", "reports/split",
        cwd=project,
    )  # fmt: skip
    metrics = json.loads((project / "reports" / "split" / "metrics.json").read_text())
    assert metrics["judges"]["runs/judge"]["num_battles_with_a_training_prompt"] == 0


def test_python(project, monkeypatch):
    monkeypatch.chdir(project)
    judge = Judge.from_pretrained("runs/judge")
    prediction = judge.predict(prompt=["p"], response_a=["a"], response_b=["b"])
    assert prediction.keys() == {"winner_model_a", "winner_model_b", "winner_tie"}
    assert sum(prediction.values()) == pytest.approx(1)
    # In both orders the prediction of the swapped battle is the swapped prediction.
    as_given = judge.predict(prompt="p", response_a="a", response_b="b", tta="swap")
    swapped = judge.predict(prompt="p", response_a="b", response_b="a", tta="swap")
    assert as_given["winner_model_a"] == pytest.approx(swapped["winner_model_b"])


def test_one_process_or_two_make_the_same_step(project):
    """A step of SGD with learning rate 1 is the gradient: 8 battles in one process, or 4 in each of two."""
    arguments = ["smollm2.yaml", *TINY, "--optim", "sgd", "--learning_rate", "1.0", "--max_grad_norm", "0"]
    arguments += ["--max_steps", "1", "--warmup_steps", "0", "--loraplus_lr_ratio", "1"]
    adapters = {}
    # multi_gpu.yaml as it is, but for the number of processes: without a GPU they talk over gloo.
    two = [REPOSITORY / "accelerate_configs" / "multi_gpu.yaml", "--num_processes", 2]
    reported = {}
    for name, size, launch in (("one", 8, None), ("two", 4, ["--config_file", *two])):
        batch = ["--per_device_train_batch_size", size, "--output_dir", f"runs/{name}"]
        output = recipe("sft.py", *arguments, *batch, cwd=project, launch=launch)
        assert f"processes: {1 if name == 'one' else 2}" in output
        assert not [notice for notice in NOTICES if notice in output]
        (reported[name],) = re.findall(r"^validation: log loss ([\d.]+), accuracy .* on (\d+) battles$", output, re.M)
        adapters[name] = load_file(project / "runs" / name / "adapter_model.safetensors")
    assert float(reported["one"][0]) == pytest.approx(float(reported["two"][0]), abs=2e-4)
    assert reported["one"][1] == reported["two"][1]
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
    """What starts recipes/sft.py as a process that a signal can stop."""
    command = [programs() / "python", REPOSITORY / "recipes" / "sft.py", "smollm2.yaml", *arguments]
    return {"args": [str(word) for word in command], "cwd": project}


def stop_when_saving(start: dict, folder, sent: int, delay: float) -> tuple[int, str]:
    """Send a signal a moment after a new checkpoint's folder appears, so that it may be half-written."""
    before, deadline = set(folder.glob("checkpoint-*")), time.monotonic() + 600
    process = subprocess.Popen(**start, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and not set(folder.glob("checkpoint-*")) - before:
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no checkpoint was written in time: {process.communicate()[0]}")
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(sent)
    return process.wait(), process.stdout.read()


def kill_and_resume(project, delays: list[float], epochs: int, options: list = TINY) -> None:
    arguments = [*options, "--per_device_train_batch_size", "2", "--save_steps", "2", "--num_train_epochs", epochs]
    recipe("sft.py", "smollm2.yaml", *arguments, "--output_dir", "runs/complete", cwd=project)
    killed = project / "runs" / "killed"
    start = sft_command(project, *arguments, "--output_dir", "runs/killed")
    for delay in delays:
        status, _ = stop_when_saving(start, killed, signal.SIGKILL, delay)
        assert status == -signal.SIGKILL  # it had not ended
        assert len([path for path in killed.glob("checkpoint-*") if (path / "manifest.json").exists()]) <= 3
    recipe("sft.py", "smollm2.yaml", *arguments, "--output_dir", "runs/killed", cwd=project)
    complete, other = (project / "runs" / name / "adapter_model.safetensors" for name in ("complete", "killed"))
    assert complete.read_bytes() == other.read_bytes()
    shutil.rmtree(killed)
    shutil.rmtree(project / "runs" / "complete")


def test_killed_and_started_again_equals_never_killed(project):
    kill_and_resume(project, delays=[0.0, 0.01, 0.05], epochs=2)


@pytest.mark.slow
def test_killed_and_started_again_in_four_bits(project):
    build_base(project / "models" / "wide", hidden_size=64, intermediate_size=128)
    options = [*TINY[2:], "--model_name_or_path", "models/wide", "--load_in_4bit", "--dtype", "bfloat16"]
    kill_and_resume(project, delays=[0.05], epochs=2, options=options)


@pytest.mark.slow
def test_killed_twenty_times_equals_never_killed(project):
    """Half of them while a checkpoint is saved, half at any moment."""
    random_numbers = random.Random(0)
    kill_and_resume(project, [random_numbers.uniform(0, 0.1 if i % 2 else 1.0) for i in range(20)], epochs=20)


def test_sigterm_ends_the_step_and_saves(project):
    arguments = [*TINY, "--per_device_train_batch_size", "2", "--save_steps", "3"]
    start = sft_command(project, *arguments, "--output_dir", "runs/stopped")
    status, output = stop_when_saving(start, project / "runs" / "stopped", signal.SIGTERM, 0.05)
    assert status == 128 + signal.SIGTERM and "Stopped after a complete step" in output
    assert not (project / "runs" / "stopped" / "judge.json").exists()
    last = max(
        int(path.parent.name[11:]) for path in (project / "runs" / "stopped").glob("checkpoint-*/manifest.json")
    )

    changed = ["--learning_rate", "0.5", "--swap", "paired"]
    output = recipe(
        "sft.py", "smollm2.yaml", *arguments, *changed, "--output_dir", "runs/stopped", cwd=project, fails=True
    )
    assert "learning_rate: 0.001 then, 0.5 now" in output and "swap: none then, paired now" in output
    assert "Traceback" not in output
    # With another number of steps between saves it is the same run; and the interruption changes nothing.
    arguments[-1] = "5"
    recipe("sft.py", "smollm2.yaml", *arguments, "--output_dir", "runs/stopped", cwd=project)
    recipe("sft.py", "smollm2.yaml", *arguments, "--output_dir", "runs/uninterrupted", cwd=project)
    names = ("stopped", "uninterrupted")
    stopped, uninterrupted = (project / "runs" / name / "adapter_model.safetensors" for name in names)
    assert last < 16 and stopped.read_bytes() == uninterrupted.read_bytes()
