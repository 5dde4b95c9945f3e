"""Two answers are compared: on the command line, from files and standard input, and in Python."""

import json
import subprocess

import pytest
from helpers.models import build_base, build_judge
from helpers.run import REPOSITORY, programs, recipe

from lmsys_trl import Judge
from lmsys_trl.battle import WINNERS
from lmsys_trl.judging.compare import comparison_lines
from lmsys_trl.predictions.table import PROBABILITIES

QUESTION, SUM, REFUSAL = "What is 2 + 2?", "It is 4.", "I'm sorry, but I can't help with that."


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    build_judge(build_base(folder / "models" / "tiny"), folder / "judge")
    return folder


@pytest.fixture(scope="module")
def judge(project):
    return Judge.from_pretrained(project / "judge", str(project / "models" / "tiny"))


def test_probabilities_and_verdict_are_those_of_both_orders(judge):
    found = judge.compare(QUESTION, SUM, REFUSAL)
    assert found["ab"] == judge.predict(QUESTION, SUM, REFUSAL)
    assert found["mean"] == judge.predict(QUESTION, SUM, REFUSAL, tta="swap")
    other_way = judge.compare(QUESTION, REFUSAL, SUM)
    for order, swapped in (("ab", "ba"), ("ba", "ab")):
        a, b, tie = (other_way[swapped][name] for name in PROBABILITIES)
        assert list(found[order].values()) == pytest.approx([b, a, tie], abs=1e-5)
    best = {order: max(WINNERS, key=lambda winner: found[order][f"winner_{winner}"]) for order in ("ab", "ba", "mean")}
    assert found["verdict"] == best["mean"] and found["flips"] == (best["ab"] != best["ba"])
    assert found["turns_dropped"] == 0 and found["truncated"] == []


def test_what_was_not_read_is_said(judge):
    found = judge.compare(["One?"] * 2, ["x" * 400, "y" * 2000], ["z" * 400, "4"])
    assert found["turns_dropped"] == 1
    (text,) = found["truncated"]
    assert (text["name"], text["turn"]) == ("response_a", 2) and 100 < text["kept"] < 650
    lines = list(comparison_lines(found))
    assert lines[-2] == "Turns that were not read, since the conversation is too long: the first 1."
    assert lines[-1] == f"Of answer A in turn 2 only the first {text['kept']} tokens were read."


