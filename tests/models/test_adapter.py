"""Adapters by name: archives, Kaggle, and those made elsewhere."""

import os
import shutil
import zipfile

import pytest
import torch
from helpers.kaggle_server import LoopbackKaggle
from helpers.models import all_logits
from helpers.reference_solution import written_out
from helpers.run import python, recipe
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig

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
        packed.write(elsewhere / "adapter_model.safetensors", "runs/gemma/adapter_model.bin")
        packed.writestr("runs/gemma/training_args.bin", b"a pickle")
        packed.writestr("runs/gemma/checkpoint-1/optimizer.pt", b"a pickle")
        packed.writestr("../../judge.json", b"{}")
    folder = resolve_adapter(archive)
    names = {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}  # which only import reads
    assert {path.name for path in folder.iterdir()} == names
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder / name).read_bytes() == (elsewhere / name).read_bytes()
    assert folder.is_relative_to(tmp_path / "home") and not list(tmp_path.rglob("*args.bin"))
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
    output = python("-c", script, "kaggle:owner/name/gemma", cwd=tmp_path, **environment)
    assert "/gemma\n" in output
    output = python("-c", script, "kaggle:owner/name", cwd=tmp_path, fails=True, **environment)
    assert "holds 2 adapters. Name one of them: kaggle:owner/name/gemma, kaggle:owner/name/llama" in output
    server.status = 404
    output = python("-c", script, "kaggle:owner/other", cwd=tmp_path, fails=True, **environment)
    assert "UserError: kaggle:owner/other: there is no such data set" in output


def test_an_adapter_made_elsewhere_becomes_a_judge(elsewhere, base, tmp_path):
    with pytest.raises(ValueError, match="lmsys-trl import makes a judge of it"):
        Judge.from_pretrained(elsewhere, str(base))
    options = ["--model_name_or_path", base, "--prompt_version", "lmsys-38th-v1", "--max_length", "650"]
    options += ["--dtype", "float32", "--attn_implementation", "eager"]
    recipe("import.py", "--adapter", elsewhere, *options, "--letters", "a", "b", "c", "--output_dir", "imported",
           cwd=tmp_path)  # fmt: skip
    assert str(base) not in (tmp_path / "imported" / "judge.json").read_text()
    judge = Judge.from_pretrained(tmp_path / "imported")  # knows where its base model is
    texts = {"prompt": ["p"], "response_a": ["a"], "response_b": ["b"]}
    tokenizer = load_tokenizer(str(base))
    (example,) = encode_battle(texts, tokenizer, 650)
    logits = all_logits(judge, example["input_ids"])
    expected = (logits[tokenizer.convert_tokens_to_ids(["a", "b", "c"])].double() / 1.03).softmax(-1)
    assert list(judge.predict(**texts).values()) == pytest.approx(expected.tolist(), abs=1e-6)

    with_wrappers = shutil.copytree(elsewhere, tmp_path / "wrapped")
    weights = load_file(elsewhere / "adapter_model.safetensors")
    wrapped = {name.replace("base_model.", "base_model._orig_mod."): tensor for name, tensor in weights.items()}
    save_file(wrapped, with_wrappers / "adapter_model.safetensors")
    recipe("import.py", "--adapter", with_wrappers, *options, "--letters", "a", "b", "c", "--output_dir", "unwrapped",
           cwd=tmp_path)  # fmt: skip
    assert load_file(tmp_path / "unwrapped" / "adapter_model.safetensors").keys() == weights.keys()

    broken = shutil.copytree(elsewhere, tmp_path / "broken")
    save_file(dict(list(weights.items())[1:]), broken / "adapter_model.safetensors")
    options[3] = "lmsys-38th-code"
    options += ["--letters", "A", "B", "AB"]
    output = recipe("import.py", "--adapter", broken, *options, "--output_dir", "imported", cwd=tmp_path, fails=True)
    assert "3 problems" in output and "imported is not empty" in output and "expected three different tokens" in output
    assert "lmsys-38th-code is written for Gemma and Llama-3" in output and "Traceback" not in output
    options[3], options[-1] = "lmsys-38th-v1", "C"
    output = recipe("import.py", "--adapter", broken, *options, "--output_dir", "other", cwd=tmp_path, fails=True)
    assert "1 tensors are missing in it" in output and not (tmp_path / "other").exists()
    options[5] = "99999"
    output = recipe("import.py", "--adapter", elsewhere, *options, "--output_dir", "other", cwd=tmp_path, fails=True)
    assert "max_length: 99999 tokens, but the model has positions for" in output


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_a_pickle_that_is_not_a_table_of_tensors(elsewhere, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = shutil.copytree(elsewhere, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").unlink()
    options = ["--model_name_or_path", base, "--prompt_version", "lmsys-38th-v1", "--max_length", "650"]
    options += ["--letters", "A", "B", "C", "--output_dir", "imported"]
    contents = {
        "no adapter_model.safetensors. lmsys-trl import makes one of an adapter_model.bin": None,
        "holds more than tensors": {"lora": Harmful()},
        "is not a table of tensors": [torch.zeros(1)],
        "is damaged": b"PK\x03\x04 and no more",
    }
    for message, content in contents.items():
        if isinstance(content, bytes):
            (pickled / "adapter_model.bin").write_bytes(content)
        elif content is not None:
            torch.save(content, pickled / "adapter_model.bin")
        output = recipe("import.py", "--adapter", pickled, *options, cwd=tmp_path, fails=True)
        assert message in output and "Traceback" not in output
    assert not (tmp_path / "imported").exists() and not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        pytest.param("gemma2", (235280, 235305, 235288), marks=pytest.mark.slow),  # 256,000 tokens, loaded five times
        ("llama3.1", (32, 33, 34)),
    ],
)
def test_an_adapter_of_the_reference_solution(name, letters, assets, tmp_path):
    """Its weights are a pickle in a zip from Kaggle, and its code writes another prompt than its description."""
    tokenizer = load_tokenizer(
        str(assets / "tokenizers" / name), "<|finetune_right_pad_id|>" if name == "llama3.1" else None
    )
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    size = {"vocab_size": len(tokenizer), "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 1, "num_key_value_heads": 1}
    config = Gemma2Config(**size, head_dim=8) if name == "gemma2" else LlamaConfig(**size)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(load_base(base, "float32", "eager"), lora)
    model.save_pretrained(adapter)
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    archive = tmp_path / "lora.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in ("adapter_model.bin", "adapter_config.json"):
            packed.write(adapter / file, f"lora/{file}")

    pad = ["--pad_token", "<|finetune_right_pad_id|>"] if name == "llama3.1" else []
    recipe("import.py", "--adapter", archive, "--model_name_or_path", base, "--prompt_version", "lmsys-38th-code",
           "--letters", "A", "B", "C", "--max_length", "1900", "--dtype", "float32", "--output_dir", "imported", *pad,
           cwd=tmp_path)  # fmt: skip
    judge = Judge.from_pretrained(tmp_path / "imported", str(base), precision={"attn_implementation": "eager"})
    assert judge.settings.token_ids == list(letters)
    battle = {"prompt": ["Hi.", "Bye"], "response_a": ["a.\n", "b"], "response_b": [None, "c?"]}
    ids = torch.tensor([written_out(name, tokenizer, battle)])
    with torch.no_grad():
        expected = (model(input_ids=ids).logits[0, -1, list(letters)].double() / 1.03).softmax(-1)
    assert list(judge.predict(**battle).values()) == pytest.approx(expected.tolist(), abs=1e-6)
