"""The service of docs/serving.md gives many clients at once what the library gives. Needs FastAPI and httpx."""

import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.markdown_blocks import blocks
from helpers.models import build_judge
from helpers.run import REPOSITORY

from lmsys_trl.data.columns import TURN_COLUMNS
from lmsys_trl.data.synthetic import make_battles

pytest.importorskip("fastapi")
pytest.importorskip("httpx")


def test_sixteen_clients_get_the_values_of_the_library(base, tmp_path, monkeypatch):
    from fastapi.testclient import TestClient

    from lmsys_trl.models.base import remember_base

    judge = build_judge(base, tmp_path / "judge")
    remember_base(judge, base)
    monkeypatch.setenv("JUDGE", str(judge))
    code = next(block.text for block in blocks(REPOSITORY / "docs" / "serving.md") if block.language == "python")
    service = types.ModuleType("serve")
    monkeypatch.setitem(sys.modules, "serve", service)
    exec(compile(code, "serving.md", "exec"), service.__dict__)
    battles = [{name: battle[name] for name in TURN_COLUMNS} for battle in make_battles(48, seed="clients")]
    expected = [service.judge.predict(**battle, tta="swap") for battle in battles]
    with TestClient(service.app) as client, ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda battle: client.post("/predict", json=battle), battles))
        assert [answer.json() for answer in answers] == expected
        uneven = client.post("/predict", json={"prompt": ["p"], "response_a": ["a", "b"], "response_b": "b"})
        assert uneven.status_code == 422 and "must have the same number" in uneven.json()["detail"]
        assert client.post("/predict", json={"prompt": "p"}).status_code == 422
