"""The loopback Hub, as the unmodified clients see it from a process of their own."""

import urllib.error
import urllib.request

import pandas as pd
import pytest

from helpers.hub_server import Fault
from helpers.run import python

# What every script starts with: the client, and the status and the name of the error that a call raises.
PRELUDE = """
from pathlib import Path
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

api = HfApi()

def error(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except HfHubHTTPError as failure:
        return failure.response.status_code, type(failure).__name__
"""


@pytest.fixture
def client(hub, tmp_path):
    """Runs a script in a new process as a client of the hub; returns what it prints."""

    def run_client(script: str, token: str | None = "hf_writer") -> str:
        environment = hub.environment(tmp_path / "home", token)
        return python("-c", PRELUDE + script, cwd=tmp_path, **environment)

    return run_client


@pytest.fixture
def folder(tmp_path):
    """A folder with small files and large ones."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "README.md").write_text("---\ntags: [judge]\n---\n# A model\n")
    (folder / "sub" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    (folder / "sub" / "log.txt").write_bytes(b"line\n" * (11 * 2**20 // 5))
    return folder


def files_of(commit) -> dict[str, bytes]:
    return {path: blob.data for path, blob in commit.files.items() if path != ".gitattributes"}


def files_in(folder) -> dict[str, bytes]:
    """The files that are not hidden, as the client's own ones are."""
    paths = [path for path in folder.rglob("[!.]*") if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_uploads_a_folder_in_one_commit(hub, client, folder):
    client("""
api.create_repo("owner/model")
commit = api.upload_folder(repo_id="owner/model", folder_path="folder", commit_message="All of it")
info = api.model_info("owner/model")
assert (info.sha, info.tags, info.private) == (commit.oid, ["judge"], False)
assert api.upload_folder(repo_id="owner/model", folder_path="folder").oid == commit.oid
assert [c.title for c in api.list_repo_commits("owner/model")] == ["All of it", "initial commit"]

entries = {entry.path: entry for entry in api.list_repo_tree("owner/model", expand=True)}
assert list(entries) == [".gitattributes", "README.md", "model.safetensors", "sub"]
assert entries[".gitattributes"].last_commit.title == "initial commit"
assert entries["sub"].last_commit.title == "All of it"
file, log = api.get_paths_info("owner/model", ["sub/config.json", "sub/log.txt", "missing"])
assert (file.size, file.lfs, log.lfs.size) == (2, None, log.size)
""")
    repo = hub.repos["owner/model"]
    assert files_of(repo.branches["main"]) == files_in(folder)
    large = [path for path, blob in repo.branches["main"].files.items() if blob.lfs]
    assert sorted(large) == ["model.safetensors", "sub/log.txt"]
    assert hub.requests.count(("POST", "/api/models/owner/model/commit/main")) == 1


def test_downloads_a_branch_a_tag_and_a_sha(hub, client, folder):
    client("""
api.create_repo("owner/model")
first = api.upload_folder(repo_id="owner/model", folder_path="folder").oid
api.create_tag("owner/model", tag="v1")
api.create_branch("owner/model", branch="work/second", revision="v1")
api.delete_folder("sub", "owner/model", revision="work/second", commit_message="Without sub")
api.delete_file("README.md", "owner/model")

def files(revision):
    folder = Path(snapshot_download("owner/model", revision=revision))
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

everything = [".gitattributes", "README.md", "model.safetensors", "sub/config.json", "sub/log.txt"]
assert files("v1") == files(first) == everything
assert files("main") == [path for path in everything if path != "README.md"]
assert files("work/second") == everything[:3]
refs = api.list_repo_refs("owner/model")
assert {branch.name for branch in refs.branches} == {"main", "work/second"}
assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", first)]
assert error(snapshot_download, "owner/model", revision="v2") == (404, "RevisionNotFoundError")
snapshot_download("owner/model", revision="v1", local_dir="copy")
""")
    assert files_in(folder.parent / "copy") == files_in(folder)


def test_refuses_what_the_hub_refuses(hub, client):
    client("""
write = {"path_or_fileobj": b"text", "path_in_repo": "file.txt"}
for name, private in ("private", True), ("public", False):
    url = api.create_repo(f"owner/{name}", private=private)
    assert api.create_repo(f"owner/{name}", exist_ok=True) == url
    api.upload_file(repo_id=f"owner/{name}", **write)
assert error(api.create_repo, "owner/private") == (409, "HfHubHTTPError")
assert error(api.create_tag, "owner/public", tag="v1") is None
assert error(api.create_tag, "owner/public", tag="v1") == (409, "HfHubHTTPError")

old = api.list_repo_commits("owner/public")[-1].commit_id
change = {"path_or_fileobj": b"more", "path_in_repo": "other.txt", "repo_id": "owner/public"}
assert error(api.upload_file, **change, parent_commit=old) == (412, "HfHubHTTPError")
assert error(api.upload_file, **change, revision="v1") == (404, "RevisionNotFoundError")
assert error(api.delete_file, "none.txt", "owner/public") == (404, "RemoteEntryNotFoundError")
assert error(api.delete_folder, "file", "owner/public") == (404, "RemoteEntryNotFoundError")
assert error(api.hf_hub_download, "owner/public", "none.txt") == (404, "RemoteEntryNotFoundError")
assert not api.file_exists("owner/public", "other.txt")

hidden = "RepositoryNotFoundError"
for token, unseen, refused in (
    ("hf_reader", None, (403, "HfHubHTTPError")),
    ("hf_stranger", (404, hidden), (403, "HfHubHTTPError")),
    (False, (401, hidden), (401, "HfHubHTTPError")),
):
    assert error(api.model_info, "owner/private", token=token) == unseen
    assert error(api.hf_hub_download, "owner/private", "file.txt", token=token, cache_dir=str(token)) == unseen
    assert error(api.model_info, "owner/public", token=token) is None
    assert error(api.upload_file, repo_id="owner/public", token=token, **write) == refused
    assert error(api.upload_file, repo_id="owner/private", token=token, **write) == (unseen or refused)
    assert error(api.create_repo, "owner/new", token=token) == refused
assert error(api.whoami, token="hf_unknown") == (401, "HfHubHTTPError")
assert error(api.model_info, "owner/public", token="hf_unknown") == (401, "HfHubHTTPError")
assert api.whoami()["name"] == "owner"

api.update_repo_settings("owner/private", private=False)
assert error(api.model_info, "owner/private", token=False) is None
api.delete_repo("owner/private")
assert error(api.delete_repo, "owner/private") == (404, hidden)
assert not api.repo_exists("owner/private")
""")
    assert list(hub.repos) == ["owner/public"]


def test_a_private_repository_needs_a_token(hub, client):
    client('api.create_repo("owner/data", repo_type="dataset", private=True)')
    client('assert error(api.dataset_info, "owner/data") == (401, "RepositoryNotFoundError")', token=None)


def test_faults_before_and_after_the_effect(hub, client, folder):
    hub.faults += [
        Fault("POST", "/preupload/", status=503),
        Fault("PUT", "/objects/", reset=True),
        Fault("POST", "/commit/", status=503),
        Fault("POST", "/commit/", cut_after=0),
        Fault("GET", "/objects/", cut_after=100_000),
    ]
    output = client("""
import httpx2
api.create_repo("owner/model")
upload = lambda: api.upload_folder(repo_id="owner/model", folder_path="folder")
assert error(upload) == (503, "HfHubHTTPError")  # the client retries all but the commit
assert len(api.list_repo_commits("owner/model")) == 1
try:
    upload()
    raise AssertionError("the response was cut off")
except httpx2.RemoteProtocolError:
    assert len(api.list_repo_commits("owner/model")) == 2  # the commit was made all the same
print(api.hf_hub_download("owner/model", "model.safetensors", local_dir="copy"))
""")
    assert "Trying to resume download" in output
    assert (folder.parent / "copy" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert not any(fault.times for fault in hub.faults)
    assert [method for method, path in hub.requests if path.startswith("/objects/")].count("GET") == 2


def test_sends_ranges(hub, client):
    client("""
api.create_repo("owner/model")
api.upload_file(path_or_fileobj=b"0123456789", path_in_repo="digits.txt", repo_id="owner/model")
api.upload_file(path_or_fileobj=b"0123456789", path_in_repo="digits.bin", repo_id="owner/model")
""")

    def get(name: str, span: str) -> tuple:
        request = urllib.request.Request(f"{hub.url}/owner/model/resolve/main/{name}", headers={"Range": span})
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers["Content-Range"], answer.read()

    for name in ("digits.txt", "digits.bin"):
        assert get(name, "bytes=2-4") == (206, "bytes 2-4/10", b"234")
        assert get(name, "bytes=7-") == (206, "bytes 7-9/10", b"789")
        assert get(name, "bytes=-1") == (206, "bytes 9-9/10", b"9")
        with pytest.raises(urllib.error.HTTPError, match="416"):
            get(name, "bytes=10-")


def test_loads_and_streams_datasets(hub, client, tmp_path):
    folder = tmp_path / "data"
    (folder / "votes").mkdir(parents=True)
    pd.DataFrame({"x": [1, 2]}).to_parquet(folder / "votes" / "a.parquet")
    pd.DataFrame({"x": [3]}).to_parquet(folder / "votes" / "b.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: votes\n  data_files:\n"
        "  - split: train\n    path: votes/a.parquet\n  - split: test\n    path: votes/b.parquet\n---\n"
    )
    client("""
import datasets
api.create_repo("owner/data", repo_type="dataset", private=True)
api.upload_folder(repo_id="owner/data", repo_type="dataset", folder_path="data")
loaded = datasets.load_dataset("owner/data", "votes")
assert {split: rows["x"][:] for split, rows in loaded.items()} == {"train": [1, 2], "test": [3]}

rows = datasets.Dataset.from_dict({"x": list(range(10))})
rows.push_to_hub("owner/pushed", private=True)
rows.push_to_hub("owner/pushed", private=True)  # the second one replaces the first one
rows.select([0]).push_to_hub("owner/pushed", "one", split="test", revision="side")
assert datasets.load_dataset("owner/pushed", split="train")["x"][:] == list(range(10))
assert list(datasets.load_dataset("owner/pushed", split="train", streaming=True)) == list(rows)
assert len(datasets.load_dataset("owner/pushed", "one", split="test", revision="side")) == 1
""")
    assert list(hub.repos) == ["datasets/owner/data", "datasets/owner/pushed"]


def test_loads_a_base_model_and_its_adapter(hub, client, base, tmp_path):
    (tmp_path / "base").symlink_to(base)
    client("""
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

api.create_repo("owner/base")
api.upload_folder(repo_id="owner/base", folder_path="base")
tokenizer, model = AutoTokenizer.from_pretrained("owner/base"), AutoModelForCausalLM.from_pretrained("owner/base")
tokens = tokenizer("text", return_tensors="pt")
adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False)).eval()
adapted.push_to_hub("owner/adapter", private=True)
loaded = AutoPeftModelForCausalLM.from_pretrained("owner/adapter").eval()
assert torch.equal(loaded(**tokens).logits, adapted(**tokens).logits)
""")
    assert hub.repos["owner/adapter"].private
    assert hub.repos["owner/adapter"].branches["main"].files["adapter_model.safetensors"].lfs
