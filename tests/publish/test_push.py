"""Judges to the Hub and from it, with the unmodified clients, and what can go wrong."""

import json
import re
import shutil
import sys

import pytest
from helpers.hub_server import Fault, LoopbackHub
from helpers.models import build_base
from helpers.recipe_server import REPOSITORY, RecipeServer
from helpers.run import python, recipe, run
from helpers.votes import write_votes
from huggingface_hub import ModelCard
from transformers import TrainerControl, TrainerState

from lmsys_trl import Judge
from lmsys_trl.artifacts import file_fingerprint
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.publish.callback import PushCallback
from lmsys_trl.terminal import set_up_logging
from lmsys_trl.training.config import TrainingConfig

PUSH = """
from lmsys_trl.hub import push_files
files = {"README.md": b"---\\nlicense: mit\\n---\\n", "adapter_model.safetensors": bytes(1000), "sub/a.json": b"{}"}
print(push_files(files, "owner/judge", "model", PRIVATE, "All of it", ("*.json", "*.bin")))
"""
PREDICTIONS = """
import json, sys
from lmsys_trl import Judge
from lmsys_trl.data.synthetic import make_battles

judge = Judge.from_pretrained("owner/judge@main")
predictions = judge.predict_battles(make_battles(6, seed="test"), tta="swap", progress=False)
json.dump(predictions, open("pulled.json", "w"))
exec(sys.argv[1])
"""
TRAIN = ["--model_name_or_path", "models/tiny", "--base_model_id", "owner/tiny", "--bf16", "false"]
TRAIN += ["--lora_layers_to_transform", "1", "--max_length", "500", "--max_steps", "4", "--save_steps", "2"]
TRAIN += ["--per_device_train_batch_size", "1", "--dataset_name", "data", "--hub_model_id", "owner/judge"]


def push(hub, folder, fails=False, private=True, token="hf_writer") -> str:
    """Push three files in a new process; returns what it prints."""
    environment = hub.environment(folder / "home", token)
    output = python("-c", PUSH.replace("PRIVATE", str(private)), cwd=folder, fails=fails, **environment)
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
        [Fault("POST", "/commit/", cut_after=0)],  # the commit is made, and its response lost
        [Fault("POST", "/repos/create", cut_after=0), Fault("POST", "/preupload/", cut_after=0)],
    ],
    ids=[
        "busy",
        "rate limit",
        "creation",
        "reset",
        "reset of a large file",
        "lost response",
        "earlier lost responses",
    ],
)
def test_a_push_gets_through(hub, tmp_path, faults):
    hub.faults += faults
    output = push(hub, tmp_path)
    assert commits(hub) == ["All of it", "initial commit"] and not any(fault.times for fault in faults)
    assert set(content(hub)) == {"README.md", "adapter_model.safetensors", "sub/a.json"}
    assert hub.repos["owner/judge"].private
    assert hub.repos["owner/judge"].branches["main"].sha in output


@pytest.mark.parametrize(
    ("fault", "token", "attempts", "message"),
    [
        (Fault("POST", "/commit/", status=503, retry_after=0, times=9), "hf_writer", 6, "503 An injected fault. Noth"),
        (Fault("POST", "/commit/", status=429, retry_after=3600), "hf_writer", 1, "the Hub answered 429"),
        (Fault("POST", "/commit/", status=401), "hf_writer", 1, "Set HF_TOKEN to a valid token"),
        (Fault("POST", "/commit/", status=403), "hf_writer", 1, "one with the right to write"),
        (Fault("POST", "/repos/create", status=404), "hf_writer", 1, "there is no such user or organization"),
        (Fault("POST", "/commit/", status=409), "hf_writer", 1, "Look at what it holds now, and push again"),
        (Fault("POST", "/commit/", overtaken=True), "hf_writer", 1, "somebody else has pushed to it in the meantime"),
        (None, "hf_reader", 1, "one with the right to write"),
        (None, "hf_unknown", 1, "Set HF_TOKEN to a valid token"),
    ],
    ids=["down", "long wait", "401", "403", "404", "409", "stale parent", "no rights", "unknown token"],
)
def test_a_refused_push_changes_nothing_and_says_what_to_do(hub, tmp_path, fault, token, attempts, message):
    hub.faults += [fault] if fault else []
    times = fault.times if fault else 0
    output = push(hub, tmp_path, fails=True, token=token)
    assert message in output.splitlines()[-1] and "UserError: pushing to owner/judge: " in output
    assert "All of it" not in commits(hub)
    path = fault.path if fault else "/repos/create"
    assert sum(method == "POST" and path in requested for method, requested in hub.requests) == attempts
    assert fault is None or times - fault.times == attempts
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
    """A hub with a base model and a judge that was pushed while it was trained; its folder; the training's output."""
    folder = tmp_path_factory.mktemp("project")
    build_base(folder / "models" / "tiny")
    write_votes(folder / "votes.csv", make_battles(20))
    with LoopbackHub() as hub:
        environment = hub.environment(folder / "home")
        upload = "from huggingface_hub import HfApi; api = HfApi(); api.create_repo('owner/tiny'); "
        upload += "api.upload_folder(repo_id='owner/tiny', folder_path='models/tiny')"
        python("-c", upload, cwd=folder, **environment)
        (folder / "sources.yaml").write_text(
            "sources: [{path: votes.csv, license: cc-by-4.0}]\noutput_dir: data\n"
            "push_to_hub: true\nhub_dataset_id: owner/battles\n"
        )
        recipe("prepare.py", "sources.yaml", cwd=folder, **environment)
        hub.faults.append(Fault("POST", "judge/commit/", status=403))
        output = recipe("sft.py", "smollm2.yaml", *TRAIN, "--push_to_hub", "--output_dir", folder / "runs" / "judge",
                        cwd=folder, **environment)  # fmt: skip
        yield hub, folder, output


