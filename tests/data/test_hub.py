"""Data sets to the Hub and from it, and votes from the Hub and Kaggle, with the unmodified clients."""

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers.hub_server import Fault
from helpers.kaggle_server import LoopbackKaggle
from helpers.run import python, recipe
from helpers.votes import write_votes

from lmsys_trl.battle import winner_of
from lmsys_trl.data.synthetic import make_battles

LOAD = """
import sys, json
from datasets import load_dataset
splits = load_dataset(sys.argv[1])
json.dump({name: split.to_list() for name, split in splits.items()}, open(sys.argv[2], "w"))
"""


@pytest.fixture
def votes(tmp_path):
    return write_votes(tmp_path / "votes.csv", make_battles(40))


def split_rows(folder) -> list[dict]:
    """The rows of all splits."""
    return [row for path in (folder / "battles").iterdir() for row in pq.read_table(path).to_pylist()]


def prepare(tmp_path, *sources, fails=False, environment, **options):
    config = {"sources": list(sources), "output_dir": "data", **options}
    (tmp_path / "x.yaml").write_text(json.dumps(config))  # JSON is YAML
    return recipe("prepare.py", "x.yaml", "--overwrite", cwd=tmp_path, fails=fails, **environment)


def test_a_data_set_goes_to_the_hub_and_comes_back(hub, tmp_path, votes):
    environment = hub.environment(tmp_path / "home")
    source = {"path": "votes.csv", "license": "cc-by-4.0", "swap": 5}
    push = {"push_to_hub": True, "hub_dataset_id": "owner/battles"}
    output = prepare(tmp_path, source, **push, environment=environment)
    repository = hub.repos["datasets/owner/battles"]
    assert repository.private and "Pushed: " in output
    local = {path.relative_to(tmp_path / "data").as_posix(): path.read_bytes()
             for path in (tmp_path / "data").rglob("*") if path.is_file()}  # fmt: skip
    pushed = {path: blob.data for path, blob in repository.branches["main"].files.items() if path != ".gitattributes"}
    assert pushed == local and "hf_writer" not in output + str(local)

    # From a fresh environment the rows are the same.
    elsewhere = hub.environment(tmp_path / "elsewhere")
    python("-c", LOAD, "owner/battles", "rows.json", cwd=tmp_path, **elsewhere)
    for name, split in json.loads((tmp_path / "rows.json").read_text()).items():
        table = pd.read_parquet(tmp_path / "data" / "battles" / f"{name}.parquet")
        assert json.loads(table.to_json(orient="records")) == split

    # A second push replaces the first one in one commit. And the repository is a source like any other.
    num_commits = len(repository.commits)
    source = {"path": "hub:owner/battles@main", "file": "battles/*.parquet"}
    votes_by_id = {row["id"]: row["vote"] for row in split_rows(tmp_path / "data") if row["swapped_from"] is None}
    prepare(tmp_path, source, validation_fraction=0, **push, environment=environment)
    assert {row["id"]: row["vote"] for row in split_rows(tmp_path / "data")} == votes_by_id
    assert len(repository.commits) == num_commits + 1
    assert "battles/validation.parquet" not in repository.branches["main"].files
    origin = json.loads((tmp_path / "data" / "prepare.json").read_text())["sources"]["owner/battles"]
    assert origin["license"] == "cc-by-4.0" and len(origin["revision"]) == 40 and origin["rows"] == 45
    output = prepare(tmp_path, source | {"path": "hub:owner/battles@nowhere"}, fails=True, environment=environment)
    assert "dataset owner/battles on the Hub: there is no such revision" in output and "Traceback" not in output


def test_the_hub_refuses(hub, tmp_path, votes):
    source = {"path": "votes.csv", "license": "mit"}
    push = {"push_to_hub": True, "hub_dataset_id": "owner/battles", "fails": True}
    for token, message in (("hf_reader", "may not do this. Set HF_TOKEN"), ("hf_unknown", "valid token")):
        environment = hub.environment(tmp_path / "home", token)
        output = prepare(tmp_path, source, **push, environment=environment)
        assert message in output and "data is complete" in output and "Traceback" not in output and token not in output
    output = prepare(tmp_path, "hub:owner/none", fails=True, environment=environment)
    assert "dataset owner/none on the Hub: " in output and "HF_TOKEN" in output and "Traceback" not in output
    environment = hub.environment(tmp_path / "home")
    hub.faults.append(Fault(method="POST", path="/commit/", status=500, retry_after=0, times=9))
    output = prepare(tmp_path, source, **push, environment=environment)
    assert "pushing to owner/battles" in output and "Traceback" not in output
    assert set(hub.repos["datasets/owner/battles"].branches["main"].files) <= {".gitattributes"}
    for name in ("no owner", "owner/two--dashes"):
        output = prepare(tmp_path, source, **push | {"hub_dataset_id": name}, environment=environment)
        assert "expected owner/name" in output and "Traceback" not in output


