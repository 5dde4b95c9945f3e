"""Layouts that exist, columns of one's own, and what is at the edges of a file."""

import gzip
import json
import math
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl.battle import vote_for
from lmsys_trl.data.ledger import Ledger
from lmsys_trl.data.source import Source, vote_key
from lmsys_trl.data.sources import read_battles, read_source
from lmsys_trl.errors import UserError

A, B, TIE = map(vote_for, ("model_a", "model_b", "tie"))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path, **settings):
    ledger = Ledger()
    return list(read_source(Source(str(path), **settings), ledger, max_broken_fraction=1)), ledger


def messages(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


SHOWN = (
    "<|User Prompt|>\np\n\n<|The Start of Assistant A's Answer|>\n{}\n<|The End of Assistant A's Answer|>\n\n"
    "<|The Start of Assistant B's Answer|>\n{}\n<|The End of Assistant B's Answer|>"
)
# A row of each layout -> the battles in it: prompt, answers, vote, and what else is known.
LAYOUTS = {
    "helpsteer3": (
        {"domain": "general", "language": "english", "context": messages("p", "said", "q"), "response1": "a",
         "response2": "b", "overall_preference": -2, "individual_preference": [{"score": -2}]},
        [(["p", "q"], ["said", "a"], ["said", "b"], A, {"language": "english"})],
    ),
    "pandalm": (
        {"idx": 0, "cmp_key": "x_y", "instruction": "p", "input": "q", "response1": "a", "response2": "b",
         "annotator1": 2, "annotator2": 0, "annotator3": 1},
        [
            (["p\n\nq"], ["a"], ["b"], B, {"id": "0-annotator1", "annotator": "annotator1"}),
            (["p\n\nq"], ["a"], ["b"], TIE, {"id": "0-annotator2", "annotator": "annotator2"}),
            (["p\n\nq"], ["a"], ["b"], A, {"id": "0-annotator3", "annotator": "annotator3"}),
        ],
    ),
    "pandalm without an input": (
        {"idx": 1, "instruction": "p", "input": float("nan"), "response1": "a", "response2": "b", "annotator1": 1},
        [(["p"], ["a"], ["b"], A, {"id": "1-annotator1"})],
    ),
    "arena_hard": (
        {"uid": "7", "model": "mine", "judge": "gpt", "games": [
            {"score": "A>>B", "judgment": "", "user_prompt": SHOWN.format("base", "my")},
            {"score": "B>A", "prompt": [{"role": "system", "content": "s"},
                                        {"role": "user", "content": SHOWN.format("my", "base")}]}]},
        [
            (["p"], ["base"], ["my"], A, {"model_a": "baseline", "model_b": "mine", "annotator": "gpt"}),
            (["p"], ["my"], ["base"], B, {"model_a": "mine", "model_b": "baseline"}),
        ],
    ),
    "alpaca_eval": (
        {"instruction": "p", "output_1": "a", "output_2": "b", "preference": 1.25, "annotator": "w"},
        [(["p"], ["a"], ["b"], [0.75, 0.25, 0], {"annotator": "w"})],
    ),
    "shp": (
        {"post_id": "x", "history": "p", "human_ref_A": "a", "human_ref_B": "b", "labels": 0},
        [(["p"], ["a"], ["b"], B, {"given_group": "x"})],
    ),
    "arena-human-preference-100k": (
        {"question_id": "9", "model_a": "x", "model_b": "y", "winner": "tie (bothbad)", "conversation_a":
         messages("p", "a"), "conversation_b": messages("p", "b"), "language": "English"},
        [(["p"], ["a"], ["b"], TIE, {"id": "9", "model_a": "x"})],
    ),
    "mt_bench": (
        {"question_id": 81, "model_a": "x", "model_b": "y", "winner": "model_b", "judge": "expert_0", "turn": 1,
         "conversation_a": messages("p", "a", "q", "c"), "conversation_b": messages("p", "b", "q", "d")},
        [(["p"], ["a"], ["b"], B, {"id": "81-x-y-df79a420-1", "annotator": "expert_0"})],
    ),
    "label_studio": (
        {"id": 3, "data": {"prompt": "p", "answer1": "a", "answer2": "b"}, "annotations": [
            {"result": [{"value": {"selected": "right"}}]}, {"result": []},
            {"result": [{"value": {"selected": "left"}}]}]},
        [(["p"], ["a"], ["b"], B, {"id": "3-1"}), (["p"], ["a"], ["b"], A, {"id": "3-3"})],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    row, expected = LAYOUTS[name]
    battles, ledger = read(write(tmp_path / "votes.jsonl", [row]))
    assert not ledger.removed, ledger.removed
    assert len(battles) == len(expected)
    for battle, (prompt, a, b, vote, known) in zip(battles, expected, strict=True):
        assert (battle["prompt"], battle["response_a"], battle["response_b"], battle["vote"]) == (prompt, a, b, vote)
        assert battle.items() >= known.items()
    lenient, _ = read_battles(tmp_path / "votes.jsonl", lenient=True)
    assert lenient == battles


PAIRS = {
    "UltraFeedback": (
        {"prompt": "p", "prompt_id": "x", "chosen": messages("p", "good"), "rejected": messages("p", "bad"),
         "messages": messages("p", "good"), "score_chosen": 8.0, "score_rejected": 3.0},
        (["p"], ["good"], ["bad"]),
    ),
    "ShareGPT with a system text": (
        {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "p"}],
         "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}},
        (["s\n\np"], ["good"], ["bad"]),
    ),
    "a transcript of several turns": (
        {"chosen": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant: well, yes",
         "rejected": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant: well, no"},
        (["p", "q"], ["a", "well, yes"], ["a", "well, no"]),
    ),
    "a transcript as the prompt": (
        {"prompt": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant:", "chosen": " good", "rejected": " bad"},
        (["p", "q"], ["a", " good"], ["a", " bad"]),
    ),
    "a question with a list": (
        {"question": "p", "chosen": ["good"], "rejected": ["bad"]},
        (["p"], ["good"], ["bad"]),
    ),
    "numbers": ({"prompt": 3, "chosen": 9, "rejected": 8.5}, (["3"], ["9"], ["8.5"])),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_preference_pairs(tmp_path, name):
    row, (prompt, good, bad) = PAIRS[name]
    (battle,), ledger = read(write(tmp_path / "pairs.jsonl", [row]))
    assert battle["prompt"] == prompt and not ledger.removed
    sides = battle["response_a"], battle["response_b"]
    assert (sides if battle["vote"] == A else sides[::-1]) == (good, bad)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "a", "rejected": "b", "topic": "t"}, "there is no prompt. Name its column with columns. "
         "Not used are topic"),
        ({"prompt": " ", "chosen": messages("", "a"), "rejected": messages("", "b")}, "there is no prompt"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "there is no prompt"),
        ({"prompt": "p", "chosen": {"role": "tool", "content": "a"}, "rejected": "b"}, "expected messages of user"),
        ({"prompt": "p", "chosen": [{"role": "assistant", "content": [{"type": "image"}]}], "rejected": "b"},
         "a part is not text"),
        ({"prompt": None, "chosen": {"a": [1]}, "rejected": 3}, "there is no prompt"),
    ],
)  # fmt: skip
def test_rows_that_are_no_pairs(tmp_path, row, reason):
    battles, ledger = read(write(tmp_path / "pairs.jsonl", [row]))
    assert not battles and reason in ledger.removed[0]["reason"]


OWN = {"question": "p", "answer_1": "a", "answer_2": "b", "preferred": "left", "who": "ann", "when": 5, "topic": "t"}
MAPPING = {"prompt": "question", "response_a": "answer_1", "response_b": "answer_2", "vote": "preferred"}
MEANINGS = {"left": "model_a", "right": "model_b", "same": "tie", "bad": "drop"}


def test_columns_of_ones_own(tmp_path):
    rows = [OWN | {"preferred": value} for value in ("left", "Right ", "same", "bad", "left")]
    path = write(tmp_path / "votes.jsonl", rows)
    columns = {**MAPPING, "annotator": "who", "group": "topic"}
    battles, ledger = read(path, columns=columns, votes=MEANINGS, keep=["when", "annotator"])
    assert [battle["vote"] for battle in battles] == [A, B, TIE, A]
    assert len({battle["id"] for battle in battles}) == 4  # votes on the same item are kept apart
    assert battles[0]["annotator"] == "ann" and battles[0]["given_group"] == "t"
    assert battles[0]["kept"] == {"when": "5", "annotator": "ann"}
    assert ledger.removed[0]["reason"] == "column preferred: 'bad', which votes says to drop"
    assert ledger.unused["votes"] == []
    _, ledger = read(path, columns=MAPPING, votes=MEANINGS)
    assert ledger.unused["votes"] == ["who", "when", "topic"]
    lenient = list(read_source(Source(str(path), columns=MAPPING, votes=MEANINGS), Ledger(), lenient=True))
    assert [battle["vote"] for battle in lenient] == [A, B, TIE, None, A]


def test_a_mapping_of_votes_reads_files_without_them_for_prediction(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("question,answer_1,answer_2\nWhy?,x,y\n")
    columns = {"prompt": "question", "response_a": "answer_1", "response_b": "answer_2", "vote": "preferred"}
    source = Source(str(path), columns=columns | {"annotator": "who", "group": "topic"}, votes={"left": "model_a"})
    (battle,) = read_source(source, Ledger(), lenient=True)
    assert (battle["prompt"], battle["response_b"], battle["vote"]) == (["Why?"], ["y"], None)
    with pytest.raises(UserError, match="there is no preferred for vote"):
        list(read_source(source, Ledger()))
    with pytest.raises(UserError, match="there is no answer_3 for response_b"):
        list(read_source(Source(str(path), columns=columns | {"response_b": "answer_3"}), Ledger(), lenient=True))


def test_votes_in_several_columns_and_in_lists(tmp_path):
    row = {"q": "p", "x": "a", "y": "b", "n": 4, "one": 1, "two": 2, "three": None, "all": [{"v": 0}, {"v": 1}]}
    path = write(tmp_path / "votes.jsonl", [row])
    columns = {"prompt": "q", "response_a": "x", "response_b": "y", "id": "n"}
    votes = {1: "model_a", 2: "model_b", 0: [0.25, 0.25, 0.5]}
    battles, _ = read(path, columns=columns | {"vote": ["one", "two", "three"]}, votes=votes)
    assert [(battle["id"], battle["vote"]) for battle in battles] == [("4-one", A), ("4-two", B)]
    battles, _ = read(path, columns=columns | {"vote": "all.*.v"}, votes=votes)
    assert [(battle["id"], battle["vote"]) for battle in battles] == [("4-1", [0.25, 0.25, 0.5]), ("4-2", A)]


def test_a_probability_and_fractions(tmp_path):
    rows = [{"q": "p", "x": "a", "y": "b", "pa": 0.7, "pb": 0.2}, {"q": "p", "x": "a", "y": "b", "pa": 2, "pb": 0.2}]
    path = write(tmp_path / "votes.jsonl", rows)
    columns = {"prompt": "q", "response_a": "x", "response_b": "y", "vote_a": "pa"}
    battles, ledger = read(path, columns=columns)
    assert battles[0]["vote"] == pytest.approx([0.7, 0.3, 0]) and "columns pa: expected" in ledger.removed[0]["reason"]
    battles, _ = read(path, columns=columns | {"vote_b": "pb"})
    assert battles[0]["vote"] == pytest.approx([0.7, 0.2, 0.1])


@pytest.mark.parametrize("named", [["vote_b"], ["vote_tie"], ["vote_a", "vote_tie"], ["vote_b", "vote_tie"]])
def test_fractions_are_not_read_as_those_of_others(tmp_path, named):
    texts = {"prompt": "q", "response_a": "x", "response_b": "y"}
    path = write(tmp_path / "votes.jsonl", [{"q": "p", "x": "a", "y": "b", **dict.fromkeys(named, 0.5)}])
    for columns in (texts, texts | {name: name for name in named}):
        with pytest.raises(UserError, match="alone: name vote_a, vote_a and vote_b, or all three"):
            read(path, columns=columns)


def test_a_vote_and_fractions_are_not_both_read(tmp_path):
    row = {"q": "p", "response_a": "a", "response_b": "b", "vote": "model_a", "vote_a": 0.3, "vote_b": 0.5}
    path = write(tmp_path / "votes.jsonl", [row])
    (battle,), ledger = read(path, columns={"prompt": "q"})
    assert battle["vote"] == A and ledger.unused["votes"] == ["vote_a", "vote_b"]
    with pytest.raises(UserError, match="vote and vote_a are both named"):
        read(path, columns={"prompt": "q", "vote": "vote", "vote_a": "vote_a"})


def test_answers_in_columns_named_like_models_are_no_models(tmp_path):
    path = write(tmp_path / "votes.jsonl", [{"prompt": "p", "model_a": "x", "model_b": "y", "vote": "tie"}])
    (battle,), _ = read(path, columns={"response_a": "model_a", "response_b": "model_b"})
    assert (battle["response_a"], battle["model_a"], battle["model_b"]) == (["x"], None, None)


def test_texts_in_parquet_may_be_bytes(tmp_path):
    row = {"prompt": "é", "response_a": "", "response_b": None, "winner": "tie"}
    columns = {name: pa.array([text and text.encode()], pa.binary()) for name, text in row.items()}
    columns["response_a"] = pa.array([b""], pa.large_binary())
    pq.write_table(pa.table(columns), tmp_path / "votes.parquet")
    (battle,), ledger = read(tmp_path / "votes.parquet")
    assert (battle["prompt"], battle["vote"]) == (["é"], TIE)
    assert not {name for name in ledger.changes["votes"] if "JSON" in name}


def test_dates_that_python_cannot_hold(tmp_path):
    columns = {name: ["x"] for name in ("prompt", "response_a", "response_b")} | {"winner": ["tie"]}
    columns["when"] = pa.array([10**18], pa.timestamp("us"))
    pq.write_table(pa.table(columns), tmp_path / "votes.parquet")
    with pytest.raises(UserError, match="date value out of range"):
        read(tmp_path / "votes.parquet")


def test_lists_of_turns_in_a_nested_place(tmp_path):
    row = {"data": {"q": '["p", "q"]', "x": '["a", "b"]', "y": '["c", "d"]'}, "vote": "tie"}
    columns = {"prompt": "data.q", "response_a": "data.x", "response_b": "data.y"}
    (battle,), _ = read(write(tmp_path / "votes.jsonl", [row]), columns=columns)
    assert battle["prompt"] == ["p", "q"]


def test_graded_preferences_and_a_known_format_with_other_meanings(tmp_path):
    path = write(tmp_path / "votes.jsonl", [LAYOUTS["helpsteer3"][0]])
    (battle,), _ = read(path, votes={"-2": [0.8, 0.2, 0.0]})
    assert battle["vote"] == [0.8, 0.2, 0.0]
    (battle,), _ = read(path, format="helpsteer3", columns={"response_a": "response2", "response_b": "response1"})
    assert battle["response_a"] == ["said", "b"]


def test_the_winner_may_be_the_name_of_a_model(tmp_path):
    rows = [{"prompt": "p", "response_a": "a", "response_b": "b", "model_a": "x", "model_b": "y", "winner": winner}
            for winner in ("y", "x", "tie", "z")]  # fmt: skip
    battles, ledger = read(write(tmp_path / "votes.jsonl", rows))
    assert [battle["vote"] for battle in battles] == [B, A, TIE]
    assert "column winner: expected one of" in ledger.removed[0]["reason"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "questoin"}, "columns: there is no questoin for prompt. Did you mean question?"),
        ({"prompt": "question"}, "columns: response_a is missing"),
        ({**MAPPING, "vote": "data.vote"}, "there is no data for vote"),
        ({key: MAPPING[key] for key in ("prompt", "response_a", "response_b")}, "columns: vote is missing"),
        ({"promt": "question"}, "there is no field promt. Did you mean prompt?"),
        ({"prompt": 3}, "prompt: expected the name of a column"),
        ({"response_a": ["x", "y"]}, "response_a: takes one column"),
        ({**MAPPING, "vote": ["preferred", "preferred"]}, "vote: names a column twice"),
        ({**MAPPING, "response_b": "answer_1"}, "response_a and response_b are both in answer_1"),
    ],
)
def test_mappings_that_do_not_fit(tmp_path, columns, message):
    path = write(tmp_path / "votes.jsonl", [OWN])
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        read(path, columns=columns, votes=MEANINGS)
    with pytest.raises(ValueError, match="keep: there is no column nothing"):
        read(path, columns=MAPPING, votes=MEANINGS, keep=["nothing"])


