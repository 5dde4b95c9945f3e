"""Mappings of columns that are guessed."""

import csv
import json

import pytest

from lmsys_trl.battle import vote_for
from lmsys_trl.data.ledger import Ledger
from lmsys_trl.data.source import Source
from lmsys_trl.data.sources import read_source
from lmsys_trl.data.suggest import describe, suggest

QUESTIONS = ["Why is the sky blue?", "What is 17 times 23?", "Name three herbs.", "Who wrote Emma?"]
GOOD, BAD = "A longer answer that explains every step of it.", "No idea, sorry."

# Columns of a file -> its rows, the fields that must be found, and the votes of the four rows.
FILES = {
    "a user's own": (
        [
            {"question": q, "answer_1": GOOD, "answer_2": BAD, "preferred": v, "annotator": a, "timestamp": 1700000000}
            for q, v, a in zip(QUESTIONS, ["left", "right", "same", "left"], "xyxy", strict=True)
        ],
        {"prompt": "question", "response_a": "answer_1", "response_b": "answer_2", "vote": "preferred",
         "annotator": "annotator"},
        ["model_a", "model_b", "tie", "model_a"],
    ),
    "letters": (
        [
            {"uid": f"u{i}", "query": q, "outputA": GOOD, "outputB": BAD, "verdict": v}
            for i, (q, v) in enumerate(zip(QUESTIONS, "ABBC", strict=True))
        ],
        {"prompt": "query", "response_a": "outputA", "response_b": "outputB", "vote": "verdict", "id": "uid"},
        ["model_a", "model_b", "model_b", "tie"],
    ),
    "names of models": (
        [
            {"instruction": q, "generator_1": "fern", "generator_2": "moss", "text_1": GOOD, "text_2": BAD, "best": b}
            for q, b in zip(QUESTIONS, ["fern", "moss", "fern", "tie"], strict=True)
        ],
        {"prompt": "instruction", "response_a": "text_1", "response_b": "text_2", "vote": "best",
         "model_a": "generator_1", "model_b": "generator_2"},
        ["model_a", "model_b", "model_a", "tie"],
    ),
    "signs": (
        [
            {"context": q, "reply_left": GOOD, "reply_right": BAD, "overall_preference": v}
            for q, v in zip(QUESTIONS, [-2, 0, 3, -1], strict=True)
        ],
        {"prompt": "context", "response_a": "reply_left", "response_b": "reply_right", "vote": "overall_preference"},
        ["model_a", "tie", "model_b", "model_a"],
    ),
    "nested": (
        [
            {"task": {"id": i, "prompt": q}, "answers": {"first": GOOD, "second": BAD}, "vote": {"winner": v}}
            for i, (q, v) in enumerate(zip(QUESTIONS, ["first", "second", "both", "first"], strict=True))
        ],
        {"prompt": "task.prompt", "response_a": "answers.first", "response_b": "answers.second", "vote": "vote.winner",
         "id": "task.id"},
        ["model_a", "model_b", "tie", "model_a"],
    ),
    "a winner and a loser": (
        [{"user_message": q, "better_answer": GOOD, "worse_answer": BAD} for q in QUESTIONS],
        {"prompt": "user_message", "chosen": "better_answer", "rejected": "worse_answer"},
        None,
    ),
    "the names of the columns": (
        [
            {"input": q, "system_x": GOOD, "system_y": BAD, "choice": v, "rater": "r1"}
            for q, v in zip(QUESTIONS, ["system_x", "system_y", "tie", "system_y"], strict=True)
        ],
        {"prompt": "input", "response_a": "system_x", "response_b": "system_y", "vote": "choice",
         "annotator": "rater"},
        ["model_a", "model_b", "tie", "model_b"],
    ),
    "conversations": (
        [
            {
                "dialog_1": [{"role": "user", "content": q}, {"role": "assistant", "content": GOOD}],
                "dialog_2": [{"role": "user", "content": q}, {"role": "assistant", "content": BAD}],
                "label": v,
            }
            for q, v in zip(QUESTIONS, ["1", "2", "tie", "1"], strict=True)
        ],
        {"conversation_a": "dialog_1", "conversation_b": "dialog_2", "vote": "label"},
        ["model_a", "model_b", "tie", "model_a"],
    ),
    "words": (
        [
            {"prompt_text": q, "Response A": GOOD, "Response B": BAD, "Which is better?": v}
            for q, v in zip(QUESTIONS, ["Response A", "Response B", "Equal", "A is better"], strict=True)
        ],
        {"prompt": "prompt_text", "response_a": "Response A", "response_b": "Response B", "vote": "Which is better?"},
        ["model_a", "model_b", "tie", "model_a"],
    ),
    "zero and one": (
        [
            {"question": q, "ours": GOOD, "theirs": BAD, "label": v, "topic": t}
            for q, v, t in zip(QUESTIONS, [1, 0, 0, 1], "aabb", strict=True)
        ],
        {"prompt": "question", "response_a": "ours", "response_b": "theirs", "vote": "label", "group": "topic"},
        ["model_a", "model_b", "model_b", "model_a"],
    ),
    "names of the answers with numbers from zero": (
        [
            {"question": q, "candidate_0": GOOD, "candidate_1": BAD, "label": v}
            for q, v in zip(QUESTIONS, [0, 1, 1, 0], strict=True)
        ],
        {"prompt": "question", "response_a": "candidate_0", "response_b": "candidate_1", "vote": "label"},
        ["model_a", "model_b", "model_b", "model_a"],
    ),
    "a scale": (
        [
            {"question": q, "answer_1": GOOD, "answer_2": BAD, "preference": v, "confidence": c}
            for q, v, c in zip(QUESTIONS, [1, 4, 7, 3], [1, 2, 3, 5], strict=True)
        ],
        {"prompt": "question", "response_a": "answer_1", "response_b": "answer_2", "vote": "preference"},
        ["model_a", "tie", "model_b", "model_a"],
    ),
    "symbols, and another name of the prompt": (
        [{"Frage": q, "A": GOOD, "B": BAD, "verdict": v}
         for q, v in zip(QUESTIONS, ["A>>B", "B>A", "A=B", "B<A"], strict=True)],
        {"prompt": "Frage", "response_a": "A", "response_b": "B", "vote": "verdict"},
        ["model_a", "model_b", "tie", "model_a"],
    ),
    "messages": (
        [
            {"messages": [{"role": "user", "content": q}], "completion_a": GOOD, "completion_b": BAD, "choice": v}
            for q, v in zip(QUESTIONS, ["A", "B", "No preference", "A"], strict=True)
        ],
        {"prompt": "messages", "response_a": "completion_a", "response_b": "completion_b", "vote": "choice"},
        ["model_a", "model_b", "tie", "model_a"],
    ),
    "Label Studio with choices": (
        [
            {"data": {"question": q, "text_a": GOOD, "text_b": BAD},
             "annotations": [{"completed_by": i % 2 + 1, "result": [{"value": {"choices": [v]}}]}]}
            for i, (q, v) in enumerate(zip(QUESTIONS, ["Answer A", "Answer B", "Tie", "Answer A"], strict=True))
        ],
        {"prompt": "data.question", "response_a": "data.text_a", "response_b": "data.text_b",
         "vote": "annotations.0.result.0.value.choices.0"},
        ["model_a", "model_b", "tie", "model_a"],
    ),
}  # fmt: skip
UNSURE = (
    "signs", "zero and one", "conversations", "names of the answers with numbers from zero", "a scale",
    "symbols, and another name of the prompt",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_guess_is_right(tmp_path, name):
    rows, expected, votes = FILES[name]
    columns, meanings, doubts = suggest(rows)
    assert columns == expected
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    battles = list(read_source(Source(str(path), columns=columns, votes=meanings or None), Ledger()))
    assert [battle["prompt"] for battle in battles] == [[question] for question in QUESTIONS]
    if votes is not None:
        assert [battle["vote"] for battle in battles] == [vote_for(vote) for vote in votes]
    assert bool(doubts) == (name in UNSURE)


def test_what_cannot_be_guessed_is_said(tmp_path):
    rows = FILES["a user's own"][0]
    values = ["left", "right", "bad", "bad"]
    _, votes, doubts = suggest([row | {"preferred": value} for row, value in zip(rows, values, strict=True)])
    assert votes["bad"] == "drop" and "what bad means is not known" in doubts[0]
    columns, _, doubts = suggest([{"foo": "x" * 50, "bar": "y"}] * 3)
    assert not columns and len(doubts) == 3


def test_values_that_are_nearly_numbers():
    rows = FILES["a user's own"][0]
    for values in (["--1", "1", "2", "1"], ["01", "1", "2", "2"]):
        suggested = suggest([row | {"preferred": value} for row, value in zip(rows, values, strict=True)])[1]
        assert {1: "model_a", 2: "model_b"}.items() <= suggested.items() and values[0] in suggested


def test_conversations_as_json_text_and_a_path_with_spaces(tmp_path):
    rows = [
        {f"conv_{mark}": json.dumps([{"role": "user", "content": q}, {"role": "assistant", "content": text}])
         for mark, text in (("a", GOOD), ("b", BAD))} | {"vote": vote}
        for q, vote in zip(QUESTIONS, "abab", strict=True)
    ]  # fmt: skip
    path = tmp_path / "my votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = describe(str(path))
    assert "conversation_a: conv_a" in shown and f"--sources '{path}'" in shown and "cannot be read" not in shown


@pytest.mark.parametrize(
    "names", [("rank_1", "rank_2", "n"), ("votes_1", "votes_2", "votes_tie"), ("score_a", "score_b", "model")]
)
def test_a_number_for_each_answer_is_never_the_vote(names):
    rows = [{"question": q, "answer_1": GOOD, "answer_2": BAD} for q in QUESTIONS]
    cells = [(1, 2, "x1"), (2, 1, "x2"), (1, 1, "x1"), (2, 1, "x2")]
    cells = [(one, two, one - 1 if names[2] == "votes_tie" else other) for one, two, other in cells]
    columns, _, doubts = suggest(
        [row | dict(zip(names, given, strict=True)) for row, given in zip(rows, cells, strict=True)]
    )
    assert "vote" not in columns and "no column looks like the vote" in doubts[0]


def test_columns_of_a_voter_each_and_several_entries_are_several_votes():
    rows = [{"question": q, "answer_1": GOOD, "answer_2": BAD, "rater_1": "1", "rater_2": v, "rater_3": "tie"}
            for q, v in zip(QUESTIONS, ["1", "2", "tie", "2"], strict=True)]  # fmt: skip
    columns, votes, _ = suggest(rows)
    assert columns["vote"] == ["rater_1", "rater_2", "rater_3"] and "annotator" not in columns
    assert votes == {1: "model_a", 2: "model_b", "tie": "tie"}
    rows = [row | {"annotations": row["annotations"] * 2} for row in FILES["Label Studio with choices"][0]]
    assert suggest(rows)[0]["vote"] == "annotations.*.result.0.value.choices.0"


def test_where_only_the_column_of_ties_is_missing():
    rows = [{"question": q, "answer_1": GOOD, "answer_2": BAD, "winner_model_a": a, "winner_model_b": b}
            for q, a, b in zip(QUESTIONS, [1, 0, 0, 1], [0, 1, 0, 0], strict=True)]  # fmt: skip
    columns, votes, doubts = suggest(rows)
    assert (columns["vote_a"], columns["vote_b"]) == ("winner_model_a", "winner_model_b") and not votes and not doubts


def test_a_probability_and_an_object_around_the_rows():
    rows = [{"question": q, "answer_1": GOOD, "answer_2": BAD, "p_a": p, "temperature": 0.7}
            for q, p in zip(QUESTIONS, [0.1, 0.55, 0.7, 0.9], strict=True)]  # fmt: skip
    columns, _, doubts = suggest(rows)
    assert columns["vote_a"] == "p_a" and "probability that response_a is better" in doubts[0]
    assert "vote_a" not in suggest([{**row, "p_right": row["p_a"], "p_a": None} for row in rows])[0]
    assert "write the list in items to a file" in suggest([{"version": 1, "items": rows}])[2][0]


def test_a_format_whose_paths_lead_to_nothing_gets_a_guess(tmp_path):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(FILES["Label Studio with choices"][0]))
    assert "response_a: data.text_a" in describe(str(path))


