"""Every format in every container, valid and broken."""

import csv
import gzip
import json
import zipfile

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl.battle import vote_for, winner_of
from lmsys_trl.data.ledger import Ledger
from lmsys_trl.data.rows import digest
from lmsys_trl.data.source import Source
from lmsys_trl.data.sources import read_battles, read_source
from lmsys_trl.data.texts import NOT_UTF8

HEADER = ["id", "model_a", "model_b", "prompt", "response_a", "response_b"]
WINNERS = ["winner_model_a", "winner_model_b", "winner_tie"]
USER, ASSISTANT = ({"role": role, "content": text} for role, text in (("user", "p"), ("assistant", "a")))


def write(path, *rows, header=(*HEADER, *WINNERS)):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(id="1", prompt='["p"]', a='["a"]', b='["b"]', votes=(1, 0, 0)):
    return [id, "x", "y", prompt, a, b, *votes]


def read_one(tmp_path, **cells):
    (battle,), changes = read_battles(write(tmp_path / "votes.csv", row(**cells)))
    return battle, changes


def read_all(path, **settings):
    ledger = Ledger()
    return list(read_source(Source(str(path), **settings), ledger, max_broken_fraction=1)), ledger


def messages(*turns):
    return [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 4, turns, strict=False)]


# One row of each format: one battle, "p" and "q" asked, "a" and "c" against "b" and "d", B won.
ROWS = {
    "lmsys": {
        "id": 7, "model_a": "x", "model_b": "y", "prompt": '["p", "q"]', "response_a": '["a", "c"]',
        "response_b": '["b", "d"]', "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
    },
    "wsdm": {
        "id": "7", "model_a": "x", "model_b": "y", "prompt": ["p", "q"], "response_a": ["a", "c"],
        "response_b": ["b", "d"], "winner": "model_b", "language": "English",
    },
    "lmsys_trl": {
        "id": "7", "source": "x.csv", "model_a": "x", "model_b": "y", "prompt": ["p", "q"], "response_a": ["a", "c"],
        "response_b": ["b", "d"], "vote": [0.0, 1.0, 0.0], "group": "g", "fold": None, "swapped_from": None,
    },
    "chatbot_arena": {
        "question_id": "7", "model_a": "x", "model_b": "y", "winner": "model_b", "judge": "arena_user_1", "turn": 2,
        "conversation_a": messages("p", "a", "q", "c"), "conversation_b": messages("p", "b", "q", "d"),
        "language": "English", "anony": True, "tstamp": 1682351591.1322,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("container", ["json", "jsonl", "parquet", "jsonl.gz", "zip", "csv"])
def test_every_format_in_every_container(tmp_path, name, container):
    path = tmp_path / f"votes.{container}"
    content = ROWS[name]
    if container == "parquet":
        pd.DataFrame([content]).to_parquet(path)
    elif container == "csv":
        if name in ("wsdm", "lmsys_trl"):
            pytest.skip("a CSV cell is one turn there")
        write(path, [json.dumps(v) if isinstance(v, list) else v for v in content.values()], header=list(content))
    elif container == "jsonl.gz":
        path.write_bytes(gzip.compress(json.dumps(content).encode()))
    elif container == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data/votes.json", json.dumps([content]))
            archive.writestr("data/readme.txt", "nothing")
    else:
        path.write_text(json.dumps([content] if container == "json" else content))
    (battle,), _ = read_all(path)
    assert battle == {
        "id": "7",
        "source": "votes",
        "language": content.get("language"),
        "model_a": "x",
        "model_b": "y",
        "prompt": ["p", "q"],
        "response_a": ["a", "c"],
        "response_b": ["b", "d"],
        "vote": [0, 1, 0],
        **({"annotator": "arena_user_1"} if name == "chatbot_arena" else {}),
    }


def test_plain_text_is_one_turn_in_wsdm(tmp_path):
    path = write(
        tmp_path / "train.csv",
        ["1", "[1, 2]", "", "b", "model_a"],
        header=["id", "prompt", "response_a", "response_b", "winner"],
    )
    (battle,), _ = read_all(path)
    assert (battle["prompt"], battle["response_a"], battle["response_b"]) == (["[1, 2]"], [None], ["b"])


@pytest.mark.parametrize(
    ("content", "prompt", "sides"),
    [
        ({"prompt": "p", "chosen": "good", "rejected": "bad"}, ["p"], (["good"], ["bad"])),
        (
            {"prompt": [USER], "chosen": messages("p", "good")[1:], "rejected": messages("p", "bad")[1:]},
            ["p"],
            (["good"], ["bad"]),
        ),
        ({"chosen": messages("p", "a", "q", "good"), "rejected": messages("p", "a", "q", "bad")}, ["p", "q"],
         (["a", "good"], ["a", "bad"])),
        ({"prompt": "p", "chosen": messages("p", "good"), "rejected": messages("p", "bad")}, ["p"],
         (["good"], ["bad"])),
    ],
)  # fmt: skip
def test_preferences(tmp_path, content, prompt, sides):
    battles, _ = read_all(write_jsonl(tmp_path / "pairs.jsonl", *({"id": i, **content} for i in range(40))))
    for battle in battles:
        chosen, rejected = ("response_a", "response_b")[:: -1 if digest(battle["id"]) % 2 else 1]
        assert battle["prompt"] == prompt and (battle[chosen], battle[rejected]) == sides
        assert battle["vote"] == vote_for(chosen.replace("response", "model"))
    assert 8 < sum(battle["vote"] == vote_for("model_a") for battle in battles) < 32


def test_preferences_without_ids_keep_repeated_votes(tmp_path):
    content = {"prompt": "p", "chosen": "good", "rejected": "bad"}
    path = write_jsonl(tmp_path / "pairs.jsonl", content, {**content, "prompt": "q"}, content)
    battles, _ = read_all(path)
    assert len({battle["id"] for battle in battles}) == 3
    assert battles == read_all(path)[0]


def test_a_vote_may_be_fractions(tmp_path):
    battle, _ = read_one(tmp_path, votes=(0.2, 0.5, 0.3))
    assert winner_of(battle["vote"]) == "model_b" and battle["vote"] == [0.2, 0.5, 0.3]


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("vote", [[0.2, 0.5, 0.3], [0.5, 0.5, 0.0], [1 / 3] * 3, [1 / 7, 2 / 7, 4 / 7], [1, 0, 0]])
def test_a_stored_vote_stays_the_same(tmp_path, vote, lenient):
    rows = [ROWS["lmsys_trl"] | {"vote": vote}, ROWS["lmsys_trl"] | {"id": "8", "vote": json.dumps(vote)}]
    battles, _ = read_battles(write_jsonl(tmp_path / "votes.jsonl", *rows), lenient)
    assert [battle["vote"] for battle in battles] == [vote, vote]


def test_fractions_are_normalized(tmp_path):
    path = write_jsonl(tmp_path / "votes.jsonl", ROWS["lmsys_trl"] | {"vote": [0.3333, 0.3333, 0.3333]})
    (battle,), _ = read_battles(path)
    assert battle["vote"] == [1 / 3] * 3


def test_empty_lists_are_one_missing_turn(tmp_path):
    empty = {"prompt": [], "response_a": [], "response_b": []}
    (battle,), changes = read_battles(write_jsonl(tmp_path / "votes.jsonl", ROWS["wsdm"] | empty))
    assert battle["prompt"] == battle["response_a"] == battle["response_b"] == [None]
    assert changes["empty lists, read as one missing turn"] == 3


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


@given(turns=st.lists(st.none() | st.text(), min_size=1, max_size=4), container=st.sampled_from(["csv", "jsonl"]))
def test_any_text_survives(tmp_path_factory, turns, container):
    path = tmp_path_factory.mktemp("any") / f"votes.{container}"
    if container == "csv":
        write(path, row(prompt=json.dumps(turns), a=json.dumps(turns), b=json.dumps(turns)))
    else:
        write_jsonl(path, ROWS["wsdm"] | {"prompt": turns, "response_a": turns, "response_b": turns})
    (battle,), _ = read_all(path)
    surrogates = dict.fromkeys(range(55296, 57344), "�")
    assert battle["prompt"] == [turn if turn is None else turn.translate(surrogates) for turn in turns]


def test_bytes_that_are_not_utf8_are_replaced(tmp_path):
    path = write(tmp_path / "votes.csv", row())
    path.write_bytes(path.read_bytes().replace(b'""p""', b'""\xff\xfe""'))
    (battle,), changes = read_battles(path)
    assert battle["prompt"] == ["\ufffd\ufffd"]
    assert sum(changes.values()) == 2


def test_what_was_changed_is_said_and_a_bad_name_of_a_column_ends_nothing(tmp_path):
    path, ledger = tmp_path / "votes.jsonl", Ledger()
    write_jsonl(path, ROWS["wsdm"] | {"id": 1}, ROWS["wsdm"] | {"id": 2, "prompt": ["a\ud800", "q"], "b\udcfc": 1})
    list(read_source(Source(str(path)), ledger))
    assert f"votes: {NOT_UTF8} (1)" in ledger.notes()
    assert ledger.unused["votes"] == ["b\ufffd"]


@pytest.mark.parametrize("name", ["votes.csv", "votes.csv.gz", "votes.jsonl", "votes.json"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_the_mark_at_the_start_of_a_file_says_its_encoding(tmp_path, name, encoding):
    battle = ROWS["wsdm"] | {"prompt": "Wie heißt er?", "response_a": "a", "response_b": "b"}
    table = ",".join(battle) + "\n" + ",".join(battle.values())
    content = (table if ".csv" in name else json.dumps(battle, ensure_ascii=False)).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (found,), changes = read_battles(tmp_path / name)
    assert found["prompt"] == ["Wie heißt er?"] and not changes


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
        read_battles(write(tmp_path / "votes.csv", *bad))
    message = str(caught.value)
    assert "votes.csv: 7 errors in 8 rows" in message
    assert "row 1 (id 1), column prompt: expected a JSON list with one text per turn, found 'not json'" in message
    assert "row 3 (id 3), column prompt: turns are missing: 1 turns where another column has 2" in message
    assert "row 4 (id 4), columns winner_model_a, winner_model_b, winner_tie: expected one 1" in message
    assert "and 2 more" in message


BROKEN = {
    "lmsys": [
        {"id": " "}, {"id": ""}, {"prompt": "["}, {"prompt": '["p"]'}, {"response_a": 3}, {"response_a": None},
        {"winner_tie": 1}, {"winner_model_b": "x"}, {"winner_model_b": -1}, {"winner_model_b": float("nan")},
        {"prompt": "[" * 100_000},
    ],
    "lmsys_trl": [
        {"vote": [1, 0]}, {"vote": [1, 1, 0]}, {"vote": 1}, {"vote": "model_a"}, {"vote": [None, None, None]},
        {"vote": {"model_a": 1}}, {"vote": None}, {"vote": [-1, 1, 1]}, {"response_a": ["a"]},
    ],
    "wsdm": [{"winner": "model_c"}, {"winner": 1}, {"winner": ["model_a"]}, {"prompt": []}, {"response_b": ["a"]}],
    "chatbot_arena": [
        {"conversation_a": messages("p", "a")}, {"conversation_a": messages("p")}, {"conversation_b": []},
        {"conversation_b": None}, {"conversation_b": "oops"}, {"conversation_b": [["p", "a"]]},
        {"conversation_b": [ASSISTANT, USER]}, {"conversation_b": messages("p", "b", "r", "d")}, {"winner": "tie?"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in BROKEN for change in BROKEN[name]])
def test_a_broken_row_is_recorded_in_the_ledger(tmp_path, name, change):
    good = ROWS[name]
    missing = {key: value for key, value in good.items() if key not in change}
    others = [{**good, "id": str(i), "question_id": str(i)} for i in range(20)]
    path = write_jsonl(tmp_path / "votes.jsonl", *others, {**good, **change}, missing)
    battles, ledger = read_all(path, blank_winner="drop")
    num_valid = len(battles) - 20
    assert num_valid + len(ledger.removed) == 2 and len(ledger.removed) >= 1
    assert all(entry["source"] == "votes" and entry["row"] in (21, 22) for entry in ledger.removed)
    assert all(len(entry["reason"]) < 150 for entry in ledger.removed)


@pytest.mark.parametrize("line", ["{", "[1]", "3", '"x"', "[" * 100_000, "\x00"])
def test_a_broken_line_is_recorded_in_the_ledger(tmp_path, line):
    path = tmp_path / "votes.jsonl"
    path.write_text(json.dumps(ROWS["wsdm"]) + "\n" + line + "\n\n")
    battles, ledger = read_all(path)
    assert len(battles) == 1 and [entry["row"] for entry in ledger.removed] == [2]


@pytest.mark.parametrize("content", [{"chosen": "", "rejected": "b"}, {"chosen": "b", "rejected": "b"},
                                     {"chosen": [], "rejected": []}, {"chosen": [USER], "rejected": [ASSISTANT]},
                                     {"chosen": None, "rejected": 3},
                                     {"chosen": "The sky is blue.", "rejected": "The sky is black."}])  # fmt: skip
def test_broken_preferences(tmp_path, content):
    battles, ledger = read_all(write_jsonl(tmp_path / "pairs.jsonl", {"id": 1, **content}))
    assert not battles and len(ledger.removed) == 1


def test_system_messages_are_put_before_the_first_prompt(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    both = {side: [system, *ROWS["chatbot_arena"][side]] for side in ("conversation_a", "conversation_b")}
    (battle,), ledger = read_all(write_jsonl(tmp_path / "votes.jsonl", ROWS["chatbot_arena"] | both))
    assert battle["prompt"] == ["Be brief.\n\np", "q"]
    assert battle["first_prompt"] == "p"
    assert ledger.changes["votes"] == {"system messages, put before the first prompt": 1}


def test_blank_votes_are_refused_without_blank_winner(tmp_path):
    rows = [ROWS["chatbot_arena"] | {"question_id": str(i), "winner": "" if i % 3 else "tie"} for i in range(6)]
    path = write_jsonl(tmp_path / "votes.jsonl", *rows, ROWS["chatbot_arena"] | {"winner": "tie (bothbad)"})
    with pytest.raises(ValueError, match="4 of 7 votes are blank, the first in row 2.*blank_winner: tie"):
        read_all(path)
    battles, ledger = read_all(path, blank_winner="tie")
    assert [battle["vote"] for battle in battles] == [vote_for("tie")] * 7
    assert ledger.changes["votes"]["blank votes, read as tie"] == 4
    assert ledger.changes["votes"]["votes for tie (bothbad), read as tie"] == 1
    battles, ledger = read_all(path, blank_winner="drop")
    assert len(battles) == 3 and {entry["reason"] for entry in ledger.removed} == {"column winner: no vote"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("votes.csv", b"", "votes.csv: is empty"),
        ("votes.csv", b"id,prompt,,\n1,p,,\n", "columns: columns without a name occur twice"),
        ("votes.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "names of its columns are not UTF-8"),
        ("votes.csv", b"id,prompt\n1,2\n", "Columns missing: response_a, response_b, winner. It has 'id, prompt'"),
        ("votes.csv", b'id,prompt,response_a,response_b,winner\n1,"a"b,c\n', "damaged, or not a CSV file.*row 0"),
        ("votes.csv", b"id,prompt,response_a,response_b,winner\n", "has no rows"),
        ("votes.json", b"[{", "damaged, or not a JSON file"),
        ("votes.json", b'{"id": 1}', "not a file of battles.*--suggest FILE prints a mapping"),
        ("votes.json", b"3", "expected a list of objects"),
        ("votes.json", b"[" * 100_000, "nested too deeply"),
        ("votes.jsonl", b"", "is empty"),
        ("votes.jsonl", b"[{}]\n", "no row can be read. Row 1: not a JSON object: line 1"),
        ("votes.jsonl", b"{broken", "no row can be read. Row 1: not JSON"),
        ("votes.parquet", b"PAR1 no PAR1", "damaged, or not a PARQUET file"),
        ("votes.csv.gz", b"no gzip", "damaged, or not a CSV.GZ file"),
        ("votes.jsonl.gz", gzip.compress(json.dumps(ROWS["wsdm"]).encode())[:-9], "damaged, or not a JSONL.GZ file"),
        ("votes.zip", b"no zip", "not a zip archive"),
        ("votes.txt", b"id", "does not end in .csv.*Rename"),
        ("votes.csv", "Frage;Prüfer\n".encode("cp1252"), "names of its columns are not UTF-8.*Save it as UTF-8"),
    ],
)
def test_files_that_are_not_votes(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_battles(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        read_battles(tmp_path / "other.csv")


def test_a_format_that_is_named_must_fit(tmp_path):
    with pytest.raises(ValueError, match="battles without votes. Columns missing: winner. It has 'id, "):
        read_all(write(tmp_path / "votes.csv", row()), format="wsdm")


def test_votes_are_what_is_missing_where_battles_are_there(tmp_path):
    with pytest.raises(ValueError, match="battles without votes.*--suggest FILE prints a mapping.$") as info:
        read_battles(write(tmp_path / "votes.csv", row()[:6], header=HEADER))
    assert "columns of each format" not in str(info.value)


def test_files_of_a_folder_are_chosen_by_name(tmp_path):
    for name in ("train-1", "train-0", "test"):
        write_jsonl(tmp_path / f"{name}.jsonl", ROWS["wsdm"] | {"id": name})
    with pytest.raises(ValueError, match="holds 3 files. Choose with file"):
        read_all(tmp_path)
    with pytest.raises(ValueError, match="no such file. For several files, give their folder"):
        read_all(tmp_path / "train-*.jsonl")
    with pytest.raises(ValueError, match="no file is named valid"):
        read_all(tmp_path, file="valid*")
    battles, ledger = read_all(tmp_path, file="train-*.jsonl")
    assert [battle["id"] for battle in battles] == ["train-0", "train-1"]
    assert len(ledger.origins[tmp_path.name]["sha256"]) == 2


def test_rows_of_several_files_are_named_by_file_and_columns_not_read_are_those_of_all(tmp_path):
    for folder, mark in (("a", "mood"), ("b", "tone")):
        (tmp_path / folder).mkdir()
        rows = [ROWS["wsdm"] | {"id": f"{folder}{i}", mark: i} for i in range(20)]
        write_jsonl(tmp_path / folder / "votes.jsonl", *rows, ROWS["wsdm"] | {"id": f"{folder}!", "winner": "me"})
    _, ledger = read_all(tmp_path, file="*.jsonl")
    assert ledger.unused[tmp_path.name] == ["mood", "tone"]
    assert list(ledger.origins[tmp_path.name]["sha256"]) == ["a/votes.jsonl", "b/votes.jsonl"]
    with pytest.raises(ValueError, match=r"a/votes.jsonl row 21 \(id a!\) and 1 others, column winner"):
        list(read_source(Source(str(tmp_path), file="*.jsonl"), Ledger(), max_broken_fraction=0))


def test_a_folder_in_an_archive_may_be_named_like_a_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "votes.zip", "w") as archive:
        archive.writestr("votes.jsonl/", "")
        archive.writestr("votes.jsonl/votes.jsonl", json.dumps(ROWS["wsdm"]))
    assert len(read_all(tmp_path / "votes.zip")[0]) == 1


def test_columns_that_only_later_rows_have(tmp_path):
    rows = [ROWS["wsdm"] | {"id": str(i), "language": "fr", "mood": 1} for i in range(101)]
    for row in rows[:-1]:
        del row["id"], row["language"], row["mood"]
    for order in (rows, rows[::-1]):
        battles, ledger = read_all(write_jsonl(tmp_path / "votes.jsonl", *order))
        assert {("100", "fr")} < {(battle["id"], battle["language"]) for battle in battles}
        assert ledger.unused["votes"] == ["mood"]


def test_swapped_copies_of_a_data_set_are_no_votes_of_their_own(tmp_path):
    prepared = ROWS["lmsys_trl"] | {"source": "s", "group": "g", "fold": None, "swapped_from": None}
    path = write_jsonl(tmp_path / "votes.jsonl", prepared, prepared | {"id": "x-swapped", "swapped_from": "x"})
    battles, ledger = read_all(path)
    assert len(battles) == 1 and ledger.removed[0]["reason"].startswith("a swapped copy of another row")
    assert len(read_battles(path, lenient=True)[0]) == 2  # they may have been predicted


def test_an_answer_that_looks_like_messages_stays_text(tmp_path):
    shown = ['{"role": "assistant", "content": "Hi"}', '[{"role": "user", "content": "Hi"}]']
    rows = [{"id": str(i), "prompt": "Show me one", "response_a": text, "response_b": "No", "winner": "tie"}
            for i, text in enumerate(shown)]  # fmt: skip
    path = write_jsonl(tmp_path / "votes.jsonl", *rows)
    for lenient in (False, True):
        assert [battle["response_a"] for battle in read_battles(path, lenient)[0]] == [[text] for text in shown]


def test_lenient_reading_keeps_every_id(tmp_path):
    path = write(
        tmp_path / "test.csv",
        ["1", "not json", '["a"]', '["b"]'],
        ["2", '["p", "q"]', '["a"]', "[]"],
        ["3", "[null]", "[null]", "[null]"],
        header=["id", "prompt", "response_a", "response_b"],
    )
    battles, changes = read_battles(path, lenient=True)
    assert [battle["id"] for battle in battles] == ["1", "2", "3"]
    assert battles[0]["prompt"] == ["not json"]
    assert battles[1]["response_a"] == ["a", ""] and battles[1]["response_b"] == [None, ""]
    assert changes["missing turns, filled with empty text"] == 2
    assert all(battle["vote"] is None for battle in battles)


@pytest.mark.parametrize("name", ROWS)
def test_lenient_reading_passes_votes_on(tmp_path, name):
    (battle,), _ = read_battles(write_jsonl(tmp_path / "votes.jsonl", ROWS[name]), lenient=True)
    assert battle["vote"] == [0, 1, 0] and battle["response_a"] == ["a", "c"]


@pytest.mark.parametrize(
    ("name", "num_battles"),
    [("arena_first100", 100), ("mt_bench_human", 3355), ("tulu_human_eval", 1150), ("pandalm_votes", 2997)],
)
def test_real_votes(assets, name, num_battles):
    battles, _ = read_battles(assets / "data" / f"{name}.csv")
    assert len(battles) == num_battles
    battles, _ = read_battles(assets / "data" / "arena_test3.csv", lenient=True)
    assert len(battles) == 3
