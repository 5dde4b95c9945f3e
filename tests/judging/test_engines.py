"""
Judges on engines: the same probabilities as here, and refusals.

vLLM itself is used if LMSYS_TRL_VLLM_PYTHON names the Python of an environment that has it. Otherwise a stand-in with
its documented interface computes the same with transformers, so that the worker and its protocol are tested.
"""

import json
import os
import socket
import stat
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from helpers.models import build_base, build_judge
from helpers.run import programs, recipe
from helpers.votes import write_votes

from lmsys_trl import Judge
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.judging.engine import EngineJudge, check_engine_config, judge_on_engine
from lmsys_trl.judging.loading import load_parts
from lmsys_trl.judging.predict import PredictionOptions
from lmsys_trl.models.probes import PROBES_FILE, Probes, save_probes
from lmsys_trl.options import EngineConfig
from lmsys_trl.predictions.table import PROBABILITIES

STAND_IN = """
import collections, torch
from transformers import AutoModelForCausalLM
from peft import PeftModel
__version__ = "0.0"
Logprob = collections.namedtuple("Logprob", "logprob")
Completion, Output = collections.namedtuple("Completion", "logprobs"), collections.namedtuple("Output", "outputs")
class SamplingParams:
    def __init__(self, max_tokens, temperature, logprob_token_ids):
        self.tokens = logprob_token_ids
class LLM:
    def __init__(self, model, dtype, max_model_len, enable_prefix_caching, enable_lora=False, max_lora_rank=0, **more):
        assert not more, f"unexpected {more}"
        print("loading")  # must not get between the answers
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.limit = max_model_len
    def generate(self, prompts, params, lora_request, use_tqdm):
        assert all(len(prompt["prompt_token_ids"]) < self.limit for prompt in prompts)
        if lora_request is not None and not isinstance(self.model, PeftModel):
            self.model = PeftModel.from_pretrained(self.model, lora_request.path).eval()
        found = []
        for prompt in prompts:
            with torch.no_grad():
                values = self.model(torch.tensor([prompt["prompt_token_ids"]])).logits[0, -1].log_softmax(-1)
            found.append(Output([Completion([{token: Logprob(values[token].item()) for token in params.tokens}])]))
        return found
"""
REQUEST = "import collections\nLoRARequest = collections.namedtuple('LoRARequest', 'name number path')\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    build_judge(build_base(folder / "models" / "tiny"), folder / "judge")
    write_votes(folder / "votes.csv", make_battles(6))
    package = folder / "packages" / "vllm"
    (package / "lora").mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "lora" / "__init__.py").touch()
    (package / "lora" / "request.py").write_text(REQUEST)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder / "packages"} exec {programs() / "python"} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture(scope="module")
def judge(project):
    return Judge.from_pretrained(project / "judge", str(project / "models" / "tiny"))


def probabilities(table):
    return table[PROBABILITIES].to_numpy()


def on_engine(project, adapter="judge", **options):
    given = {"engine": "vllm", "engine_python": os.environ.get("LMSYS_TRL_VLLM_PYTHON", str(project / "python"))}
    config = EngineConfig(**given | options)
    assert check_engine_config(config) == []
    return judge_on_engine(config, str(project / adapter), str(project / "models" / "tiny"), {}, None)


def test_vllm_predicts_the_same(project, judge):
    found = on_engine(project)
    battles = make_battles(5, seed="engine")
    expected, actual = (one.predict_dataset(battles, tta="swap") for one in (judge, found))
    assert probabilities(actual) == pytest.approx(probabilities(expected), abs=2e-5)
    assert found.compare("Why?", "So.", "No.")["mean"] == pytest.approx(
        judge.compare("Why?", "So.", "No.")["mean"], abs=2e-5
    )
    assert found.identity["precision"]["engine"].startswith("vllm ") and found.context_length == judge.context_length
    found.engine.close()
    with pytest.raises(UserError, match="engine vllm ended"):
        found.predict("Why?", "So.", "No.")