def test_a_push_that_fails_in_training_is_reported_and_retried(trained):
    hub, folder, output = trained
    assert "Step 2 of 4: pushing to owner/judge: your token may not do this" in output
    assert output.count("Training continues; the finished judge is pushed at its end") == 1
    assert "The judge is in" in output and "Pushed: http" in output
    assert commits(hub)[0] == "A judge" and set(commits(hub)) <= {"A judge", "Step 4 of 4", "initial commit"}
    assert hub.repos["owner/judge"].private
    names = {"adapter_model.safetensors", "adapter_config.json", "judge.json", "tokenizer.json", "README.md"}
    assert set(content(hub)) == names | {"tokenizer_config.json", "chat_template.jinja", "probes.json"}
    assert list((folder / "runs" / "judge").rglob("training_args.bin"))  # a pickle, in the checkpoints


def test_the_card_of_a_trained_judge(trained):
    hub, _, _ = trained
    text = content(hub)["README.md"].decode()
    data = ModelCard(text).data
    assert data.library_name == "peft" and data.base_model == "owner/tiny" and "lora" in data.tags
    assert data.datasets == ["owner/battles"] and data.eval_results is None
    for words in (
        "There are no results", "cc-by-4.0", "learning_rate: 0.001", "--max_steps 4", "r: 16, lora_alpha: 32",
        "trl 1.", "k_proj o_proj q_proj v_proj", "letters A for model_a, B for model_b, C for tie",
        "| owner/battles |",
    ):  # fmt: skip
        assert words in text, words


