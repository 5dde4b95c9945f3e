"""Adapters by name: archives, Kaggle, and those made elsewhere."""

import shutil
import sys
import zipfile

import pytest
import torch
from helpers.kaggle_server import LoopbackKaggle
from helpers.models import all_logits
from helpers.run import recipe, run
from peft import LoraConfig, get_peft_model

from lmsys_trl import Judge
from lmsys_trl.encoding.examples import encode_battle
from lmsys_trl.encoding.tokenizer import load_tokenizer
from lmsys_trl.models import adapter as adapters
from lmsys_trl.models.adapter import resolve_adapter
from lmsys_trl.models.base import load_base


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(adapters, "HF_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def elsewhere(base, tmp_path_factory):
    """An adapter as PEFT saves it: no judge.json, no tokenizer."""
    folder = tmp_path_factory.mktemp("elsewhere")
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load_base(base, "float32", "eager"), config).save_pretrained(folder)
    return folder


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_an_adapter_in_a_zip(elsewhere, tmp_path):
    archive = tmp_path / "one.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in elsewhere.iterdir():
            packed.write(path, f"runs/gemma/{path.name}")
        packed.writestr("runs/gemma/training_args.bin", b"a pickle")
        packed.writestr("runs/gemma/checkpoint-1/optimizer.pt", b"a pickle")
        packed.writestr("../../judge.json", b"{}")
    folder = resolve_adapter(archive)
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder / name).read_bytes() == (elsewhere / name).read_bytes()
    assert folder.is_relative_to(tmp_path / "home") and not list(tmp_path.rglob("*.bin"))
    assert not (tmp_path / "judge.json").exists() and not (tmp_path / "home" / "judge.json").exists()
    assert resolve_adapter(str(archive)) == folder  # unpacked once


def test_several_adapters_in_a_zip(tmp_path):
    archive = zipped(tmp_path / "two.ZIP", **{"gemma/adapter_config.json": "{}", "llama/adapter_config.json": "{}"})
    with pytest.raises(ValueError, match=r"holds 2 adapters. Name one of them: .*two.ZIP/gemma, .*two.ZIP/llama"):
        resolve_adapter(archive)
    assert resolve_adapter(f"{archive}/llama").name == "llama"
    with pytest.raises(ValueError, match="mistral: there is no adapter_config.json in it"):
        resolve_adapter(f"{archive}/mistral")


def test_names_that_lead_nowhere(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="broken.zip: damaged, or not a zip archive"):
        resolve_adapter(tmp_path / "broken.zip")
    with pytest.raises(ValueError, match="there is no adapter_config.json in it"):
        resolve_adapter(zipped(tmp_path / "other.zip", readme="no adapter"))
    for name in (tmp_path / "none", tmp_path / "none.zip", "none", "a/b@c@d"):
        with pytest.raises(ValueError, match="there is no such folder. Name one, owner/name"):
            resolve_adapter(name)
    with pytest.raises(ValueError, match="runs/none: there is no such folder, and as a model runs/none on the Hub: "):
        resolve_adapter("runs/none")


def test_adapters_from_kaggle(tmp_path):
    server = LoopbackKaggle({"gemma/adapter_config.json": b"{}", "llama/adapter_config.json": b"{}"})
    environment = server.environment(tmp_path / "kaggle") | {"HF_HOME": str(tmp_path / "home")}
    script = "import sys; from lmsys_trl.models.adapter import resolve_adapter; print(resolve_adapter(sys.argv[1]))"
    output = run(sys.executable, "-c", script, "kaggle:owner/name/gemma", cwd=tmp_path, **environment)
    assert "/gemma\n" in output
    output = run(sys.executable, "-c", script, "kaggle:owner/name", cwd=tmp_path, fails=True, **environment)
    assert "holds 2 adapters. Name one of them: kaggle:owner/name/gemma, kaggle:owner/name/llama" in output
    server.status = 404
    output = run(sys.executable, "-c", script, "kaggle:owner/other", cwd=tmp_path, fails=True, **environment)
    assert "UserError: kaggle:owner/other: there is no such data set" in output


def test_an_adapter_made_elsewhere_becomes_a_judge(elsewhere, base, tmp_path):
    with pytest.raises(ValueError, match="lmsys-trl import makes a judge of it"):
        Judge.from_pretrained(elsewhere, str(base))
    options = ["--model_name_or_path", base, "--prompt_version", "lmsys-38th-v1", "--max_length", "650"]
    options += ["--dtype", "float32", "--attn_implementation", "eager"]
    recipe("import.py", "--adapter", elsewhere, *options, "--letters", "a", "b", "c", "--output_dir", "imported",
           cwd=tmp_path)  # fmt: skip
    assert str(base) not in (tmp_path / "imported" / "judge.json").read_text()
    judge = Judge.from_pretrained(tmp_path / "imported", str(base))
    texts = {"prompt": ["p"], "response_a": ["a"], "response_b": ["b"]}
    tokenizer = load_tokenizer(str(base))
    (example,) = encode_battle(texts, tokenizer, 650)
    logits = all_logits(judge, example["input_ids"])
    expected = (logits[tokenizer.convert_tokens_to_ids(["a", "b", "c"])].double() / 1.03).softmax(-1)
    assert list(judge.predict(**texts).values()) == pytest.approx(expected.tolist(), abs=1e-6)

    pickled = shutil.copytree(elsewhere, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    output = recipe("import.py", "--adapter", pickled, *options, "--letters", "A", "B", "AB",
                    "--output_dir", "imported", cwd=tmp_path, fails=True)  # fmt: skip
    assert "3 problems" in output and "imported is not empty" in output and "expected three different tokens" in output
    assert "Pickled adapters are not loaded" in output and "Traceback" not in output
