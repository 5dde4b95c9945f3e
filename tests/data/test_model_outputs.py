"""The answers of models, a file each -> battles between them."""

import json

import pandas as pd
import pytest

from lmsys_trl.data.model_outputs import pair_outputs, read_outputs
from lmsys_trl.errors import UserError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "response": "So."},
        {"instruction": "Why?", "output": "So."},  # alpaca_eval
        {"question": ["Why?"], "answer": ["So."]},
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"prompt": [{"role": "user", "content": "Why?"}], "output": [{"role": "assistant", "content": "So."}]},
    ],
)
def test_layouts(tmp_path, row):
    found = read_outputs(write(tmp_path / "llama.jsonl", [row, {**row, "id": 7}]))
    assert found.model == "llama" and found.ids == [None, "7"]
    assert [(turns.prompt, turns.response_a) for turns in found.turns] == [(["Why?"], ["So."])] * 2


def test_turns_systems_and_names(tmp_path):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."},
        {"role": "user", "content": "And?"}, {"role": "assistant", "content": "No \ud800."},
    ]  # fmt: skip
    (turns,) = read_outputs(write(tmp_path / "a.jsonl", [{"messages": messages, "generator": "gpt"}])).turns
    assert turns.prompt == ["Be brief.\n\nWhy?", "And?"] and turns.response_a == ["So.", "No \ufffd."]
    table = pd.DataFrame({"prompt": ['["Why?", "And?"]'], "output": ['["So.", "No."]'], "generator": ["gpt"]})
    table.to_csv(tmp_path / "b.csv", index=False)
    found = read_outputs(str(tmp_path / "b.csv"))
    assert found.model == "gpt" and found.turns[0].prompt == ["Why?", "And?"]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"text": "So."}], "has no column for the prompt, such as prompt"),
        ([{"text": "So."}], "has no column for the answer, such as output, response, answer. Its columns: text"),
        ([{"output": "So."}], "has no column for the prompt"),
        ([{"prompt": "Why?", "output": "So."}, {"prompt": "", "output": "So."}], "row 2: column prompt: empty"),
        ([{"prompt": "Why?", "output": "So."}, {"prompt": "Why?"}], "row 2: column output: missing"),
        ([{"prompt": ["1", "2"], "output": ["So."]}], "row 1: 2 prompts and 1 answers, which must be as many"),
        ([{"prompt": "1", "output": "2", "model": name} for name in "ab"], "holds answers of 2 models (a, b)"),
        ([], "has no rows"),
        ([{"prompt": "1", "output": "2", "model": ["x"]}], "row 1: column model: expected the name of a model, found"),
        (
            [{"prompt": "1", "output": "2"}] * 150 + [{"prompt": "1", "output": "2", "model": n} for n in "ab"],
            "2 models",
        ),
    ],
)
def test_mistakes(tmp_path, rows, problem):
    with pytest.raises(UserError) as error:
        read_outputs(write(tmp_path / "x.jsonl", rows))
    assert problem in str(error.value)


def test_files_that_are_not_json(tmp_path):
    (tmp_path / "x.jsonl").write_text("hello\nworld\n")
    with pytest.raises(UserError, match="row 1: not JSON"):
        read_outputs(tmp_path / "x.jsonl")


def test_names_ids_and_what_is_odd(tmp_path):
    """Names of files keep their dots; ids and names are cleaned; what is judged though it is empty is said."""
    first = [{"id": 1, "prompt": "1?", "output": ""}, {"id": 2, "prompt": "2? ", "output": "x"}]
    second = [{"id": 1.0, "prompt": "1?", "output": "y"}, {"id": "2.0", "prompt": " 2?", "output": "z"}]
    found = outputs(tmp_path, **{"gpt-4": first, "gpt-4.1": second})
    assert [one.model for one in found] == ["gpt-4", "gpt-4.1"]
    battles, notes = pair_outputs(found)
    assert [battle["id"] for battle in battles] == ["1: 0-1", "2: 0-1"]
    assert len(notes) == 1 and notes[0].endswith("1 of 2 answers are empty, and judged as such")
    (tmp_path / "odd.jsonl").write_bytes(
        b'{"prompt": "9?", "output": "caf\xe9", "model": "\\u001b[31mred\\n\\ud800"}\n'
    )
    odd = read_outputs(tmp_path / "odd.jsonl")
    assert odd.model == "[31mred \ufffd" and odd.turns[0].response_a == ["caf\ufffd"]
    assert "1 texts have bytes that are not UTF-8" in odd.notes[0]
    with pytest.raises(UserError, match="The first prompts are '1' in .* and '9[?]' in"):
        pair_outputs([found[0], odd])