def test_texts_files_and_standard_input(project, judge):
    (project / "question.txt").write_text(QUESTION + "\n")  # as editors end a file
    options = ["--adapter", "judge", "--model_name_or_path", "models/tiny"]
    expected = list(comparison_lines(judge.compare(QUESTION, SUM, REFUSAL)))
    output = recipe("compare.py", *options, "--prompt", QUESTION, "--a", SUM, "--b", REFUSAL, cwd=project)
    assert "\n".join(expected) in output and expected[-1].startswith("Verdict: ")
    command = [programs() / "python", REPOSITORY / "recipes" / "compare.py", *options, "--json"]
    result = subprocess.run(
        [*command, "--prompt", "question.txt", "--a", SUM, "--b", "-"], cwd=project, input=REFUSAL + "\n",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(result.stdout)  # nothing else is written there
    for key, expected in judge.compare(QUESTION, SUM, REFUSAL).items():
        assert found[key] == (pytest.approx(expected) if isinstance(expected, dict) else expected)


def test_what_is_not_utf_8(project, judge):
    command = [
        programs() / "python",
        REPOSITORY / "recipes" / "compare.py",
        "--adapter",
        "judge",
        "--a",
        SUM,
        "--b",
        REFUSAL,
    ]
    result = subprocess.run([*command, "--prompt", "-"], cwd=project, input=b"caf\xe9", capture_output=True)
    assert result.returncode == 1 and b"prompt: standard input is not text in UTF-8" in result.stderr
    assert b"Traceback" not in result.stderr
    assert judge.predict("\ud800", "So.", "No.") == judge.predict("\ufffd", "So.", "No.")


def test_mistakes_are_reported_at_once(project):
    options = ["--adapter", "judge", "--prompt", QUESTION, "-", "--a", "-", "--b", REFUSAL]
    output = recipe("compare.py", *options, cwd=project, fails=True)
    assert "2 problems" in output and "have 2, 1 and 1 texts" in output and "can be one of the texts only" in output
    options = ["--adapter", "judge", "--prompt", QUESTION, "--a", "anser.txt", "--b", REFUSAL]
    assert "a: there is no file anser.txt" in recipe("compare.py", *options, cwd=project, fails=True)
    (project / "image.png").write_bytes(b"\x89PNG\xff")
    options = ["--adapter", "judge", "--prompt", QUESTION, "--a", "image.png", "--b", REFUSAL]
    output = recipe("compare.py", *options, cwd=project, fails=True)
    assert "a: image.png is not a text file in UTF-8" in output


def test_models_are_compared_from_their_files(project, judge):
    prompts = [f"What is {k} + {k}?" for k in range(12)]
    for name, answers in (("adder", [f"It is {2 * k}." for k in range(12)]), ("refuser", [REFUSAL] * 11)):
        rows = [{"instruction": prompt, "output": text} for prompt, text in zip(prompts, answers, strict=False)]
        (project / f"{name}.json").write_text(json.dumps(rows))
    options = ["--adapter", "judge", "--model_name_or_path", "models/tiny", "--outputs", "adder.json", "refuser.json"]
    output = recipe("compare.py", *options, "--output_dir", "reports/two", cwd=project)
    assert "1 of 12 prompts were answered by one model only" in output
    assert "11 battles of 2 models in both orders" in output and "minutes" in output
    figures = json.loads((project / "reports" / "two" / "comparison.json").read_text())
    (pair,) = figures["pairs"]
    points = [judge.predict(prompts[k], f"It is {2 * k}.", REFUSAL, tta="swap") for k in range(11)]
    expected = sum(p["winner_model_a"] + p["winner_tie"] / 2 for p in points) / 11
    assert pair["models"] == ["adder", "refuser"] and pair["win_rate"]["value"] == pytest.approx(expected, abs=1e-5)
    assert f"adder wins {expected:.1%}" in output and figures["configuration"]["adapter"] == "judge"
    assert sorted(path.name for path in (project / "reports" / "two").iterdir()) == [
        "comparison.json", "predictions.parquet", "report.html"
    ]  # fmt: skip
    again = recipe("compare.py", *options, "--output_dir", "reports/two", "--max_battles", 5, cwd=project, fails=True)
    assert "holds another comparison, made with other values of max_battles" in again
    sample = [*options, "--output_dir", "reports/two", "--max_battles", 5, "--overwrite"]
    assert "5 battles of 2 models" in recipe("compare.py", *sample, cwd=project)


def test_mistakes_of_comparing_models(project):
    for words, problem in (
        (["--outputs", "x.json"], "outputs: one file"),
        (["--outputs", "x.json", "y.json"], "output_dir: missing"),
        (["--outputs", "x.json", "y.json", "--output_dir", "r", "--prompt", "Why?"], "prompt: not with outputs"),
        (["--outputs", "x.json", "y.json", "--output_dir", "r"], "y.json: there is no such file"),
        (["--outputs", "x.json", "y.json", "--output_dir", "r", "--max_battles", 0], "max_battles: input should be"),
        (["--prompt", "Why?", "--a", "So."], "b: missing. Give prompt, a and b, or files as outputs"),
        (["--prompt", "Why?", "--a", "1", "--b", "2", "--output_dir", "r"], "only with outputs"),
    ):
        assert problem in recipe("compare.py", "--adapter", "judge", *words, cwd=project, fails=True)
    assert not (project / "r").exists() or not any((project / "r").iterdir())
    (project / "theirs").mkdir()
    (project / "theirs" / "comparison.json").write_text('{"price": 3}')
    options = ["--adapter", "judge", "--outputs", "x.json", "y.json", "--output_dir", "theirs", "--overwrite"]
    output = recipe("compare.py", *options, cwd=project, fails=True)
    assert "theirs is not a comparison, and its comparison.json would be replaced" in output
    assert (project / "theirs" / "comparison.json").read_text() == '{"price": 3}'