NESTED = {"task": {"q": "p"}, "outputs": [{"text": "a"}, {"text": "b"}], "vote": {"won": "left"}}
NESTED_MAPPING = {
    "prompt": "task.q", "response_a": "outputs.0.text", "response_b": "outputs.1.text", "vote": "vote.won",
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "path", "message"),
    [
        ("response_a", "outputs.0.txt", r"outputs.0.txt leads to nothing in the first 2 rows: outputs.0 has text"),
        ("response_b", "outputs.2.text", "outputs has 2 entries, numbered from 0. Say where response_b is"),
        ("prompt", "task.*.q", "Only a vote may be in several entries"),
        ("prompt", "task.q.text", "task.q has no names"),
        ("vote", "vote.winner", "vote has won. Say where vote is"),
        ("annotator", "vote.by", "vote has won. Say where annotator is"),
    ],
)
def test_paths_that_lead_to_nothing_are_refused(tmp_path, field, path, message):
    file = write(tmp_path / "votes.jsonl", [NESTED, NESTED | {"vote": None}])
    with pytest.raises(ValueError, match=message):
        read(file, columns=NESTED_MAPPING | {field: path}, votes=MEANINGS)
    battles, _ = read(file, columns=NESTED_MAPPING, votes=MEANINGS, blank_winner="tie")
    assert [battle["vote"] for battle in battles] == [A, TIE]


