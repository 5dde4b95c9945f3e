"""Invented files of votes in layouts that people have, and the value of each."""

import json

import pytest

from lmsys_trl.battle import vote_for
from lmsys_trl.data.ledger import Ledger
from lmsys_trl.data.rows import digest
from lmsys_trl.data.source import Source
from lmsys_trl.data.sources import read_battles, read_source


@pytest.fixture(scope="module")
def cases(assets):
    return assets / "cases"


def rows_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if text[0] == "[" else [json.loads(line) for line in text.splitlines()]


def texts(battle):
    return battle["prompt"], battle["response_a"], battle["response_b"]


def chosen_first(battle):
    """The texts of a preference row, with the chosen answer before the other."""
    flipped = digest(battle["id"].rpartition("-")[0]) % 2
    assert battle["vote"] == vote_for("model_b" if flipped else "model_a")
    sides = battle["response_a"], battle["response_b"]
    return battle["prompt"], *(sides[::-1] if flipped else sides)


def read(path, **settings):
    ledger = Ledger()
    return list(read_source(Source(str(path), **settings), ledger)), ledger


def test_answers_that_are_json_lists_are_texts(cases):
    right, _ = read_battles(cases / "wsdm_json_answers_right.jsonl")
    for lenient in (False, True):
        battles, changes = read_battles(cases / "wsdm_json_answers.csv", lenient)
        assert [texts(battle) for battle in battles] == [texts(battle) for battle in right] and not changes


def test_the_prompt_of_a_preference_pair(cases):
    for name, prompt_of in {
        "system_question_pairs.jsonl": lambda row: f"{row['system']}\n\n{row['question']}",
        "instruction_input_pairs.json": lambda row: "\n\n".join(filter(None, [row["instruction"], row["input"]])),
        "argilla_dpo.jsonl": lambda row: "\n\n".join(filter(None, [row["system"], row["input"]])),
    }.items():
        rows, (battles, ledger) = rows_of(cases / name), read(cases / name)
        expected = [([prompt_of(row)], [row["chosen"]], [row["rejected"]]) for row in rows]
        assert [chosen_first(battle) for battle in battles] == expected, name
        assert not ledger.removed
    assert ledger.unused["argilla_dpo"] == ["generations", "rating", "order"]


def test_messages_as_json_text(cases):
    battles, _ = read(cases / "messages_as_json_text.csv")
    assert chosen_first(battles[0]) == (
        ["Name three rivers of the moon town Arbel."],
        ["First, take the kettle, and then proceed calmly with item 0."],
        ["No idea, sorry (0)."],
    )
    with pytest.raises(ValueError, match="messages as Python writes them, which are not read. Write them as JSON"):
        read(cases / "messages_as_repr.csv")


@pytest.mark.parametrize("name", ["sharegpt_pairs.json", "sharegpt_pairs_lists.json"])
def test_sharegpt_pairs(cases, name):
    battles, _ = read(cases / name)
    for row, battle in zip(rows_of(cases / name), battles, strict=True):
        sides = [side if isinstance(side, dict) else side[0] for side in (row["chosen"], row["rejected"])]
        expected = ([row["conversations"][0]["value"]], *([side["value"]] for side in sides))
        assert chosen_first(battle) == expected


def test_the_arena_of_2025(cases):
    rows, (battles, ledger) = rows_of(cases / "arena2025.jsonl"), read(cases / "arena2025.jsonl")
    for row, battle in zip(rows, battles, strict=True):
        assert battle["id"] == row["id"] and battle["model_a"] == row["model_a"]
        assert battle["prompt"] == [row["conversation_a"][0]["content"][0]["text"]]
        assert battle["response_b"] == [row["conversation_b"][1]["content"][0]["text"]]
        assert battle["vote"] == vote_for({"both_bad": "tie"}.get(row["winner"], row["winner"]))
    assert ledger.changes["arena2025"]["votes for both_bad, read as tie"] > 0


