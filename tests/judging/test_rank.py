"""Candidates are ranked: against battles one by one, on the command line, and resumed."""

import json
import random
from itertools import pairwise

import pytest
from helpers.models import build_base, build_judge
from helpers.run import recipe
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl import Judge
from lmsys_trl.errors import UserError
from lmsys_trl.judging.rank import rank_candidates

PROMPTS = [
    {"id": "x", "prompt": "What is 2 + 2?", "responses": ["4", "It is 4.", "Five", "I can't help with that."]},
    {"id": "y", "prompt": ["Hi"], "responses": [["Hello"], ["Go away \ud800"], "Hi!"]},
    {"id": "z", "prompt": "Alone?", "responses": ["Yes"]},
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rank")
    build_judge(build_base(folder / "models" / "tiny"), folder / "judge")
    return folder


@pytest.fixture(scope="module")
def judge(project):
    return Judge.from_pretrained(project / "judge", str(project / "models" / "tiny"))


def points(judge, prompt, a, b):
    found = judge.predict(prompt, a, b, tta="swap")
    return found["winner_model_a"] + found["winner_tie"] / 2


def test_round_robin_is_the_mean_of_all_battles(judge):
    found = rank_candidates(judge, PROMPTS)
    for row, ranked in zip(PROMPTS, found, strict=True):
        answers, last = row["responses"], len(row["responses"]) - 1
        expected = [
            sum(points(judge, row["prompt"], own, other) for k, other in enumerate(answers) if k != i) / max(last, 1)
            for i, own in enumerate(answers)
        ]
        assert ranked["scores"] == pytest.approx(expected, abs=1e-5)
        assert ranked["ranking"] == sorted(range(len(answers)), key=lambda i: -ranked["scores"][i])
    assert judge.rank(PROMPTS[0]["prompt"], PROMPTS[0]["responses"])["ranking"] == found[0]["ranking"]


def test_knockout_plays_winners_against_winners(judge, monkeypatch):
    battles, predict = [], judge.predict_dataset

    def counted(rows, **options):
        battles.extend(rows)
        return predict(rows, **options)

    with monkeypatch.context() as patched:
        patched.setattr(judge, "predict_dataset", counted)
        found = rank_candidates(judge, PROMPTS, "knockout")
    assert len(battles) == sum(len(row["responses"]) - 1 for row in PROMPTS)
    row = PROMPTS[0]
    pairs = [(0, 1), (2, 3)]
    finalists = [
        a if points(judge, row["prompt"], *(row["responses"][k] for k in (a, b))) >= 0.5 else b for a, b in pairs
    ]
    best = finalists[points(judge, row["prompt"], *(row["responses"][k] for k in finalists)) < 0.5]
    assert found[0]["ranking"][0] == best and found[0]["scores"][best] == 2
    assert set(found[0]["ranking"][:2]) == set(finalists) and found[2]["ranking"] == [0]
    for row, together in zip(PROMPTS, found, strict=True):  # what one prompt gets does not depend on the others
        assert rank_candidates(judge, [row], "knockout")[0]["scores"] == pytest.approx(together["scores"], abs=1e-5)


@pytest.mark.parametrize("number", [2, 3, 5, 6, 7, 9, 13])
def test_the_winner_of_the_last_battle_is_first(judge, monkeypatch, number):
    """With any number of candidates, of whom some meet nobody in a round."""
    strength = [(k * 11) % number for k in range(number)]

    def play(judge, prompts, matches, options, number_of_round):
        return [0.9 if strength[a] > strength[b] else 0.2 for _, a, b in matches]

    monkeypatch.setattr("lmsys_trl.judging.rank._play", play)
    (found,) = rank_candidates(judge, [{"prompt": "Why?", "responses": ["x"] * number}], "knockout")
    assert strength[found["ranking"][0]] == number - 1 and sorted(found["ranking"]) == list(range(number))


@given(number=st.integers(2, 40), seed=st.integers(0, 99))
def test_nobody_rests_two_rounds_in_a_row(number, seed):
    draw, left, resting = random.Random(seed), set(range(number)), [set()]

    def play(judge, prompts, matches, options, number_of_round):
        points = [draw.random() for _ in matches]
        resting.append(left - {k for _, *pair in matches for k in pair})
        left.difference_update(b if won >= 0.5 else a for (_, a, b), won in zip(matches, points, strict=True))
        return points

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmsys_trl.judging.rank._play", play)
        rank_candidates(None, [{"prompt": "Why?", "responses": ["x"] * number}], "knockout")
    assert all(len(after) <= 1 and not before & after for before, after in pairwise(resting)) and len(left) == 1


def test_candidates_that_do_not_fit(judge):
    for prompts, method, problem in (
        ([{"prompt": "Why?", "responses": []}], "round_robin", "prompt 1: responses: expected a list of one or more"),
        ([{"prompt": "Why?", "responses": "So."}], "round_robin", "found 'So.'"),
        ([{"prompt": ["1", "2"], "responses": ["So.", "No."]}], "round_robin", "different numbers of turns"),
        (PROMPTS, "league", "method: expected round_robin or knockout"),
    ):
        with pytest.raises(UserError, match=problem.replace("(", r"\(")):
            rank_candidates(judge, prompts, method)


@pytest.mark.parametrize("method", ["round_robin", "knockout"])
def test_on_the_command_line(project, judge, method):
    (project / "candidates.jsonl").write_text("".join(json.dumps(row | {"note": 1}) + "\n" for row in PROMPTS))
    options = ["--adapter", "judge", "--model_name_or_path", "models/tiny", "--input_file", "candidates.jsonl"]
    output = recipe("rank.py", *options, "--output_file", "ranked.jsonl", "--method", method, cwd=project)
    assert "The candidates of 3 prompts are ranked" in output
    rows = [json.loads(line) for line in (project / "ranked.jsonl").read_text().splitlines()]
    expected = rank_candidates(judge, PROMPTS, method)
    for row, asked, found in zip(rows, PROMPTS, expected, strict=True):
        assert row["id"] == asked["id"] and row["note"] == 1 and row["ranking"] == found["ranking"]
        assert row["scores"] == pytest.approx(found["scores"], abs=1e-5)
    assert not (project / "ranked.jsonl.shards").exists()


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def test_what_rows_hold_besides_is_written_as_json(project):
    """With the values that Python reads and writes, but JSON does not have."""
    line = (
        '{"prompt": "\\ud800?", "responses": ["a", "b"], "x": NaN, "deep": {"\\udc00": [Infinity, "\\ud83d\\ude00"]}}'
    )
    (project / "odd.jsonl").write_text(line + "\n")
    options = ["--adapter", "judge", "--model_name_or_path", "models/tiny", "--input_file", "odd.jsonl"]
    recipe("rank.py", *options, "--output_file", "of-odd.jsonl", cwd=project)
    row = json.loads((project / "of-odd.jsonl").read_text(), parse_constant=refuse_constant)
    assert row["prompt"] == "\ufffd?" and row["x"] is None and row["deep"] == {"\ufffd": [None, "\U0001f600"]}
    recipe("rank.py", *options, "--output_file", "of-odd.jsonl", cwd=project)  # its own file is replaced
    (project / "mine.jsonl").write_text('{"note": 1}\n')
    output = recipe("rank.py", *options, "--output_file", "mine.jsonl", cwd=project, fails=True)
    assert (
        "mine.jsonl exists and holds no ranking" in output and (project / "mine.jsonl").read_text() == '{"note": 1}\n'
    )


def test_mistakes_on_the_command_line(project):
    rows = ['{"prompt": "Why?"}', '{"prompt": "", "responses": ["1"]}', "not json",
            '{"prompt": "Why?", "responses": ["1", 2]}', '{"prompt": "Why?", "responses": "[1]"}']  # fmt: skip
    (project / "bad.jsonl").write_text("\n".join(rows))
    options = ["--adapter", "judge", "--input_file", "bad.jsonl"]
    output = recipe("rank.py", *options, "--output_file", "x.jsonl", cwd=project, fails=True)
    for problem in (
        "row 1: there is no responses",
        "row 2: there is no prompt",
        "row 3: not JSON",
        "row 4: responses: expected texts",
        "row 5: responses: expected a list",
    ):
        assert problem in output
    output = recipe("rank.py", *options, "--output_file", "x.csv", cwd=project, fails=True)
    assert "expected a name that ends in .jsonl" in output
