"""Judges to the Hub and from it, with the unmodified clients, and what goes wrong on the way."""

import json
import re
import sys

import pytest
from conftest import REPOSITORY, build_base, recipe, run, write_votes
from hub_server import Fault, LoopbackHub
from huggingface_hub import ModelCard

from lmsys_trl.synthetic import make_battles

PUSH = """
from lmsys_trl.hub import push_files
files = {"README.md": b"---\\nlicense: mit\\n---\\n", "adapter_model.safetensors": bytes(1000), "sub/a.json": b"{}"}
print(push_files(files, "owner/judge", "model", PRIVATE, "All of it", ("*.json", "*.bin")))
"""
TRAIN = ["--model_name_or_path", "models/tiny", "--base_model_id", "owner/tiny", "--bf16", "false"]
TRAIN += ["--lora_layers_to_transform", "1", "--max_length", "500", "--max_steps", "4", "--save_steps", "2"]
TRAIN += ["--per_device_train_batch_size", "1", "--dataset_name", "data", "--hub_model_id", "owner/judge"]


def push(hub, folder, fails=False, private=True, token="hf_writer") -> str:
    """Push three files in a new process; returns what it prints."""
    environment = hub.environment(folder / "home", token)
    output = run(sys.executable, "-c", PUSH.replace("PRIVATE", str(private)), cwd=folder, fails=fails, **environment)
    assert token not in output
    return output


def commits(hub, name="owner/judge") -> list[str]:
    return [commit.title for commit in hub.repos[name].branches["main"].history()] if name in hub.repos else []


def content(hub, name="owner/judge") -> dict[str, bytes]:
    files = hub.repos[name].branches["main"].files
    return {path: blob.data for path, blob in files.items() if path != ".gitattributes"}


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("POST", "/commit/", status=503, retry_after=0, times=3)],
        [Fault("POST", "/commit/", status=500), Fault("POST", "/commit/", status=429, retry_after=1)],
        [Fault("POST", "/repos/create", status=504, retry_after=0), Fault("GET", "/api/models", status=502)],
        [Fault("POST", "/commit/", reset=True)],
        [Fault("PUT", "/objects/", reset=True)],
        [Fault("POST", "/commit/", cut_after=0)],  # the commit is made, and its answer lost
        [Fault("POST", "/repos/create", cut_after=0), Fault("POST", "/preupload/", cut_after=0)],
    ],
    ids=["busy", "rate limit", "creation", "reset", "reset of a large file", "lost answer", "lost answers before"],
)
def test_a_push_gets_through(hub, tmp_path, faults):
    hub.faults += faults
    output = push(hub, tmp_path)
    assert commits(hub) == ["All of it", "initial commit"] and not any(fault.times for fault in faults)
    assert set(content(hub)) == {"README.md", "adapter_model.safetensors", "sub/a.json"}
    assert hub.repos["owner/judge"].private
    assert hub.repos["owner/judge"].branches["main"].sha in output


@pytest.mark.parametrize(
    ("fault", "token", "message"),
    [
        (Fault("POST", "/commit/", status=503, retry_after=0, times=9), "hf_writer", "503 An injected fault, again"),
        (Fault("POST", "/commit/", status=429, retry_after=3600), "hf_writer", "the Hub answered 429"),
        (Fault("POST", "/commit/", status=401), "hf_writer", "Set HF_TOKEN to a valid token"),
        (Fault("POST", "/commit/", status=403), "hf_writer", "one with the right to write"),
        (Fault("POST", "/repos/create", status=404), "hf_writer", "there is no such user or organization"),
        (Fault("POST", "/commit/", status=409), "hf_writer", "Look at what it holds now, and push again"),
        (Fault("POST", "/commit/", overtaken=True), "hf_writer", "somebody else has pushed to it meanwhile"),
        (None, "hf_reader", "one with the right to write"),
        (None, "hf_unknown", "Set HF_TOKEN to a valid token"),
    ],
    ids=["down", "long wait", "401", "403", "404", "409", "stale parent", "no rights", "unknown token"],
)
def test_a_refused_push_changes_nothing_and_says_what_to_do(hub, tmp_path, fault, token, message):
    hub.faults += [fault] if fault else []
    output = push(hub, tmp_path, fails=True, token=token)
    assert message in output.splitlines()[-1] and "ValueError: pushing to owner/judge: " in output
    assert "All of it" not in commits(hub)
    assert fault is None or fault.times == (9 - 6 if fault.times > 1 else 0) or "again" in message
    hub.faults.clear()
    push(hub, tmp_path)
    assert commits(hub).count("All of it") == 1


