"""Benchmarks write the tables of docs/results.md, each its own, and nothing of the machine but what it is."""

import importlib
import json
import os
import platform
import re
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from helpers.run import REPOSITORY

from lmsys_trl.artifacts import PACKAGES
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.metrics.functions import log_losses

BENCHMARKS, PAGE = REPOSITORY / "benchmarks", REPOSITORY / "docs" / "results.md"
MARKER = re.compile(r"<!-- (/?)(\w+)(?:: written by benchmarks/(\S+))? -->")
TWO_SECTIONS = """# Results

<!-- one: written by benchmarks/speed.py -->
old
<!-- /one -->

Prose.

<!-- two: written by benchmarks/speed.py -->
other
<!-- /two -->
"""


@pytest.fixture
def load(monkeypatch):
    """Imports a module of benchmarks/ as they import each other."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in {path.stem for path in BENCHMARKS.glob("*.py")} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.fixture
def results(load, tmp_path, monkeypatch):
    """The module, with a page of two sections in a folder of its own, run as speed.py."""
    module = load("results")
    page = tmp_path / "results.md"
    page.write_text(TWO_SECTIONS)
    monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["benchmarks/speed.py", "--record"])
    return module


def test_a_record_replaces_its_section_only(results):
    results.record(
        "one", results.markdown_table(["model", "tokens/s"], [["a", "1"], ["b", "2"]]), "Twice as fast. " * 20
    )
    page = results.PAGE.read_text()
    before, section, after = re.split(r"(?<=speed.py -->)(.*?)(?=<!-- /one -->)", page, maxsplit=1, flags=re.S)
    assert before + "\nold\n" + after == TWO_SECTIONS
    assert "| model | tokens/s |\n|---|---|\n| a | 1 |\n| b | 2 |\n\nTwice as fast. " in section
    assert max(map(len, page.splitlines())) <= 119
    facts = " ".join(section.split())
    assert f"Measured {date.today()} on " in facts and "GiB memory" in facts
    assert all(f"{name} {version(name)}" in facts for name in PACKAGES) and f"python {sys.version.split()[0]}" in facts
    assert "```bash\n# not run in tests: takes minutes\npython benchmarks/speed.py --record\n```" in section


def test_recording_twice_changes_nothing(results):
    results.record("two", "table")
    once = results.PAGE.read_text()
    results.record("two", "table")
    assert results.PAGE.read_text() == once != TWO_SECTIONS


@pytest.mark.parametrize(("section", "script"), [("three", "speed.py"), ("one", "other.py")])
def test_an_unknown_section_is_refused_with_the_lines_to_add(results, monkeypatch, section, script):
    monkeypatch.setattr(sys, "argv", [script])
    with pytest.raises(UserError, match="Add these two lines") as error:
        results.record(section, "table")
    assert results.PAGE.read_text() == TWO_SECTIONS
    lines = str(error.value).splitlines()[-2:]
    results.PAGE.write_text(TWO_SECTIONS + "\n".join(lines) + "\n")
    results.record(section, "table")
    assert "\n\ntable\n\n" in results.PAGE.read_text()


def test_a_section_without_an_end_is_refused(results):
    results.PAGE.write_text(TWO_SECTIONS.replace("<!-- /two -->", ""))
    with pytest.raises(UserError, match="Add these two lines"):
        results.record("two", "table")


def test_no_path_of_the_machine_gets_into_the_page(results, tmp_path, monkeypatch):
    votes = tmp_path / "votes.csv"
    votes.touch()
    monkeypatch.setattr(
        sys, "argv",
        [
            str(BENCHMARKS / "speed.py"), "--assets", str(tmp_path), f"--work_dir={tmp_path}/my files", "--test_file",
            str(votes), "--adapter", "~/judge", "--more", "../../judge", "--here", str(REPOSITORY / "runs" / "judge"),
            "--variants", f"swap=paired model_name_or_path={tmp_path}/my model learning_rate=1e-4", "kaggle:a/b",
        ],
    )  # fmt: skip
    results.record("one", "table")
    page = results.PAGE.read_text()
    command = re.search(r"```bash\n.*\n((?:.*\\\n)*.*)\n```", page)[1]
    assert " ".join(command.replace("\\\n", "").split()) == (
        "python benchmarks/speed.py --assets DIR --work_dir=DIR --test_file DIR/votes.csv --adapter DIR --more DIR "
        "--here runs/judge --variants 'swap=paired model_name_or_path=DIR learning_rate=1e-4' kaggle:a/b"
    )
    assert not [name for name in (str(tmp_path), str(REPOSITORY), str(Path.home()) + "/", "my ") if name in page]
    assert platform.node() not in page


def test_the_real_page_has_no_path_and_names_of_scripts_that_exist():
    text = PAGE.read_text()
    found = [match.groups() for match in MARKER.finditer(text)]
    openings, closings = found[::2], found[1::2]
    assert [("", name) for _, name, _ in openings] == [("", name) for slash, name, _ in closings if slash]
    assert len({name for _, name, _ in openings}) == len(openings) > 5
    for _, name, script in openings:
        assert f'"{name}"' in (BENCHMARKS / script).read_text(), (name, script)
    assert not re.search(r"(^|\s|=)~?/\w", MARKER.sub("", text)) and str(REPOSITORY) not in text


def test_every_benchmark_has_a_section():
    scripts = {path.name for path in BENCHMARKS.glob("*.py")} - {"devices.py", "results.py", "pairjudge_worker.py"}
    assert scripts == {script for _, _, script in MARKER.findall(PAGE.read_text()) if script}


def test_speeds_are_compared_on_the_same_work(load):
    seconds = {"upper_bound": [1.0, 2.0, 9.0], "ours": [1.0, 4.0, 10.0], "trl": [2.0, 8.0, 40.0]}
    training = load("training")
    (line,) = training.compare(seconds, training.TITLES)
    assert "0.90 (0.50 to 1.00) times the upper bound, 2.00 (2.00 to 4.00) times `trl.SFTTrainer`" in line
    assert training.compare({"trl": [1.0]}, training.TITLES) == []


def test_the_tables_of_data(load):
    data = load("data")
    sizes = [
        {"battles": 1_000, "csv_mb": 2, "seconds": 3.0, "peak_gib": 0.2},
        {
            "battles": 10_000,
            "csv_mb": 16,
            "seconds": 4.0,
            "peak_gib": 0.3,
            "exponent": 1.0,
            "exponent_of_n_log_n": 1.1,
        },
    ]
    table, fixed = data.show_prepare({"fixed_seconds": 2.0, "sizes": sizes})
    assert "| 10,000 | 16 MB | 4.0 | 2,500 | 0.30 GiB | 1.00 | 1.10 |" in table and "2.0 seconds" in fixed
    seconds = {"tokenizer alone": 2.0, "encode_battles": 3.0}
    measured = {"seconds": seconds, "cpu_seconds": {"tokenizer alone": 4.0, "encode_battles": 5.0}}
    (table,) = data.show_encode({"generated": {"battles": 5_000, "tokens": 9_000, **measured}})
    assert "| 5,000 of generated | encode_battles | 3.00 | 3,000 | 1.50 | 1.25 |" in table
    (table,) = data.show_turns({"battles": 57_000, "several": 10, "seconds": {"pandas": 50.0, "fit_turns": 2.0}})
    assert "| pandas | 50.00 | 25.0 |" in table


def test_the_tables_of_prediction(load):
    prediction = load("prediction")
    gib = {"ours": 0.1, "notebook": 1.2, "ours, four times the battles": 0.2}
    seconds = {"ours": [1.0, 2.0], "notebook": [3.0, 4.0]}
    figures = {
        "battles_per_second": {"ours": 2.0, "notebook": 0.5},
        "peak_gib_over_loaded_model": gib,
        "seconds": seconds,
    }
    table, line = prediction.show("tiny", figures, prediction.BenchmarkConfig())
    assert "from the texts | 2.00 | 0.10 GiB |" in table and "four times the battles |  | 0.20 GiB |" in table
    assert "2.50 (2.00 to 3.00) times the usual notebook" in line
    (table,) = prediction.show_tta({"none": {"battles": 250, "seconds": 28.2, "log_loss": 0.6391}})
    assert "| `--tta`, 250 battles |" in table and "| `none` | 28.2 | 0.6391 |" in table


def test_votes_are_chosen_by_score_and_by_group(load):
    annotate = load("annotate")
    scores, groups = np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([0, 0, 0, 1, 2])
    assert annotate.choose(scores, groups, 3, None).tolist() == [0, 1, 2]
    assert annotate.choose(scores, groups, 3, 1).tolist() == [0, 3, 4]
    assert annotate.choose(scores, groups, 4, 2).tolist() == [0, 1, 3, 4]
    assert annotate.choose(scores, groups, 5, 1).tolist() == [0, 3, 4, 1, 2]


def test_votes_needed_and_votes_saved(load):
    annotate, sizes = load("annotate"), np.array([40, 80, 120, 160])
    assert annotate.votes_needed(np.array([1.0, 0.8, 0.9, 0.6]), sizes, 0.7) == 140
    assert annotate.votes_needed(np.array([1.0, 0.8, 0.9, 0.6]), sizes, 1.1) == 40
    assert annotate.votes_needed(np.array([1.0, 0.8, 0.9, 0.6]), sizes, 0.5) == 160
    random = np.tile([1.0, 0.8, 0.7, 0.6], (5, 1))
    rows = annotate.compare({"random": random, "better": random - 0.1, "worse": random + 0.5}, sizes)
    assert rows[0] == ["random", "0.6000", "80", "", ""]
    assert rows[1] == ["better", "0.5000", "60", "-0.1000 [-0.1000, -0.1000]", "+25% [+25%, +25%]"]
    assert rows[2][2:] == ["160 or more", "+0.5000 [+0.5000, +0.5000]", "-100% [-100%, -100%]"]


def test_a_learner_learns_both_orders(load):
    annotate = load("annotate")
    votes = annotate.Votes(make_battles(300))
    places, labels = np.arange(len(votes.votes)), np.array([choices[0].argmax() for choices in votes.votes])
    learner = annotate.Learner(votes, places[:200], labels)
    orders = learner.orders(places[200:])
    assert np.allclose(orders.sum(axis=-1), 1) and annotate.disagreement(orders).min() > -1e-12
    of_votes = [log_losses(learner.predict(places[200:]), labels[200:]).mean(), np.log(3)]
    assert of_votes[0] < of_votes[1] - 0.1
    curves = annotate.simulate(votes, annotate.AnnotateConfig(batch=40, budget=80), seed=0)
    assert curves.keys() == annotate.STRATEGIES.keys() and len({tuple(curve) for curve in curves.values()}) > 4
    assert len({curve[0] for curve in curves.values()}) == 1 and all(len(curve) == 2 for curve in curves.values())


def test_the_table_of_judges_compares_them_with_the_first(load):
    def figure(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    def judge(loss):
        scores = {"log_loss": figure(loss)}
        position = {"flip_rate": figure(0.5), "shift_to_a": figure(0.2)}
        return {"orders": {"ab": scores, "mean": scores}, "cross_fitted_temperature": scores, "position": position}

    ratings = [{"annotators": {"value": value}, "judges": {"a": {"value": 1}, "b": {"value": 2}}} for value in (9, 5)]
    figures = {
        "num_battles": 20, "num_groups": 10, "judges": {"a": judge(1.0), "b": judge(0.9)},
        "differences": [{"judge": "b", "baseline": "a", "log_loss": figure(-0.1)}],
        "baselines": {"class_prior": {"log_loss": figure(1.1)}}, "ratings": {"models": ratings},
    }  # fmt: skip
    table, losses, spans = load("real_votes").show_judges(
        "votes", figures, {"a": "`swap: none`", "b": "`swap: paired`"}
    )
    one, other = table.splitlines()[2:]
    assert one.startswith("| `swap: none` | 1.000 [0.900, 1.100] |") and one.endswith("|  |")
    assert other.startswith("| `swap: paired` | 0.900 [0.800, 1.000] |") and other.endswith(
        "| -0.100 [-0.200, 0.000] |"
    )
    assert "class prior 1.100 [1.000, 1.200]" in losses
    assert "4 for annotators, 0 for `swap: none`" in spans


def test_the_demo_records_the_table_of_its_report(load, results, tmp_path, monkeypatch):
    demo = load("demo")
    results.PAGE.write_text("<!-- demo: written by benchmarks/demo.py -->\n<!-- /demo -->\n")
    report = tmp_path / "report"
    monkeypatch.setattr(sys, "argv", ["benchmarks/demo.py", "--report", str(report), "--record"])
    with pytest.raises(UserError, match="Run `make demo` first"):
        demo.main()
    scores = {name: {"value": 0.5} for name in ("log_loss", "accuracy", "brier_score", "ece")}
    judge = {
        "orders": {"ab": scores},
        "cross_fitted_temperature": {"temperature": 1, **scores},
        "position": None,
        **scores,
    }
    figures = {"num_battles": 250, "num_groups": 20, "judges": {"runs/demo": judge}, "baselines": {"uniform": scores}}
    report.mkdir()
    for torch_version in ("0.1", version("torch")):
        metrics = figures | {"versions": {"torch": torch_version}}
        (report / "metrics.json").write_text(json.dumps(metrics))
        os.utime(report / "metrics.json", (1.7e9, 1.7e9))
        if torch_version == "0.1":
            with pytest.raises(UserError, match="other versions"):
                demo.main()
    demo.main()
    page = results.PAGE.read_text()
    assert "runs/demo, order as given" in page and "Measured 2023-11-14" in page
    assert "python benchmarks/demo.py --report DIR --record" in page