def test_fractions_may_be_what_spreadsheets_write_for_true(tmp_path):
    row = {"prompt": "p", "response_a": "a", "response_b": "b"}
    for votes in (("TRUE", "FALSE", "False"), (True, False, False), ("1", "0", "0")):
        path = write(tmp_path / "votes.jsonl", [row | dict(zip(("vote_a", "vote_b", "vote_tie"), votes, strict=True))])
        battles, _ = read(path, columns={"vote_a": "vote_a", "vote_b": "vote_b", "vote_tie": "vote_tie"})
        assert [battle["vote"] for battle in battles] == [A]
    for votes, expected in ((("True", "False"), A), (("False", "False"), TIE), ((False, True), B)):
        path = write(tmp_path / "votes.jsonl", [row | dict(zip(("vote_a", "vote_b"), votes, strict=True))])
        battles, _ = read(path, columns={"vote_a": "vote_a", "vote_b": "vote_b"})
        assert [battle["vote"] for battle in battles] == [expected]


@pytest.mark.parametrize("blank_winner", ["tie", "drop", None])
def test_a_file_in_which_all_votes_are_blank_has_no_votes(tmp_path, blank_winner):
    rows = [NESTED | {"vote": {"won": won}} for won in (None, "")]
    path = write(tmp_path / "votes.jsonl", rows)
    with pytest.raises(ValueError, match="all 2 votes are blank: vote.won holds none. Say where vote is with columns"):
        read(path, columns=NESTED_MAPPING, votes=MEANINGS, blank_winner=blank_winner)
    battles, _ = read_battles(Source(str(path), columns=NESTED_MAPPING, votes=MEANINGS), lenient=True)
    assert [battle["vote"] for battle in battles] == [None, None]


