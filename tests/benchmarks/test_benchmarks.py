"""The benchmarks start, and what they measure with works. How fast anything is, no test says."""

import importlib
import re
import sys
import time
from multiprocessing import Pipe

import pytest
import torch
from helpers.models import build_judge
from helpers.run import REPOSITORY, recipe, run
from transformers import LlamaConfig

BENCHMARKS = REPOSITORY / "benchmarks"
TINY = LlamaConfig(
    vocab_size=128, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, tie_word_embeddings=True, max_position_embeddings=2048,
)  # fmt: skip


@pytest.fixture(scope="module")
def modules():
    """Modules of benchmarks/ by name, imported as they import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        names = ("devices", "results", "training", "prediction", "data", "real_votes", "demo", "training_profile")
        found = {name: importlib.import_module(name) for name in names}
        patch.setitem(found["training"].MODELS, "tiny", TINY)
        yield found
        for name in names:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("annotate.py", "--seeds"),
        ("data.py", "--sizes"),
        ("demo.py", "--report"),
        ("engines.py", "--engine_options"),
        ("heads.py", "--seeds"),
        ("long_run.py", "--shard_size"),
        ("models_ranked.py", "--max_battles"),
        ("peers.py", "--battles_per_step"),
        ("plan.py", "--published"),
        ("prediction.py", "--implementations"),
        ("ratings.py", "--runs"),
        ("real_votes.py", "--variants"),
        ("scaling.py", "--steps"),
        ("teachers.py", "--validation_fraction"),
        ("training.py", "--implementations"),
        ("training_profile.py", "--steps"),
    ],
)
def test_help_lists_the_options(name, option, tmp_path):
    output = recipe(str(BENCHMARKS / name), "--help", cwd=tmp_path)
    assert option in output and "--record" in output and "python benchmarks/" in output


def test_a_long_run_is_watched(base, tmp_path):
    build_judge(base, tmp_path / "judge")
    words = ["--adapter", "judge", "--model_name_or_path", base, "--battles", "20", "--shard_size", "2"]
    output = recipe(str(BENCHMARKS / "long_run.py"), *words, "--seconds", "0.01", cwd=tmp_path)
    assert "20 battles in " in output and "and 10 shards" in output and "MiB per 1000 battles" in output
    assert "open files: " in output and "Traceback" not in output


def test_what_a_judge_reads_of_texts(modules, base, tmp_path):
    judge = build_judge(base, tmp_path / "judge")
    short = {"id": "1", "prompt": ["1 + 1?", None], "response_a": ["2", ""], "response_b": ["two", "#Prompt"]}
    long = {"id": "2", "prompt": ["Why?"], "response_a": ["It is so. " * 500], "response_b": ["No."]}
    whole, cut = modules["real_votes"].as_read([short, long], judge)
    assert whole == short | {"prompt": ["1 + 1?", ""]}
    assert cut["prompt"] == ["Why?"] and cut["response_b"] == ["No."]
    assert 100 < len(cut["response_a"][0]) < 5000 and long["response_a"][0].startswith(cut["response_a"][0])


def test_help_of_the_gpu_kit():
    output = run(sys.executable, "benchmarks/gpu/run_gpu.py", "--help", cwd=REPOSITORY)
    assert all(option in output for option in ("--kit_dir", "--output_dir", "--assets", "--budget"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recpie", "--assets", "."], "unknown parts recpie"),
        (["env", "--assets", "benchmarks"], "has no folder tokenizers/"),
        (["env"], "--assets: missing"),
    ],
)
def test_the_gpu_kit_refuses_mistakes_at_once(arguments, message):
    command = [sys.executable, "benchmarks/gpu/run_gpu.py", *arguments]
    assert message in run(*command, cwd=REPOSITORY, fails=True, LMSYS_TRL_ASSETS="")


def test_the_gpu_kit_packs_only_with_tokenizers_and_votes(tmp_path):
    output = run("bash", "benchmarks/gpu/fetch_wheels.sh", cwd=REPOSITORY, fails=True, LMSYS_TRL_ASSETS=str(tmp_path))
    assert "has no tokenizers/" in output
    output = run("bash", BENCHMARKS / "gpu" / "fetch_wheels.sh", cwd=tmp_path, fails=True)
    assert "in the root of the checkout" in output


def test_peak_memory_is_counted_from_its_reset(modules):
    devices = modules["devices"]
    loaded = devices.reset_peak_memory()
    tensor = torch.ones(2**25, device=devices.DEVICE)  # 0.125 GiB
    del tensor
    assert 0.1 < devices.peak_memory() - loaded < 0.2
    loaded = devices.reset_peak_memory()
    assert devices.peak_memory() - loaded < 0.05


def test_timed_measures_one_call(modules):
    calls = []
    seconds = modules["devices"].timed(lambda: calls.append(time.sleep(0.05)))
    assert 0.05 <= seconds < 5 and len(calls) == 1


def test_the_device_has_a_name(modules):
    assert modules["devices"].device_name()


@pytest.mark.parametrize("name", ["upper_bound", "ours", "vocabulary", "120", "trl", "plain"])
def test_each_training_takes_steps_and_reports_seconds_and_memory(modules, name):
    training = modules["training"]
    config = training.BenchmarkConfig(models=["tiny"], steps=1, battles_per_step=4, mean_length=50)
    parent, worker = Pipe()
    for message in ("step", "step", "end"):
        parent.send(message)
    training.work(name, "tiny", config, worker)
    ready, *seconds, gib = [parent.recv() for _ in range(4)]
    assert ready == "ready" and all(0 < s < 60 for s in seconds)
    assert 0 <= gib < 2 and not parent.poll()


def test_the_profile_of_steps_is_divided_by_kind(modules):
    config = modules["training"].BenchmarkConfig(models=["tiny"], steps=1, battles_per_step=4, mean_length=50)
    table = modules["training_profile"].show_profile("tiny", config)
    percentages = dict(re.findall(r"^\| (.+?) \| ([\d.]+)% \|$", table, re.MULTILINE))
    assert percentages.keys() == {*modules["training_profile"].KINDS, "the optimizer", "all else"}
    assert sum(map(float, percentages.values())) == pytest.approx(100, abs=0.5)
    assert float(percentages["matrix products of the layers and LoRA"]) > 0


@pytest.mark.parametrize("name", ["upper_bound", "ours", "notebook", "generate"])
def test_each_prediction_runs_and_reports_seconds_and_memory(modules, name):
    prediction = modules["prediction"]
    config = prediction.BenchmarkConfig(models=["tiny"], battles=4, mean_length=300)
    parent, worker = Pipe()
    for message in ("run", "end"):
        parent.send(message)
    prediction.work(name, "tiny", config, 4, worker)
    ready, seconds, gib = [parent.recv() for _ in range(3)]
    assert ready == "ready" and 0 < seconds < 60
    assert 0 <= gib < 2 and not parent.poll()


def test_generated_examples_and_battles_are_the_same_each_time(modules):
    training, prediction = modules["training"], modules["prediction"]
    assert training.make_examples(5, 50, 128) == training.make_examples(5, 50, 128)
    tokenizer = prediction.build_tokenizer()
    assert prediction.make_battles(5, 300, tokenizer) == prediction.make_battles(5, 300, tokenizer)
