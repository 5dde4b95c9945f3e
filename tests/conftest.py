"""Tiny models and tokenizers built on the spot, real tokenizers and votes where `LMSYS_TRL_ASSETS` names them."""

import os
import shutil
import tempfile
from pathlib import Path

# Before any library reads it: no test leaves the machine, or a trace in its caches.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-")

import pytest
import torch
from helpers.hub_server import LoopbackHub
from helpers.models import build_base, build_tokenizer
from helpers.votes import write_votes
from hypothesis import settings

from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.tokenizer import load_tokenizer

settings.register_profile("tests", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("tests")
torch.set_num_threads(1)


# The files that take longest, which two workers begin with, so that none ends alone.
LONG = (
    "test_train_and_predict.py",
    "test_push.py",
    "test_blocks.py",
    "test_hub.py",
    "test_validate.py",
    "test_predict.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


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


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return build_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def votes(tmp_path_factory) -> Path:
    return write_votes(tmp_path_factory.mktemp("votes") / "votes.csv", make_battles(40))


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        yield hub
