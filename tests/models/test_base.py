"""Base models by name: relative to the working directory, and beside the package in a checkout."""

import json

import pytest
from helpers.models import build_base

from lmsys_trl import config
from lmsys_trl.encoding.tokenizer import load_tokenizer
from lmsys_trl.models import base as bases
from lmsys_trl.models.base import find_base_of, find_local_base, hub_id, load_base, resolve_base, weights_fingerprint


@pytest.fixture
def checkout(base, tmp_path, monkeypatch):
    """A checkout with a base model in models/, and a working directory elsewhere."""
    folder = tmp_path / "checkout"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "tiny").symlink_to(base)
    for module in (bases, config):
        monkeypatch.setattr(module, "bundled_folder", lambda name: folder / name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_relative_paths_work_from_any_working_directory(checkout, base, tmp_path, monkeypatch):
    assert resolve_base("models/tiny") == checkout / "models" / "tiny"
    assert hub_id("models/tiny") is None and hub_id(str(base)) is None and hub_id("owner/tiny") == "owner/tiny"
    with pytest.raises(ValueError, match="base model models/none: there is no such folder, and as a model models"):
        resolve_base("models/none")
    # The working directory comes first.
    (tmp_path / "elsewhere" / "models").mkdir()
    (tmp_path / "elsewhere" / "models" / "tiny").symlink_to(base)
    assert not resolve_base("models/tiny").is_absolute()
    monkeypatch.chdir(checkout)
    assert not resolve_base("models/tiny").is_absolute()


def test_the_weights_are_found_in_both_models_folders(checkout, base, tmp_path):
    fingerprint = weights_fingerprint(base)
    assert find_local_base(fingerprint) == checkout / "models" / "tiny"
    (tmp_path / "elsewhere" / "models").mkdir()
    (tmp_path / "elsewhere" / "models" / "own").symlink_to(base)
    assert find_local_base(fingerprint).name == "own"
    assert find_local_base("0" * 64) is None
    assert find_base_of({"id": None, "fingerprint": fingerprint}).name == "own"
    with pytest.raises(ValueError, match="no folder in models/ has the base model's weights .* --model_name_or_path"):
        find_base_of({"id": None, "fingerprint": "0" * 64})


def test_other_code_is_never_run(tmp_path):
    """A model's folder may name code of its own for its classes."""
    base = build_base(tmp_path / "base")
    (base / "harm.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w').close()\n")
    for name, classes in (("config.json", ("AutoModelForCausalLM", "AutoConfig")), ("tokenizer_config.json", ())):
        content = json.loads((base / name).read_text())
        content["auto_map"] = dict.fromkeys(classes, "harm.Harm") or {"AutoTokenizer": ["harm.Harm"] * 2}
        (base / name).write_text(json.dumps(content))
    load_base(base, "float32", "eager")
    load_tokenizer(str(base))
    assert not (tmp_path / "harm").exists()