@pytest.mark.parametrize(
    ("columns", "votes"),
    [
        (["prompt=q", "vote=x,y"], ["a=b=tie", "l=0.5,0.5,0"]),
        (["prompt=q", "vote=[x,y]"], ["a=b=tie", "l=[0.5, 0.5, 0]"]),
        (['{"prompt": "q", "vote": ["x", "y"]}'], ['{"a=b": "tie", "l": [0.5, 0.5, 0]}']),
    ],
)
def test_mappings_on_a_command_line(columns, votes):
    source = Source("votes.csv", columns=columns, votes=votes)
    assert source.columns == {"prompt": "q", "vote": ["x", "y"]}
    assert source.votes == {"a=b": "tie", "l": [0.5, 0.5, 0]}
    with pytest.raises(ValueError, match="not JSON"):
        Source("votes.csv", columns=['{"prompt": "q"'])


@pytest.mark.parametrize(
    "votes", [{"left": "A"}, {"left": [0.5, 0.6, 0]}, {"left": [1, 0]}, {"left": None}, {"left": [math.nan, 0, 1]}]
)
def test_meanings_that_make_no_sense(votes):
    with pytest.raises(ValueError, match="left: expected"):
        Source("votes.csv", votes=votes)


def test_words_that_yaml_reads_as_true(tmp_path):
    path = write(tmp_path / "votes.jsonl", [OWN | {"preferred": value} for value in ("yes", True, "No")])
    battles, _ = read(path, columns=MAPPING, votes={True: "model_a", False: "model_b"})
    assert [battle["vote"] for battle in battles] == [A, A, B]