def test_a_push_replaces_what_is_its_own(hub, tmp_path):
    push(hub, tmp_path)
    repo = hub.repos["owner/judge"]
    blob = repo.branches["main"].files["README.md"]
    repo.add({**repo.branches["main"].files, "old.json": blob, "training_args.bin": blob, "LICENSE": blob}, "Others")
    push(hub, tmp_path)
    assert set(content(hub)) == {"README.md", "adapter_model.safetensors", "sub/a.json", "LICENSE"}
    push(hub, tmp_path)  # nothing has changed: no commit
    assert commits(hub) == ["All of it", "Others", "All of it", "initial commit"]


def test_what_is_public_is_not_pushed_to_by_default(hub, tmp_path):
    push(hub, tmp_path, private=False)
    assert not hub.repos["owner/judge"].private
    assert "it exists and is public" in push(hub, tmp_path, fails=True)
    push(hub, tmp_path, private=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A hub with a base model and a judge that was pushed while it was trained; its folder; what the training said."""
    folder = tmp_path_factory.mktemp("project")
    build_base(folder / "models" / "tiny")
    write_votes(folder / "votes.csv", make_battles(20))
    write_votes(folder / "test.csv", make_battles(6, seed="test"))
    with LoopbackHub() as hub:
        environment = hub.environment(folder / "home")
        upload = "from huggingface_hub import HfApi; api = HfApi(); api.create_repo('owner/tiny'); "
        upload += "api.upload_folder(repo_id='owner/tiny', folder_path='models/tiny')"
        run(sys.executable, "-c", upload, cwd=folder, **environment)
        (folder / "sources.yaml").write_text(
            "sources: [{path: votes.csv, license: cc-by-4.0}]\noutput_dir: data\npush_to_hub: owner/battles\n"
        )
        recipe("prepare.py", "sources.yaml", cwd=folder, **environment)
        hub.faults.append(Fault("POST", "judge/commit/", status=403))
        output = recipe("sft.py", "smollm2.yaml", *TRAIN, "--push_to_hub", "--output_dir", folder / "runs" / "judge",
                        cwd=folder, **environment)  # fmt: skip
        yield hub, folder, output


def test_a_push_that_fails_in_training_is_told_and_made_good(trained):
    hub, folder, output = trained
    assert "Step 2 of 4: pushing to owner/judge: your token may not do this" in output
    assert "Training goes on; the finished judge is pushed at its end" in output
    assert output.count("Training goes on") == 1 and "The judge is in" in output and "Pushed: http" in output
    assert commits(hub)[0] == "A judge" and set(commits(hub)) <= {"A judge", "Step 4 of 4", "initial commit"}
    assert hub.repos["owner/judge"].private
    names = {"adapter_model.safetensors", "adapter_config.json", "judge.json", "tokenizer.json", "README.md"}
    assert set(content(hub)) == names | {"tokenizer_config.json", "chat_template.jinja"}
    checkpoints = [commit for commit in hub.repos["owner/judge"].commits.values() if commit.title == "Step 4 of 4"]
    for commit in checkpoints:
        assert set(commit.files) - {".gitattributes"} == set(content(hub)) - {"judge.json"}
        assert b"in training: step 4 of 4" in commit.files["README.md"].data
    for commit in hub.repos["owner/judge"].commits.values():
        assert not any(path.endswith((".bin", ".pt", ".pkl", ".pth")) for path in commit.files)


def test_the_hub_is_gone_and_training_goes_on(trained):
    hub, folder, _ = trained
    environment = hub.environment(folder / "home") | {"HF_ENDPOINT": "http://127.0.0.1:1"}
    arguments = ["smollm2.yaml", *TRAIN, "--push_to_hub", "--output_dir", "runs/alone", "--hub_strategy", "end"]
    quick = "import runpy, sys; from lmsys_trl import hub; hub.WAITS = (0, 0); sys.argv = sys.argv[1:]; "
    quick += "runpy.run_path(sys.argv[0], run_name='__main__')"
    script = REPOSITORY / "recipes" / "sft.py"
    output = run(sys.executable, "-c", quick, script, *arguments, cwd=folder, **environment)
    assert "the Hub can't be reached" in output and "Tried again" in output and "The judge is in runs/alone" in output
    assert "python recipes/push.py --adapter runs/alone --hub_model_id owner/judge" in output
    assert "Step " not in output and (folder / "runs" / "alone" / "judge.json").exists()


def test_mistakes_are_told_before_anything_is_loaded(trained):
    _, folder, _ = trained
    for option, message in (
        (["--hub_model_id", "null"], "push_to_hub: needs hub_model_id"),
        (["--hub_strategy", "checkpoint"], "hub_strategy: expected every_save or end"),
        (["--hub_revision", "side"], "hub_revision: pushes go to the main branch"),
    ):
        arguments = ["smollm2.yaml", "--output_dir", "runs/none", "--push_to_hub"]
        arguments += [] if "null" in option else ["--hub_model_id", "owner/judge", *option]
        output = recipe("sft.py", *arguments, cwd=folder, fails=True)
        assert message in output and "Traceback" not in output


def a_report(folder):
    """A report as recipes/validate.py writes it, by hand."""

    def scores(log_loss):
        values = {"log_loss": log_loss, "accuracy": 0.5, "brier_score": 0.6, "ece": 0.07}
        return {name: {"value": x, "low": x - 0.01, "high": x + 0.01} for name, x in values.items()}

    flips = {"value": 0.2, "low": None, "high": None}
    judge = {**scores(0.987654), "position": {"flip_rate": flips}, "cross_fitted_temperature": scores(0.9)}
    metrics = {"version": 2, "num_battles": 6, "num_groups": 5, "judges": {"runs|judge": judge}}
    metrics |= {"baselines": {"class_prior": scores(1.09)}, "baselines_fitted": "the <training> votes"}
    metrics |= {"configuration": {"test_file": "test.csv"}}
    (folder / "plots").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "report.html").write_text("<p>a report</p>")
    (folder / "plots" / "reliability.png").write_bytes(b"png")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return metrics


def test_the_card_is_of_use_to_a_stranger(trained):
    hub, folder, _ = trained
    environment = hub.environment(folder / "home")
    metrics = a_report(folder / "report")
    arguments = ["--adapter", "runs/judge", "--hub_model_id", "owner/judge"]
    assert "no report" in recipe("push.py", *arguments, cwd=folder, **environment)
    assert b"There are no results" in content(hub)["README.md"]
    recipe("push.py", *arguments, "--report", "report", cwd=folder, **environment)
    files = content(hub)
    assert {name for name in files if name.startswith("report/")} == {
        "report/metrics.json", "report/report.html", "report/plots/reliability.png"
    }  # fmt: skip
    text = files["README.md"].decode()
    card = ModelCard(text)
    assert card.data.library_name == "peft" and card.data.base_model == "owner/tiny" and "lora" in card.data.tags
    assert card.data.datasets == ["owner/battles"]
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {"log_loss": 0.987654, "accuracy": 0.5, "brier_score": 0.6, "ece": 0.07}
    for words in (
        "| **this judge** | 0.988 [0.978, 0.998] | 50.0% [49.0%, 51.0%] |", "| baseline: class prior | 1.090",
        "On 6 battles of test.csv, with 5 different first prompts", "20.0% of the verdicts change", "cc-by-4.0",
        "learning_rate: 0.001", "--max_steps 4", "r: 16, lora_alpha: 32", "k_proj o_proj q_proj v_proj", "trl 1.",
        "the &lt;training> votes", "letters A for model_a, B for model_b, C for tie",
    ):  # fmt: skip
        assert words in text, words

    # The report must be one of this judge, and whole.
    for changed, message in (
        ({"version": 1}, "has version 1, expected 2"),
        ({"judges": metrics["judges"] | {"other": {}}}, "it compares runs|judge, other"),
    ):
        (folder / "report" / "metrics.json").write_text(json.dumps(metrics | changed))
        output = recipe("push.py", *arguments, "--report", "report", cwd=folder, fails=True, **environment)
        assert message in output and "Traceback" not in output
    output = recipe("push.py", *arguments, "--report", "none", cwd=folder, fails=True, **environment)
    assert "report none: no metrics.json" in output and "Traceback" not in output
    assert content(hub) == files


def test_from_a_fresh_environment_forecasts_are_the_same_bit_for_bit(trained, tmp_path):
    hub, folder, _ = trained
    environment = hub.environment(tmp_path / "home")
    options = ["--test_file", folder / "test.csv", "--tta", "swap", "--output_file"]
    recipe("predict.py", "--adapter", "runs/judge", *options, "local.parquet", cwd=folder)
    hub.faults.append(Fault("GET", "/objects/", cut_after=1000))
    recipe("predict.py", "--adapter", "owner/judge@main", *options, "pulled.parquet", cwd=tmp_path, **environment)
    assert not hub.faults.pop().times
    assert (tmp_path / "pulled.parquet").read_bytes() == (folder / "local.parquet").read_bytes()

    (code,) = re.findall("```python\n(.*?)```", content(hub)["README.md"].decode(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 3
    (example,) = run(sys.executable, "-W", "ignore", "-c", code, cwd=tmp_path, **environment).splitlines()[-1:]
    assert set(json.loads(example.replace("'", '"'))) == {"winner_model_a", "winner_model_b", "winner_tie"}

    # Without the Hub the copy in the cache is used.
    find = "from lmsys_trl.adapters import adapter_folder; print(adapter_folder('owner/judge'))"
    gone = environment | {"HF_ENDPOINT": "http://127.0.0.1:1"}
    assert hub.repos["owner/judge"].branches["main"].sha in run(sys.executable, "-c", find, cwd=tmp_path, **gone)

    # Without the token the private repository is as good as none.
    output = recipe("predict.py", "--adapter", "owner/judge", *options, "x.csv", cwd=tmp_path, fails=True,
                    **hub.environment(tmp_path / "other", token=None))  # fmt: skip
    assert "adapter owner/judge: there is no such folder, and as a model owner/judge on the Hub: " in output
    assert "set HF_TOKEN" in output and "Traceback" not in output


def test_no_secret_and_no_local_path_gets_out(trained):
    hub, folder, output = trained
    assert "hf_writer" not in output
    for path in folder.rglob("*"):
        assert not path.is_file() or b"hf_writer" not in path.read_bytes(), path
    for repo in hub.repos.values():
        for commit in repo.commits.values():
            for path, blob in commit.files.items():
                assert b"hf_writer" not in blob.data and str(folder).encode() not in blob.data, path

    judge = folder / "runs" / "judge" / "judge.json"
    clean = judge.read_text()
    judge.write_text(clean.replace("smollm2.yaml", "hf_writer"))
    output = recipe("push.py", "--adapter", "runs/judge", "--hub_model_id", "owner/leak", cwd=folder, fails=True,
                    **hub.environment(folder / "home"))  # fmt: skip
    assert "holds your Hub token, and is not pushed" in output and "hf_writer" not in output + str(hub.requests)
    assert "owner/leak" not in hub.repos
    judge.write_text(clean)