def test_votes_from_kaggle(tmp_path, votes):
    server = LoopbackKaggle({"train.csv": votes.read_bytes(), "test.csv": b"id,prompt,response_a,response_b\n"})
    environment = server.environment(tmp_path / "home")
    source = {"path": "kaggle:owner/name", "file": "train.csv", "license": "mit"}
    server.cut_after = 2000
    output = prepare(tmp_path, source, fails=True, environment=environment)
    assert "prepare.py: kaggle:owner/name: " in output and "Traceback" not in output
    assert not (tmp_path / "data").exists()
    # The interrupted download is not used.
    assert "Written to data" in prepare(tmp_path, source, environment=environment)
    assert json.loads((tmp_path / "data" / "prepare.json").read_text())["sources"]["owner/name"]["rows"] == 40

    competition = source | {"path": "kaggle:lmsys-chatbot-arena"}
    output = prepare(tmp_path, competition, fails=True, environment=environment)
    assert "Set KAGGLE_USERNAME and KAGGLE_KEY and accept the rules" in output and "Traceback" not in output
    credentials = {"KAGGLE_USERNAME": "someone", "KAGGLE_KEY": "secret"}
    assert "secret" not in prepare(tmp_path, competition, environment=environment | credentials)
    for status, message in ((403, "Set KAGGLE_USERNAME"), (404, "there is no such data set")):
        server.status = status
        output = prepare(tmp_path, source | {"path": "kaggle:owner/other"}, fails=True, environment=environment)
        assert message in output and "Traceback" not in output


def test_the_data_of_the_reference_solution(hub, tmp_path):
    """arena.yaml as it is: the competition from Kaggle, the 33k from the Hub, and swaps."""
    battles = make_battles(60)
    kaggle = LoopbackKaggle({"train.csv": write_votes(tmp_path / "train.csv", battles[:40]).read_bytes()})
    environment = hub.environment(tmp_path / "home") | kaggle.environment(tmp_path / "home")
    environment |= {"no_proxy": "127.0.0.1", "KAGGLE_USERNAME": "someone", "KAGGLE_KEY": "secret"}
    rows = [
        {"question_id": f"q{battle['id']}", "language": "English",
         "winner": winner_of(battle["vote"]).replace("tie", "tie (bothbad)"),
         **{f"model_{side}": battle[f"model_{side}"] for side in "ab"},
         **{f"conversation_{side}": [
             {"role": role, "content": text}
             for turns in zip(battle["prompt"], battle[f"response_{side}"], strict=True)
             for role, text in zip(("user", "assistant"), turns, strict=True)
         ] for side in "ab"}}
        for battle in battles[30:]
    ]  # fmt: skip
    (tmp_path / "33k").mkdir()
    pd.DataFrame(rows).to_parquet(tmp_path / "33k" / "train-00000-of-00001.parquet")
    (tmp_path / "33k" / "README.md").write_text("---\nlicense: cc\n---\n")
    upload = "from huggingface_hub import HfApi; api = HfApi(); name = 'lmsys/chatbot_arena_conversations'; "
    upload += "api.create_repo(name, repo_type='dataset'); "
    upload += "api.upload_folder(repo_id=name, repo_type='dataset', folder_path='33k', path_in_repo='data')"
    python("-c", upload, cwd=tmp_path, **environment)

    output = recipe("prepare.py", "arena.yaml", "--output_dir", "data", cwd=tmp_path, **environment)
    assert "secret" not in output
    rows = pd.concat([pd.read_parquet(path).assign(split=path.stem) for path in (tmp_path / "data/battles").iterdir()])
    once = rows[rows["swapped_from"].isna()]
    assert once["source"].value_counts().to_dict() == {"lmsys": 40, "chatbot_arena_33k": 20}  # ten are in both
    assert set(rows[rows["split"] == "validation"]["source"]) == {"lmsys"} and len(rows) == 100
    card = (tmp_path / "data" / "README.md").read_text()
    assert "removed: the same battle is in lmsys | 10 |" in card and "read as tie |" in card and "- en\n" in card
