"""Tiny models and tokenizers built on the spot, real tokenizers and votes where `LMSYS_TRL_ASSETS` names them."""

import os
import shutil
import tempfile
from pathlib import Path

# Before any library reads it: a test keeps to one thread, and no test leaves the machine, or a trace in its caches.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-")

import pytest
from hypothesis import settings

settings.register_profile("tests", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("tests")


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


# Fixtures import what they need: the process that starts the workers loads this file too, and uses none of it.
@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with real votes and tokenizers."""
    folder = os.environ.get("LMSYS_TRL_ASSETS")
    if not folder:
        pytest.skip("LMSYS_TRL_ASSETS names no folder")
    return Path(folder)


@pytest.fixture(scope="session", params=["gemma2", "llama3.1"])
def real_tokenizer(request, assets):
    from lmsys_trl.encoding.tokenizer import load_tokenizer

    return load_tokenizer(str(assets / "tokenizers" / request.param))


@pytest.fixture(scope="session")
def tokenizer():
    from helpers.models import build_tokenizer

    return build_tokenizer()


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    from helpers.models import build_base

    return build_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def votes(tmp_path_factory) -> Path:
    from helpers.votes import write_votes

    from lmsys_trl.data.synthetic import make_battles

    return write_votes(tmp_path_factory.mktemp("votes") / "votes.csv", make_battles(40))


@pytest.fixture
def hub():
    from helpers.hub_server import LoopbackHub

    with LoopbackHub() as hub:
        yield hub