@given(st.integers(-(10**6), 10**6))
def test_numbers_are_the_same_however_they_are_written(number):
    assert vote_key(number) == vote_key(float(number)) == vote_key(f" {number}.0") == vote_key(str(number))
    assert vote_key(number + 0.5) == vote_key(f"{number + 0.5}0") == vote_key(Decimal(f"{number + 0.5}00"))


names = st.text(st.characters(exclude_characters=".*", exclude_categories=("Cs",)), min_size=1, max_size=6)
paths = st.lists(names | st.integers(0, 2).map(str), min_size=1, max_size=4).filter(
    lambda steps: not steps[0].isdecimal()
)


@given(data=st.data(), steps=st.lists(paths, min_size=4, max_size=4, unique_by=lambda steps: steps[0]),
       order=st.permutations(range(4)), rows=st.permutations(range(3)))  # fmt: skip
def test_any_nesting_and_any_order(tmp_path_factory, data, steps, order, rows):
    def nest(path, value):
        for step in reversed(path[1:]):
            value = [None] * int(step) + [value] if step.isdecimal() and len(step) == 1 else {step: value}
        return {path[0]: value}

    contents = [[f"p{i}", f"a{i}", f"b{i}", ("left", "right", "same")[i]] for i in range(3)]
    written = []
    for i in rows:
        cells = [nest(steps[k], contents[i][k]) for k in order]
        written.append({key: value for cell in cells for key, value in cell.items()})
    path = write(tmp_path_factory.mktemp("nested") / "votes.jsonl", written)
    columns = dict(zip(MAPPING, (".".join(path) for path in steps), strict=True))
    battles, _ = read(path, columns=columns, votes=MEANINGS)
    expected = [([f"p{i}"], [f"a{i}"], [f"b{i}"], (A, B, TIE)[i]) for i in rows]
    assert [(b["prompt"], b["response_a"], b["response_b"], b["vote"]) for b in battles] == expected


