"""Tiny models and tokenizers built on the spot, real tokenizers and votes where `LMSYS_TRL_ASSETS` names them."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Before any library reads it: no test leaves the machine, or a trace in its caches.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-")

import pytest
import torch
from hub_server import LoopbackHub
from hypothesis import settings
from recipe_process import run_forked
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lmsys_trl.rows import load_tokenizer
from lmsys_trl.synthetic import make_battles

REPOSITORY = Path(__file__).parent.parent
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

settings.register_profile("tests", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("tests")
torch.set_num_threads(1)


def pytest_unconfigure():
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with real votes and tokenizers."""
    folder = os.environ.get("LMSYS_TRL_ASSETS")
    if not folder:
        pytest.skip("LMSYS_TRL_ASSETS names no folder")
    return Path(folder)


@pytest.fixture(scope="session", params=["gemma2", "llama3.1"])
def real_tokenizer(request, assets):
    return load_tokenizer(str(assets / "tokenizers" / request.param))


def build_tokenizer(pad_token: str = "<|endoftext|>") -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a token for every byte and ChatML's control tokens."""
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*control, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token=pad_token
    )
    tokenizer.add_special_tokens({"additional_special_tokens": control})
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


def build_base(folder: Path, seed: int = 0, **changes) -> Path:
    """A base model folder: a Llama with two small layers and random weights, and the byte-level tokenizer."""
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    LlamaForCausalLM(LlamaConfig(**config | changes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return build_base(tmp_path_factory.mktemp("models") / "tiny")


def write_votes(path: Path, battles: list[dict]) -> Path:
    """A Kaggle-format CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        texts, winners = ("prompt", "response_a", "response_b"), ("model_a", "model_b", "tie")
        writer.writerow(["id", "model_a", "model_b", *texts, *(f"winner_{winner}" for winner in winners)])
        for battle in battles:
            cells = [battle["id"], battle["model_a"], battle["model_b"]]
            writer.writerow(
                [*cells, *(json.dumps(battle[key]) for key in texts), *(int(battle["winner"] == w) for w in winners)]
            )
    return path


@pytest.fixture(scope="session")
def votes(tmp_path_factory) -> Path:
    return write_votes(tmp_path_factory.mktemp("votes") / "votes.csv", make_battles(40))


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        yield hub


def run(*command, cwd: Path, fails: bool = False, **environment) -> str:
    """Run a command of ours as a user would; returns what it prints."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
    )
    output = result.stdout + result.stderr
    assert (result.returncode != 0) == fails, output
    return output


def recipe(name: str, *arguments, cwd: Path, launch: list | None = None, fails: bool = False, **environment) -> str:
    """Run a recipe, or `accelerate launch` it with some options; returns what it prints."""
    script = REPOSITORY / "recipes" / name
    if launch is not None:
        accelerate = Path(sys.executable).with_name("accelerate")
        return run(accelerate, "launch", *launch, script, *arguments, cwd=cwd, fails=fails, **environment)
    if environment:  # which libraries read when they are loaded
        return run(sys.executable, script, *arguments, cwd=cwd, fails=fails, **environment)
    with tempfile.NamedTemporaryFile() as file:
        status = run_forked(script, [str(word) for word in arguments], cwd, Path(file.name))
        output = Path(file.name).read_text(encoding="utf-8")
    assert (status != 0) == fails, output
    return output
