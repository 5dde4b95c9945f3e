"""The recipe with adapters: in one process or two, named as adapters can be named, and after an interruption."""

import json
import re
import shutil

import pandas as pd
import pytest
from helpers.models import build_judge
from helpers.run import REPOSITORY, python, recipe
from helpers.votes import write_votes

from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.predictions.features import save_features
from lmsys_trl.predictions.table import PROBABILITIES, load_predictions, save_predictions
from lmsys_trl.report import METRICS_VERSION

# multi_gpu.yaml as it is, except for the number of processes: without a GPU they talk over gloo.
TWO = ["--config_file", REPOSITORY / "accelerate_configs" / "multi_gpu.yaml", "--num_processes", 2]


@pytest.fixture(scope="module")
def project(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validate")
    shutil.copytree(base, folder / "models" / "tiny")
    build_judge(base, folder / "runs" / "judge")
    shutil.make_archive(str(folder / "other"), "zip", build_judge(base, folder / "unpacked", seed=2))
    write_votes(folder / "votes.csv", make_battles(40, seed="validate"))
    return folder


def validate(project, name, *arguments, **options):
    output = recipe(
        "validate.py", "--test_file", "votes.csv", "--output_dir", name, *arguments, cwd=project, **options
    )
    folder = project / name
    assert output.count("40 battles  ") == output.count("The report is") == 1
    assert not (folder / "predictions.shards").exists()
    return output, json.loads((folder / "metrics.json").read_text()), pd.read_parquet(folder / "predictions.parquet")


def test_one_process_or_two_make_the_same_report(project):
    output, one, predictions = validate(project, "one", "--adapter", "runs/judge")
    assert one["version"] == METRICS_VERSION and one["num_battles"] == 40 and list(one["judges"]) == ["runs/judge"]
    assert one["judges"]["runs/judge"]["num_battles_with_a_training_prompt"] is None  # no features beside this adapter
    assert "truncation" in {row["attribute"] for row in one["slices"]}
    assert "runs/judge has a higher log loss than a baseline" in output and "Next:" not in output
    _, two, others = validate(project, "two", "--adapter", "runs/judge", launch=TWO)
    assert others[["id", "order"]].equals(predictions[["id", "order"]])
    assert others[PROBABILITIES].to_numpy() == pytest.approx(predictions[PROBABILITIES].to_numpy(), abs=1e-5)
    for key in ("log_loss", "accuracy", "ece"):
        pair = [figures["judges"]["runs/judge"][key]["value"] for figures in (one, two)]
        assert pair[0] == pytest.approx(pair[1], abs=1e-5)


def test_several_judges(project):
    """A folder and an archive, beside a file of predictions."""
    files = ["--predictions", "one/predictions.parquet"]
    output, figures, predictions = validate(project, "three", "--adapter", "runs/judge", "other.zip", *files)
    assert list(figures["judges"]) == ["runs/judge", "other.zip", "one"] and "Next:" not in output
    assert set(predictions["judge"]) == {"runs/judge", "other.zip", "one"}
    pairs = [(row["judge"], row["baseline"]) for row in figures["differences"]]
    assert pairs[:3] == [("other.zip", "runs/judge"), ("one", "runs/judge"), ("one", "other.zip")]
    by_pair = dict(zip(pairs, figures["differences"], strict=True))
    assert by_pair["one", "runs/judge"]["log_loss"]["value"] == pytest.approx(0, abs=1e-5)
    assert abs(by_pair["other.zip", "runs/judge"]["log_loss"]["value"]) > 1e-3
    # The predictions of a report are read as those of its judges, and as probabilities that are known.
    _, again, _ = validate(project, "four", "--predictions", "three/predictions.parquet",
                           "--known_probabilities", "one/predictions.parquet")  # fmt: skip
    for name, judge in figures["judges"].items():
        assert again["judges"][name]["log_loss"]["value"] == pytest.approx(judge["log_loss"]["value"])


def test_votes_that_a_judge_has_seen(project):
    """A report says so where it was calibrated on just these battles, or trained on their prompts."""
    shutil.copytree(project / "runs" / "judge", project / "runs" / "seen")
    battles = make_battles(40, seed="validate")
    save_features(battles[:3], project / "runs" / "seen")
    too_sure = load_predictions(project / "one" / "predictions.parquet")
    powers = too_sure[PROBABILITIES].to_numpy() ** 20
    too_sure[PROBABILITIES] = powers / powers.sum(axis=1, keepdims=True)
    save_predictions(too_sure, project / "too_sure.parquet")
    recipe("calibrate.py", "--adapter", "runs/seen", "--predictions", "too_sure.parquet", cwd=project)
    output, figures, _ = validate(project, "seen", "--adapter", "runs/seen")
    assert figures["judges"]["runs/seen"]["num_battles_calibrated_on"] == 40
    shared = figures["judges"]["runs/seen"]["num_battles_with_a_training_prompt"]
    assert 3 <= shared < 40
    for text in (
        "it was calibrated on 40 of these battles, so its figures are too good",
        f"{shared} of these battles share their first prompt with its training battles, so its figures are too good",
    ):
        assert f"runs/seen: {text}" in output
        assert f'<b class="bad">runs/seen: {text}.</b>' in (project / "seen" / "report.html").read_text()
        assert f"**`runs/seen`: {text}.**" in (project / "seen" / "report.md").read_text()
    write_votes(project / "others.csv", battles[:30])
    arguments = ["--adapter", "runs/seen", "--test_file", "others.csv", "--output_dir", "others"]
    assert "it was calibrated on 30 of these battles" in recipe("validate.py", *arguments, cwd=project)
    others = make_battles(40, seed="not seen")
    write_votes(project / "not_seen.csv", [new | {"id": old["id"]} for new, old in zip(others, battles, strict=True)])
    arguments = ["--adapter", "runs/seen", "--test_file", "not_seen.csv", "--output_dir", "not_seen"]
    output = recipe("validate.py", *arguments, cwd=project)
    assert int((re.search(r"calibrated on (\d+) of these", output) or [0, 0])[1]) < 5  # with the ids of others


def test_an_interrupted_report_resumes(project):
    """What is saved of the predictions is used, and not computed again."""
    crash = "import runpy, sys; from lmsys_trl.report import page; page.write_report = None; "
    crash += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = ["--adapter", "runs/judge", "--test_file", "votes.csv", "--output_dir", "resumed"]
    output = python("-c", crash, REPOSITORY / "recipes" / "validate.py", *arguments, cwd=project, fails=True)
    assert "not callable" in output
    shards = sorted((project / "resumed" / "predictions.shards" / "0").glob("a*.parquet"))
    table = pd.read_parquet(shards[0])
    table[PROBABILITIES] = [0.7, 0.2, 0.1]
    table.to_parquet(shards[0], index=False)
    _, _, predictions = validate(project, "resumed", "--adapter", "runs/judge")
    given = predictions.loc[predictions["order"] == "ab", PROBABILITIES].to_numpy()
    assert given == pytest.approx(pd.DataFrame([[0.7, 0.2, 0.1]] * 40).to_numpy())


def test_all_problems_with_the_arguments_at_once(project):
    output = recipe(
        "validate.py",
        "--test_file",
        "votes.csv",
        "--dataset_name",
        "data",
        "--output_dir",
        "x",
        cwd=project,
        fails=True,
    )
    assert "2 problems" in output and "test_file, dataset_name: give one of the two" in output
    assert "adapter or predictions: missing" in output
    output = recipe("validate.py", "--adapter", "a", "--output_dir", "x", cwd=project, fails=True)
    assert "test_file or dataset_name: missing" in output and "adapter a: there is no such folder" in output
    for name, target in (("validate", "--output_dir"), ("predict", "--output_file")):
        arguments = ["--adapter", "a", "--test_file", "none.csv", target, "x.parquet"]
        output = recipe(f"{name}.py", *arguments, cwd=project, fails=True)
        assert "2 problems" in output and "adapter a: there" in output and "none.csv: there is no such file" in output
    arguments = ["--adapter", "runs/judge", "runs/judge/", "--test_file", "votes.csv", "--output_dir", "x"]
    output = recipe("validate.py", *arguments, cwd=project, fails=True)
    assert "several judges are named runs/judge" in output and "Traceback" not in output


def test_the_description_of_the_metrics_is_of_this_version():
    text = (REPOSITORY / "lmsys_trl" / "report" / "METRICS.md").read_text()
    assert (
        text.startswith(f"# metrics.json, version {METRICS_VERSION}\n") and f"`version` | {METRICS_VERSION}." in text
    )