WSDM = {"id": "1", "prompt": "p", "response_a": "a", "response_b": "b", "winner": "tie"}


def test_ids_are_exact(tmp_path):
    big = 123456789012345678
    for ids, expected in {
        (1.0, 2.0): ["1", "2"],
        (big, big + 1): [str(big), str(big + 1)],
        (b"a", "é".encode()): ["a", "é"],
    }.items():
        pd.DataFrame([WSDM | {"id": value} for value in ids]).to_parquet(tmp_path / "votes.parquet")
        battles, _ = read(tmp_path / "votes.parquet")
        assert [battle["id"] for battle in battles] == expected
    _, ledger = read(write(tmp_path / "votes.jsonl", [WSDM | {"id": 1.2345678901234568e17}]))
    assert "a number that has lost its last digits" in ledger.removed[0]["reason"]


@pytest.mark.parametrize(
    "change",
    [{"prompt": []}, {"winner": int("9" * 4000)}, {"winner": {"a": 1}}, {"prompt": {"role": 3, "content": "x"}},
     {"response_a": [{"type": "text"}]}, {"prompt": [["x"]]}, {"id": {"a": 1}}, {"winner": [1, 0, float("nan")]}],
)  # fmt: skip
def test_whatever_is_in_a_row_is_a_row(tmp_path, change):
    battles, ledger = read(write(tmp_path / "votes.jsonl", [WSDM | {"id": "0"}, WSDM | change]))
    assert battles[0]["id"] == "0" and len(battles) + len(ledger.removed) == 2
    assert all("Error" not in entry["reason"] for entry in ledger.removed)