def test_who_voted_is_never_the_vote():
    rows = [
        {"question": q, "answer_1": GOOD, "answer_2": BAD, "annotator": a, "preferred": p}
        for q, a, p in zip(QUESTIONS, "xyxy", [0.1, 0.55, 0.7, 0.9], strict=True)
    ]
    columns, _, doubts = suggest(rows)
    assert columns.get("annotator") == "annotator" and columns.get("vote") != "annotator"
    assert "vote" in columns or "no column looks like the vote" in " ".join(doubts)


def test_a_table_with_other_delimiters(tmp_path):
    rows, expected, _ = FILES["letters"]
    for name, delimiter in (("votes.csv", ";"), ("votes.csv", "\t"), ("votes.tsv", "\t"), ("votes.csv", "|")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        source = Source(str(tmp_path / name), columns=expected, votes={"a": "model_a", "b": "model_b", "c": "tie"})
        assert [battle["id"] for battle in read_source(source, Ledger())] == ["u0", "u1", "u2", "u3"]


def test_columns_of_the_competition_are_nothing_else():
    row = {"id": "1", "model_a": "fern", "model_b": "moss", "prompt": '["Hi"]', "response_a": '["Hello there"]',
           "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}  # fmt: skip
    columns, _, doubts = suggest([row])
    assert {"response_a", "response_b"}.isdisjoint(columns) and columns["model_a"] == "model_a"
    assert "no two columns look like the two answers: name response_a and response_b" in doubts
    assert suggest([row | {"response_b": '["Hey"]'}])[0]["response_a"] == "response_a"