def test_from_a_fresh_environment_predictions_are_the_same_bit_for_bit(trained, tmp_path):
    hub, folder, _ = trained
    local = Judge.from_pretrained(folder / "runs" / "judge", str(folder / "models" / "tiny"))
    expected = local.predict_battles(make_battles(6, seed="test"), tta="swap", progress=False)
    (code,) = re.findall("```python\n(.*?)```", content(hub)["README.md"].decode(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 3
    environment = hub.environment(tmp_path / "home")
    hub.faults.append(Fault("GET", "/objects/", cut_after=1000))
    output = run(sys.executable, "-W", "ignore", "-c", PREDICTIONS, code, cwd=tmp_path, **environment)
    assert not hub.faults.pop().times
    assert json.loads((tmp_path / "pulled.json").read_text()) == expected
    prediction = json.loads(re.search("{'winner_model_a.*}", output)[0].replace("'", '"'))
    assert sum(prediction.values()) == pytest.approx(1)

    # Without the Hub the copy in the cache is used; without the token the private repository cannot be seen.
    find = "from lmsys_trl.models.adapter import resolve_adapter; print(resolve_adapter('owner/judge'))"
    gone = environment | {"HF_ENDPOINT": "http://127.0.0.1:1"}
    assert hub.repos["owner/judge"].branches["main"].sha in python("-c", find, cwd=tmp_path, **gone)
    stranger = hub.environment(tmp_path / "other", token=None)
    output = python("-c", find, cwd=tmp_path, fails=True, **stranger)
    assert "adapter owner/judge: there is no such folder, and as a model owner/judge on the Hub: " in output
    assert "set HF_TOKEN" in output


def test_no_secret_and_no_local_path_gets_out(trained):
    hub, folder, output = trained
    assert "hf_writer" not in output
    for path in folder.rglob("*"):
        assert not path.is_file() or b"hf_writer" not in path.read_bytes(), path
    for repo in hub.repos.values():
        for commit in repo.commits.values():
            for path, blob in commit.files.items():
                assert b"hf_writer" not in blob.data and str(folder).encode() not in blob.data, path
                assert not path.endswith((".bin", ".pt", ".pkl", ".pth"))


def test_the_hub_is_gone_and_the_judge_is_complete(judge, capsys):
    """The process of the tests may not reach any Hub."""
    set_up_logging()
    training = TrainingConfig("x", use_cpu=True, bf16=False, hub_model_id="owner/judge", hub_strategy="end")
    pushes = PushCallback(training, "owner/tiny")
    pushes.on_save(training, TrainerState(is_world_process_zero=True), TrainerControl())
    assert pushes.last is None  # no push before the end
    pushes.finish(judge)
    error = capsys.readouterr().err
    assert "pushing to owner/judge: HF_HUB_OFFLINE is set" in error and f"The judge in {judge} is complete" in error
    assert f"lmsys-trl push --adapter {judge} --hub_model_id owner/judge" in error


@pytest.mark.parametrize("name", [None, "judge", "a/b/c"])
def test_where_pushes_cannot_go(name):
    with pytest.raises(UserError, match="hub_model_id: expected owner/name"):
        TrainingConfig("x", use_cpu=True, bf16=False, push_to_hub=True, hub_model_id=name)
    assert TrainingConfig("x", use_cpu=True, bf16=False).hub_private_repo


@pytest.fixture
def judge(tmp_path):
    """The made-up files of a judge, and files that do not belong to it."""
    folder = tmp_path / "judge"
    (folder / "checkpoint-1").mkdir(parents=True)
    for name in ("adapter_model.safetensors", "training_args.bin", "checkpoint-1/optimizer.pt"):
        (folder / name).write_bytes(b"bytes")
    adapter = {"peft_type": "LORA", "r": 8, "target_modules": ["v_proj", "q_proj"]}
    adapter["base_model_name_or_path"] = str(tmp_path / "models" / "tiny")
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    letters = {
        "model_a": {"letter": "A", "id": 1},
        "model_b": {"letter": "B", "id": 2},
        "tie": {"letter": "C", "id": 3},
    }
    settings = {"prompt_version": "v1", "letters": letters, "max_length": 700, "inference_max_length": 650}
    settings["base_model"] = {"id": None, "fingerprint": "0" * 64, "architecture": {"model_type": "llama"}}
    settings["tokenizer"] = {"vocabulary": "0" * 64, "template": "0" * 64}
    precision = {"dtype": "float32", "autocast": False, "attn_implementation": None, "quantization": None}
    settings |= {"temperature": 1.03, "precision": precision, "command": "sft.py x"}
    (folder / "judge.json").write_text(json.dumps(settings))
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\nA generic card")
    return folder


@pytest.fixture
def report(tmp_path):
    """A made-up report, as recipes/validate.py writes it."""

    def scores(log_loss):
        values = {"log_loss": log_loss, "accuracy": 0.5, "brier_score": 0.6, "ece": 0.07}
        return {name: {"value": x, "low": x - 0.01, "high": x + 0.01} for name, x in values.items()}

    flips = {"value": 0.2, "low": None, "high": None}
    own = {**scores(0.987654), "position": {"flip_rate": flips}, "cross_fitted_temperature": scores(0.9)}
    own["orders"] = {"ab": scores(0.99), "ba": scores(1), "mean": scores(0.987654)}
    metrics = {"version": 3, "num_battles": 6, "num_groups": 5, "judges": {"runs|judge": own}}
    metrics |= {"baselines": {"class_prior": scores(1.09)}, "baselines_fitted": "the <training> votes"}
    metrics |= {"configuration": {"test_file": "test.csv"}}
    folder = tmp_path / "report"
    (folder / "plots").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "report.html").write_text("<p>a report</p>")
    (folder / "report.md").write_text("a report")
    (folder / "predictions.parquet").write_bytes(b"parquet")
    (folder / "plots" / "reliability.png").write_bytes(b"png")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return folder


def test_a_judge_with_its_report(hub, judge, report, tmp_path):
    arguments = ["--adapter", "judge", "--hub_model_id", "owner/judge", "--report", "report"]
    output = recipe("push.py", *arguments, cwd=tmp_path, **hub.environment(tmp_path / "home"))
    assert "Pushed: http" in output and "Warning" not in output
    assert "Next: lmsys-trl predict --adapter owner/judge --test_file test.csv" in output
    assert hub.repos["owner/judge"].private
    files = content(hub)
    names = {"adapter_model.safetensors", "adapter_config.json", "judge.json", "README.md"}
    in_report = {"metrics.json", "report.html", "report.md", "predictions.parquet", "plots/reliability.png"}
    assert set(files) == names | {f"report/{name}" for name in in_report}
    assert str(tmp_path).encode() not in b"".join(files.values())
    text = files["README.md"].decode()
    results = {result.metric_type: result.metric_value for result in ModelCard(text).data.eval_results}
    assert results == {"log_loss": 0.987654, "accuracy": 0.5, "brier_score": 0.6, "ece": 0.07}
    for words in (
        "| **this judge, both orders** | 0.988 [0.978, 0.998] | 50.0% [49.0%, 51.0%] | 0.600 [0.590, 0.610] | 0.070",
        "| this judge, order as given | 0.990 [", "| this judge, cross-fitted temperature | 0.900 [",
        "| baseline: class prior | 1.090 [", "the &lt;training> votes",
        "On 6 battles of test.csv, with 5 different first prompts", "20.0% of the verdicts change", "a llama model",
    ):  # fmt: skip
        assert words in text, words
    # Without a report the earlier one is removed, and the card says so.
    output = recipe("push.py", *arguments[:-2], cwd=tmp_path, **hub.environment(tmp_path / "home"))
    assert "judge has no report" in output and set(content(hub)) == names
    assert b"There are no results" in content(hub)["README.md"]


def test_figures_of_another_judge_or_of_votes_that_it_has_seen(hub, judge, report, tmp_path):
    metrics = json.loads((report / "metrics.json").read_text())
    own = metrics["judges"]["runs|judge"]
    arguments = ["--adapter", "judge", "--hub_model_id", "owner/judge", "--report", "report"]

    def push_with(**changes):
        changed = metrics | {"judges": {"runs|judge": own | changes}}
        (report / "metrics.json").write_text(json.dumps(changed))
        environment = hub.environment(tmp_path / "home")
        return recipe("push.py", *arguments, cwd=tmp_path, fails=changes.get("adapter") == "0" * 64, **environment)

    assert "report: of another judge than judge, with other weights" in push_with(adapter="0" * 64)
    assert not hub.repos
    push_with(adapter=file_fingerprint(judge / "adapter_model.safetensors"), num_battles_calibrated_on=5)
    text = content(hub)["README.md"].decode()
    assert "**These figures are not out of sample: it was calibrated on 5 of these battles" in text
    assert ModelCard(text).data.eval_results is None


def test_what_is_not_a_judge_or_not_a_report(hub, judge, report, tmp_path):
    metrics = json.loads((report / "metrics.json").read_text())
    (report / "metrics.json").write_text(json.dumps(metrics | {"version": 1}))
    (tmp_path / "two").mkdir()
    two = metrics | {"judges": metrics["judges"] | {"other": {}}}
    (tmp_path / "two" / "metrics.json").write_text(json.dumps(two))
    leak = shutil.copytree(judge, tmp_path / "leak")
    settings = json.loads((judge / "judge.json").read_text())
    (leak / "judge.json").write_text(json.dumps(settings | {"command": "HF_TOKEN=hf_writer sft.py"}))
    server = RecipeServer(tmp_path, **hub.environment(tmp_path / "home"))
    for adapter, report, message in (
        ("judge", "report", "report: its metrics.json has version 1, expected 3"),
        ("judge", "two", "report: it compares runs|judge, other"),
        ("judge", "none", "report none: no metrics.json"),
        ("two", "report", "adapter two: no judge.json"),
        ("leak", "two", "holds a token of yours, and is not pushed"),
    ):
        (tmp_path / "two" / "metrics.json").write_text(json.dumps(metrics if adapter == "leak" else two))
        words = ["--adapter", adapter, "--hub_model_id", "owner/judge", "--report", report]
        status, output = server.run_script(REPOSITORY / "recipes" / "push.py", words, tmp_path)
        assert status == 1 and message in output and "Traceback" not in output and "hf_writer" not in output
    server.stop()
    assert not hub.repos and not hub.requests