def test_columns_that_occur_twice_are_refused(tmp_path):
    (tmp_path / "votes.csv").write_text("id,prompt,response_a,response_b,winner,prompt\n1,p,a,b,tie,q\n")
    with pytest.raises(ValueError, match="columns: prompt occur twice. Rename one"):
        read(tmp_path / "votes.csv")


def test_a_compressed_file_that_becomes_too_large(tmp_path):
    for name in ("votes.csv.gz", "votes.jsonl.gz", "votes.json.gz", "votes.parquet.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"\0" * 3_000_000))
        with pytest.raises(ValueError, match=f"{name}: is compressed, and larger than 0.001 GB .*Set max_size_gb"):
            read(tmp_path / name, max_size_gb=0.001)
    rows = "".join(json.dumps(WSDM | {"id": str(i)}) + "\n" for i in range(100))
    (tmp_path / "votes.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    assert len(read(tmp_path / "votes.jsonl.gz")[0]) == 100


@pytest.mark.parametrize("depth", [120, 450, 5000])
def test_deep_rows_are_refused_by_the_limit_in_the_message(depth, tmp_path):
    deep = json.dumps(WSDM | {"id": "1", "extra": "deep"}).replace('"deep"', "[" * depth + "]" * depth)
    (tmp_path / "votes.jsonl").write_text(f"{json.dumps(WSDM | {'id': '0'})}\n{deep}\n")
    battles, ledger = read(tmp_path / "votes.jsonl")
    reason = "nested more than 100 levels, see max_nesting" if depth < 1000 else "not JSON"
    assert len(battles) == 1 and [entry["reason"] for entry in ledger.removed] == [reason]
    assert len(read(tmp_path / "votes.jsonl", max_nesting=500)[0]) == (2 if depth < 1000 else 1)