@pytest.mark.skipif("LMSYS_TRL_VLLM_PYTHON" in os.environ, reason="the stand-in has no such mistakes")
def test_an_engine_that_does_not_start_says_why(project):
    with pytest.raises(UserError, match="ended with 1(.|\n)*unexpected {'no_such': 3}"):
        on_engine(project, engine_options=["no_such=3"])
    with pytest.raises(UserError, match="cannot be run"):
        on_engine(project, engine_python=str(project / "nothing"))


def test_probes_are_compared(project, judge):
    class Fixed:
        name = "fixed"

        def log_probabilities(self, examples):
            return [[0.0, 0.0, 0.0]] * len(examples)

    parts = load_parts(project / "judge", str(project / "models" / "tiny"), {})
    save_probes(project / "judge", Probes([[1, 2, 3]], [[0.36, 0.32, 0.32]]))
    EngineJudge(parts, Fixed(), 0.05)
    with pytest.raises(UserError, match="a probability is 0.027 away from what it was after training"):
        EngineJudge(parts, Fixed(), 0.01)
    (project / "judge" / PROBES_FILE).write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        EngineJudge(parts, Fixed(), 0.05)
    (project / "judge" / PROBES_FILE).unlink()


class Server(ThreadingHTTPServer):
    """Completions of a judge: those of vLLM, or of a server that returns the likeliest tokens as text."""

    def __init__(self, judge, knows_tokens):
        self.judge, self.knows_tokens, self.failures, self.requests = judge, knows_tokens, 0, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append(body)
        if server.failures:
            server.failures -= 1
            return self.answer(503, {"error": "busy"})
        if body["model"] != "judge":
            return self.answer(404, {"error": f"no model {body['model']}"})
        with server.judge._turn:
            examples = [np.array(body["prompt"])]
            logits = server.judge.letter_logits(examples, PredictionOptions(), lambda done: None)
        values = logits[0].log_softmax(-1).tolist()
        if server.knows_tokens:
            top = {f"token_id:{token}": value for token, value in zip(body["logprob_token_ids"], values, strict=True)}
        else:
            top = {"A": values[0], " the": -1.0}
        return self.answer(200, {"choices": [{"logprobs": {"top_logprobs": [top]}}]})

    def answer(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


def test_a_server_predicts_the_same(project, judge, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server = Server(judge, knows_tokens=True)
    server.failures = 2
    found = on_engine(project, engine="server", engine_python=None, base_url=server.url, served_model="judge")
    battles = make_battles(5, seed="engine")
    expected, actual = (one.predict_dataset(battles, tta="swap") for one in (judge, found))
    assert probabilities(actual) == pytest.approx(probabilities(expected), abs=1e-6)
    assert len(server.requests) == 2 + 10 and server.requests[0]["max_tokens"] == 1
    server.failures = 100
    with pytest.raises(UserError, match="does not answer: status 503"):
        found.predict("Why?", "So.", "No.")
    server.shutdown()


def test_a_server_without_the_letters_is_refused(project, judge, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server = Server(judge, knows_tokens=False)
    options = {"engine": "server", "engine_python": None, "base_url": server.url}
    with pytest.raises(UserError, match="'B' is not among them. Use a server with logprob_token_ids"):
        on_engine(project, served_model="judge", **options).predict("Why?", "So.", "No.")
    with pytest.raises(UserError, match="does not answer: status 404: .*no model other"):
        on_engine(project, served_model="other", **options).predict("Why?", "So.", "No.")
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="does not answer: ConnectError"):
        on_engine(project, served_model="judge", **options).predict("Why?", "So.", "No.")


class Odd(BaseHTTPRequestHandler):
    """Answers with the server's bytes, whatever is asked."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *words):
        pass


def test_what_no_server_should_return_is_refused(project, judge):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    odd = on_engine(project, engine="server", engine_python=None, base_url=url, served_model="judge")
    for content in (b"", b"<html>", b"\xff", b"[" * 10**5):
        server.content = content
        with pytest.raises(UserError, match="returns no JSON"):
            odd.predict("Why?", "So.", "No.")
    for value in ("0.33", '"-1"', "true", "[-1]", "NaN", "Infinity", "1" * 400):
        known = ",".join(f'"token_id:{token}": {value}' for token in judge.settings.token_ids)
        server.content = b'{"choices": [{"logprobs": {"top_logprobs": [{' + known.encode() + b"}]}}]}"
        with pytest.raises(UserError, match="for 'A', which is no log probability"):
            odd.predict("Why?", "So.", "No.")
    server.shutdown()
    server.server_close()


def test_a_server_that_hangs_is_asked_once(project, judge, monkeypatch):
    monkeypatch.setattr("lmsys_trl.judging.server_engine.TIMEOUT", 0.5)
    with socket.create_server(
        ("127.0.0.1", 0), backlog=100
    ) as server:  # which accepts what it is told, and says nothing
        options = {"engine": "server", "engine_python": None, "served_model": "judge"}
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        with pytest.raises(UserError, match="has not answered for 0.5 s"):
            on_engine(project, base_url=url, **options).predict_dataset(make_battles(80))
        server.setblocking(False)
        connections = []
        with suppress(BlockingIOError):
            while True:
                connections.append(server.accept()[0])
        for connection in connections:
            connection.close()
        assert 1 <= len(connections) <= 32  # those that were made at once, and none in their place


def test_an_address_and_a_key_that_are_none(project, monkeypatch):
    options = {"engine": "server", "engine_python": None, "base_url": "http://[::1", "served_model": "judge"}
    with pytest.raises(UserError, match="is no address: Invalid port"):
        on_engine(project, **options).predict("Why?", "So.", "No.")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\n")
    with pytest.raises(UserError, match="OPENAI_API_KEY: holds characters that no key has"):
        on_engine(project, **options)


def test_options_of_engines():
    for given, problem in (
        ({"engine": "vllm"}, "engine_python: missing"),
        ({"engine": "server", "base_url": "http://x"}, "served_model: missing"),
        ({"engine_python": "python"}, "engine_python: is not for engine transformers"),
        ({"engine": "vllm", "engine_python": "python", "engine_options": ["x"]}, "expected name=value"),
    ):
        assert problem in "\n".join(check_engine_config(EngineConfig(**given)))


def test_on_the_command_line_and_with_a_head(project, judge):
    """Training leaves probes; a trained head needs the merged model."""
    recipe("prepare.py", "--sources", "votes.csv", "--output_dir", "data", "--validation_fraction", "0", cwd=project)
    options = ["--model_name_or_path", "models/tiny"]
    training = ["smollm2.yaml", *options, "--base_model_id", "owner/tiny", "--max_length", "700", "--max_steps", "2",
                "--dataset_name", "data", "--lora_layers_to_transform", "1"]  # fmt: skip
    recipe("sft.py", *training, "--output_dir", "runs/new", cwd=project)
    recipe("sft.py", *training, "--output_dir", "runs/own", "--head", "lm_head", "--loss", "answer", cwd=project)
    engine = [
        "--engine",
        "vllm",
        "--engine_python",
        str(project / "python"),
        "--test_file",
        "votes.csv",
        "--tta",
        "swap",
    ]
    output = recipe(
        "predict.py", "--adapter", "runs/own", *options, *engine, "--output_file", "own.parquet", cwd=project
    )
    assert "vllm 0.0: probabilities on the judge's probes differ by 0.0000 at most" in output
    words = ["--adapter", "runs/new", *options, *engine, "--output_file", "new.parquet"]
    assert "its head was trained (new)" in recipe("predict.py", *words, cwd=project, fails=True)
    recipe("merge.py", "--adapter", "runs/new", *options, "--output_dir", "merged", cwd=project)
    output = recipe("predict.py", *words, "--merged_model", "merged", cwd=project)
    assert "differ by 0.0000 at most" in output
    for name in ("own", "new"):
        here = Judge.from_pretrained(project / "runs" / name, str(project / "models" / "tiny"))
        expected = here.predict_dataset(make_battles(6), tta="swap").set_index(["id", "order"])[PROBABILITIES]
        found = pd.read_parquet(project / f"{name}.parquet").set_index(["id", "order"])[PROBABILITIES]
        assert np.abs(found.loc[expected.index].to_numpy() - expected.to_numpy()).max() < 2e-5
