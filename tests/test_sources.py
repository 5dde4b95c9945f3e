import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl.sources import read_kaggle_csv

HEADER = ["id", "model_a", "model_b", "prompt", "response_a", "response_b"]
WINNERS = ["winner_model_a", "winner_model_b", "winner_tie"]


def write(path, *rows, header=(*HEADER, *WINNERS)):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def row(id="1", prompt='["p"]', a='["a"]', b='["b"]', votes=(1, 0, 0)):
    return [id, "x", "y", prompt, a, b, *votes]


def read_one(tmp_path, **cells):
    (battle,), changes = read_kaggle_csv(write(tmp_path / "votes.csv", row(**cells)))
    return battle, changes


def test_a_battle(tmp_path):
    battle, changes = read_one(
        tmp_path, id="007", prompt='["p", "q"]', a='["a", "b"]', b='["c", "d"]', votes=(0, 0, 1)
    )
    assert battle == {
        "id": "007",
        "source": "votes",
        "model_a": "x",
        "model_b": "y",
        "prompt": ["p", "q"],
        "response_a": ["a", "b"],
        "response_b": ["c", "d"],
        "winner": "tie",
    }
    assert not changes


@pytest.mark.parametrize(
    ("cell", "turns", "num_changes"),
    [
        ("[null]", [None], 0),
        ('["a", null]', ["a", None], 0),
        ('[""]', [""], 0),
        ("[]", [None], 1),
        ("[true]", ["true"], 1),
        ("[1.50]", ["1.5"], 1),
        ('[{"k": ["é"]}]', ['{"k": ["é"]}'], 1),
        (r'["\/ \u00e9 \ud83d\ude00 \r\n"]', ["/ é 😀 \r\n"], 0),
        (r'["a\ud83d", "\ude00"]', ["a\ufffd", "\ufffd"], 2),
        (json.dumps(["x" * 200_000]), ["x" * 200_000], 0),
    ],
)
def test_turns(tmp_path, cell, turns, num_changes):
    prompt = json.dumps(["p"] * len(turns))
    battle, changes = read_one(tmp_path, prompt=prompt, a=cell, b=prompt)
    assert battle["response_a"] == turns
    assert sum(changes.values()) == num_changes


@given(turns=st.lists(st.none() | st.text(), min_size=1, max_size=4))
def test_any_text_survives(tmp_path_factory, turns):
    cell = json.dumps(turns)
    path = write(tmp_path_factory.mktemp("any") / "votes.csv", row(prompt=cell, a=cell, b=cell))
    (battle,), _ = read_kaggle_csv(path)
    surrogates = dict.fromkeys(range(55296, 57344), "�")
    assert battle["prompt"] == [turn if turn is None else turn.translate(surrogates) for turn in turns]


def test_bytes_that_are_not_utf8_are_replaced(tmp_path):
    path = write(tmp_path / "votes.csv", row())
    path.write_bytes(path.read_bytes().replace(b'""p""', b'""\xff\xfe""'))
    (battle,), changes = read_kaggle_csv(path)
    assert battle["prompt"] == ["\ufffd\ufffd"]
    assert sum(changes.values()) == 2


def test_all_bad_rows_are_counted_and_the_first_shown_by_row_and_column(tmp_path):
    bad = [
        row(id="1", prompt="not json"),
        row(id="2"),
        row(id="3", a='["a", "b"]'),
        row(id="4", votes=(1, 1, 0)),
        row(id="5", votes=(0, 0, 0)),
        row(id="2"),
        row(id="6", b='{"a": 1}'),
        ["7", "x"],
    ]
    with pytest.raises(ValueError) as caught:
        read_kaggle_csv(write(tmp_path / "votes.csv", *bad))
    message = str(caught.value)
    assert "votes.csv: 8 errors in 8 rows" in message
    assert "row 1 (id 1), column prompt: expected a JSON list with one text a turn, found 'not json'" in message
    assert "row 3 (id 3), column prompt: 1 turns where another column has 2" in message
    assert "row 4 (id 4), columns winner_model_a, winner_model_b, winner_tie: expected one 1" in message
    assert "and 3 more" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "column"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a CSV"),
        (b"id,prompt\n1,2\n", "columns response_a, response_b, winner_model_a"),
        (b'id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n1,"a"b,c\n', "not a CSV file"),
        (b"id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n", "no rows"),
    ],
)
def test_files_that_are_no_votes(tmp_path, content, message):
    (tmp_path / "votes.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_kaggle_csv(tmp_path / "votes.csv")
    with pytest.raises(ValueError, match="no such file"):
        read_kaggle_csv(tmp_path / "other.csv")


def test_patience_keeps_every_id(tmp_path):
    path = write(
        tmp_path / "test.csv",
        ["1", "not json", '["a"]', '["b"]'],
        ["2", '["p", "q"]', '["a"]', "[]"],
        ["3", "[null]", "[null]", "[null]"],
        header=["id", "prompt", "response_a", "response_b"],
    )
    battles, changes = read_kaggle_csv(path, patient=True)
    assert [battle["id"] for battle in battles] == ["1", "2", "3"]
    assert battles[0]["prompt"] == ["not json"]
    assert battles[1]["response_a"] == ["a", ""] and battles[1]["response_b"] == [None, ""]
    assert changes["missing turns, filled with empty text"] == 2
    assert all(battle["winner"] is None for battle in battles)


@pytest.mark.parametrize(
    ("name", "num_battles"),
    [("arena_first100", 100), ("mt_bench_human", 3355), ("tulu_human_eval", 1150), ("pandalm_votes", 2997)],
)
def test_real_votes(assets, name, num_battles):
    battles, _ = read_kaggle_csv(assets / "data" / f"{name}.csv")
    assert len(battles) == num_battles
    battles, _ = read_kaggle_csv(assets / "data" / "arena_test3.csv", patient=True)
    assert len(battles) == 3