def test_content_parts_with_images(cases):
    rows = rows_of(cases / "content_parts.jsonl")
    with_image = ["image" in json.dumps(row["prompt"]) for row in rows]
    battles, ledger = read(cases / "content_parts.jsonl")
    assert len(battles) == len(rows) - sum(with_image) and len(ledger.removed) == sum(with_image) > 0
    assert "a part is not text (set images: text" in ledger.removed[0]["reason"]
    battles, ledger = read(cases / "content_parts.jsonl", images="text")
    assert len(battles) == len(rows) and not ledger.removed
    assert ledger.changes["content_parts"]["parts of messages that are not text, left out"] == sum(with_image)
    assert battles[0]["prompt"] == ["Name three rivers of the moon town Arbel."]


def test_mt_bench_keeps_every_vote(cases):
    rows, (battles, _) = rows_of(cases / "mtbench_human.jsonl"), read(cases / "mtbench_human.jsonl")
    assert len(battles) == len(rows) == len({battle["id"] for battle in battles})
    for row, battle in zip(rows, battles, strict=True):
        assert battle["prompt"] == [message["content"] for message in row["conversation_a"][::2]][: row["turn"]]
        assert len(battle["response_b"]) == row["turn"] and battle["annotator"] == row["judge"]


def test_transcripts_lose_nothing(cases):
    rows, (battles, _) = rows_of(cases / "transcripts.jsonl"), read(cases / "transcripts.jsonl")
    for row, battle in zip(rows, battles, strict=True):
        prompt, chosen, rejected = chosen_first(battle)
        for answers, transcript in ((chosen, row["chosen"]), (rejected, row["rejected"])):
            turns = zip(prompt, answers, strict=True)
            assert "".join(f"\n\nHuman: {asked}\n\nAssistant: {said}" for asked, said in turns) == transcript


def test_a_python_list_in_kaggle_columns_is_refused(cases):
    for lenient in (False, True):
        with pytest.raises(ValueError, match="hold Python lists .* Write the lists as JSON, with json.dumps"):
            read_battles(cases / "lmsys_repr_lists.csv", lenient)


@pytest.mark.parametrize("name", ["lines.json", "columns.json"])
def test_other_writings_of_json(cases, name):
    battles, _ = read(cases / name)
    assert len(battles) == 24
    assert battles[0] == {
        "id": "0",
        "source": name.split(".")[0],
        "language": None,
        "model_a": None,
        "model_b": None,
        "prompt": ["Name three rivers of the moon town Arbel."],
        "response_a": ["First, take the kettle, and then proceed calmly with item 0."],
        "response_b": ["No idea, sorry (0)."],
        "vote": [1, 0, 0],
    }


def test_alpaca_eval_annotations(cases):
    rows = rows_of(cases / "alpaca_eval_annotations.json")
    battles, _ = read(cases / "alpaca_eval_annotations.json")
    for row, battle in zip(rows, battles, strict=True):
        assert texts(battle) == ([row["instruction"]], [row["output_1"]], [row["output_2"]])
        assert (battle["model_a"], battle["model_b"]) == (row["generator_1"], row["generator_2"])
        second = row["preference"] - 1
        assert battle["vote"] == pytest.approx([0, 0, 1] if second == 0.5 else [1 - second, second, 0])


def test_openai_preferences(cases):
    battles, _ = read(cases / "openai_preference.jsonl")
    for row, battle in zip(rows_of(cases / "openai_preference.jsonl"), battles, strict=True):
        asked = [message["content"] for message in row["input"]["messages"]]
        sides = (row["preferred_output"][0]["content"], row["non_preferred_output"][0]["content"])
        assert chosen_first(battle) == (asked, *([side] for side in sides))


def test_shp(cases):
    battles, _ = read(cases / "shp.jsonl")
    for row, battle in zip(rows_of(cases / "shp.jsonl"), battles, strict=True):
        assert texts(battle) == ([row["history"]], [row["human_ref_A"]], [row["human_ref_B"]])
        assert battle["vote"] == vote_for("model_a" if row["labels"] == 1 else "model_b")


def test_label_studio(cases):
    rows, (battles, _) = rows_of(cases / "label_studio.json"), read(cases / "label_studio.json")
    given = [
        (row["data"], annotation["result"][0]["value"]["selected"])
        for row in rows
        for annotation in row["annotations"]
        if annotation["result"]
    ]
    for (data, selected), battle in zip(given, battles, strict=True):
        assert texts(battle) == ([data["prompt"]], [data["answer1"]], [data["answer2"]])
        assert battle["vote"] == vote_for({"left": "model_a", "right": "model_b"}[selected])