def test_ids_of_battles_are_unique_whatever_models_are_called(tmp_path):
    rows = [{"prompt": "1?", "output": "x"}]
    names = ["a", "b - c", "a - b", "c"]
    battles, _ = pair_outputs([read_outputs(write(tmp_path / f"{k}.jsonl", [rows[0] | {"model": name}]))
                               for k, name in enumerate(names)])  # fmt: skip
    assert len({battle["id"] for battle in battles}) == 6


def test_many_mistakes_are_counted(tmp_path):
    rows = [{"prompt": "", "output": "So."}] * 50 + [{"prompt": "Why?", "output": "So."}]
    with pytest.raises(UserError) as error:
        read_outputs(write(tmp_path / "x.jsonl", rows))
    assert len(error.value.problems) == 6 and error.value.problems[-1].endswith("and 45 more")


def outputs(tmp_path, **files):
    return [read_outputs(write(tmp_path / f"{name}.jsonl", rows)) for name, rows in files.items()]


def test_prompts_are_joined_by_id_or_text(tmp_path):
    first = [{"id": k, "prompt": f"{k}?", "output": f"first {k}"} for k in range(3)]
    second = [{"id": k, "prompt": f"{k}?", "output": f"second {k}"} for k in (2, 1, 5)]
    battles, notes = pair_outputs(outputs(tmp_path, first=first, second=second))
    assert [battle["id"] for battle in battles] == ["1: 0-1", "2: 0-1"]
    assert battles[0] | {"vote": None} == {
        "id": "1: 0-1", "prompt": ["1?"], "response_a": ["first 1"], "response_b": ["second 1"],
        "model_a": "first", "model_b": "second", "vote": None,
    }  # fmt: skip
    assert notes == ["2 of 4 prompts were answered by one model only, and are not compared"]
    del first[0]["id"]  # one is enough for joining by text, in which white space does not count
    second[0]["prompt"] = " 2?\n"
    by_text, _ = pair_outputs(outputs(tmp_path, first=first, second=second))
    assert [battle["response_b"] for battle in by_text] == [["second 1"], ["second 2"]]


def test_each_pair_of_many_models_and_a_sample(tmp_path):
    rows = [{"prompt": f"{k}?", "output": "x"} for k in range(10)]
    found = outputs(tmp_path, a=rows, b=rows[:6], c=rows)
    battles, _ = pair_outputs(found)
    counts = pd.Series([(battle["model_a"], battle["model_b"]) for battle in battles]).value_counts().to_dict()
    assert counts == {("a", "c"): 10, ("a", "b"): 6, ("b", "c"): 6}
    sample, notes = pair_outputs(found, max_battles=7)
    assert len(sample) == 7 and all(battle in battles for battle in sample)
    assert notes[-1] == "7 of 22 pairs of answers are compared, a random sample"
    assert pair_outputs(found[::-1], max_battles=100)[1] == notes[:-1]


def test_files_that_do_not_fit(tmp_path):
    row = {"id": 1, "prompt": "Why?", "output": "So."}
    for files, problem in (
        ({"a": [row, row], "b": [row]}, "a.jsonl: row 2: an earlier row has the same id"),
        ({"a": [row], "b": [row | {"prompt": "How?"}]}, "b.jsonl: row 1: id 1 has another prompt in the file of a"),
        ({"a": [row], "b": [row | {"id": 2}]}, "no two files have answers to the same prompt"),
        ({"a": [row | {"model": "x"}], "b": [row | {"model": "x"}]}, "several files hold answers of x"),
    ):
        with pytest.raises(UserError) as error:
            pair_outputs(outputs(tmp_path, **files))
        assert problem in str(error.value)
