import importlib
import os
import re
import sys
import threading

import pytest
from conftest import REPOSITORY, build_base, recipe, write_votes
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl.battle import BATTLE_FEATURES
from lmsys_trl.preview import Tally, render_battle, visible
from lmsys_trl.rows import COLUMNS, IGNORED, encode_battle, rows_in_parts
from lmsys_trl.synthetic import make_battles

HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eabc\r\x08\u200b\U000e0041"
LONG = {
    "id": f"7{HOSTILE}",
    "prompt": ["first", f"Hi {HOSTILE}"],
    "response_a": ["a" * 30, "x" * 300],
    "response_b": ["b" * 20, "y" * 40],
    "winner": "tie",
}

texts = st.text(max_size=120) | st.none()
battles = st.integers(0, 4).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            **{column: st.lists(texts, min_size=n, max_size=n) for column in COLUMNS},
            "winner": st.sampled_from(["model_a", "tie", None]),
        }
    )
)


@given(battle=battles, max_length=st.integers(300, 700))
def test_parts_are_what_rows_consist_of(tokenizer, battle, max_length):
    rows = encode_battle(battle, tokenizer, max_length)
    (divided,) = rows_in_parts([battle], tokenizer, max_length)
    assert len(divided) == len(rows)
    rounds = []
    for row, parts in zip(rows, divided, strict=True):
        start = 0
        for part in parts:
            ids, labels = (row[key][start : start + part.kept] for key in ("input_ids", "labels"))
            start += part.kept
            assert len(ids) == part.kept <= part.whole
            assert (part.name == "answer") == (set(labels) != {IGNORED} and part.kept > 0)
            if part.name in COLUMNS:
                text = battle[part.name][part.round - 1] if battle[part.name] else None
                beginning = tokenizer(text or "None", split_special_tokens=True)["input_ids"]
                assert ids == beginning[: part.kept] and part.whole == len(beginning)
                rounds.append((part.round, part.name))
        assert start == len(row["input_ids"])
    assert rounds == [(k + 1, column) for k in range(max(1, len(battle["prompt"]))) for column in COLUMNS]


def test_what_is_shown_of_a_battle(tokenizer):
    shown = render_battle(LONG, tokenizer, 500)
    row = encode_battle(LONG, tokenizer, 500)[-1]
    lines = shown.splitlines()
    assert lines[0].endswith(f": {len(row['input_ids'])} of 500 tokens, label -100 unless another is shown")
    assert lines[1:4] == [
        "  prompt 1 left out: 5 tokens",
        "  response_a 1 left out: 30 tokens",
        "  response_b 1 left out: 20 tokens",
    ]
    ids = [int(i) for i in re.findall(r"/(\d+)(?:=\d+)?(?= |$)", shown, flags=re.MULTILINE)]
    assert ids == row["input_ids"]
    letter, end = row["labels"][-2:]
    assert lines[-1] == f"  answer        C/{letter}={letter} <|im_end|>/{end}={end}"
    kept = 300 - int(re.search(r"\[the other (\d+) of 300 tokens are cut\]", shown)[1])
    assert sum(i == tokenizer.convert_tokens_to_ids("x") for i in ids) == kept < 300
    assert all(len(line) <= 119 for line in lines[1:])


def test_nothing_in_a_text_reaches_the_terminal(tokenizer):
    shown = render_battle({**LONG, "winner": None}, tokenizer, 600)
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert r"7\x1b[2J\x1b]0;title\x07\x9b31m\u202eabc\r\x08" in shown
    colored = render_battle(LONG, tokenizer, 600, color=True)
    assert "\x1b" in colored
    plain = re.sub(r"\x1b\[(?:0|2|3[356]|1;32)m", "", colored)
    assert plain == render_battle(LONG, tokenizer, 600)


@given(st.text())
def test_visible(text):
    assert visible(text).isprintable() and " " not in visible(text)


def test_tally(tokenizer):
    battles = [LONG, *make_battles(20)]
    tally = Tally()
    for battle in battles:  # in whatever portions
        tally.add([battle], tokenizer, 500)
    rows = [encode_battle(battle, tokenizer, 500) for battle in battles]
    whole = [encode_battle(battle, tokenizer, 10**6)[-1] for battle in battles]
    assert tally.lengths == [len(encoded[-1]["input_ids"]) for encoded in rows]
    assert tally.num_shortened == sum(len(encoded) > 1 for encoded in rows) >= 1
    assert 1 <= tally.num_cut < len(battles)
    texts = sum(
        len(tokenizer(t, split_special_tokens=True)["input_ids"]) for b in battles for c in COLUMNS for t in b[c]
    )
    assert sum(tally.kept[c] + tally.lost[c] for c in COLUMNS) == texts
    assert sum(tally.kept.values()) == sum(tally.lengths) < sum(len(row["input_ids"]) for row in whole)
    assert tally.kept["answer"] == 2 * len(battles)
    total, longest = sum(tally.lengths), sorted(tally.lengths)[-4:]
    assert tally.told().startswith(f"21 rows, {total:,} tokens\n")
    assert tally.told_of_a_step(8, copies=2) == (
        f"a step of 8 rows: {8 * total / 21:,.0f} tokens on average, {2 * sum(longest):,} at most; 6 steps an epoch"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preview")
    build_base(folder / "models" / "tiny")
    (folder / "models" / "tiny" / "model.safetensors").unlink()  # no weights are loaded
    battles = make_battles(9)
    write_votes(folder / "votes.csv", battles)
    rows = [{name: battle.get(name) for name in BATTLE_FEATURES} for battle in battles]
    rows[4]["winner"] = None
    Dataset.from_list(rows, BATTLE_FEATURES).to_parquet(folder / "battles" / "train.parquet")
    return folder


def test_the_recipe(folder):
    arguments = ["smollm2.yaml", "--model_name_or_path", "models/tiny", "--max_length", "600"]
    output = recipe("preview.py", *arguments, "--dataset_name", "battles", "--swap", "paired", cwd=folder)
    assert output.count(" of 600 tokens, label -100") == 3
    assert "train: 8 rows, " in output  # those with a vote
    assert "a step of 16 rows: " in output and "1 steps an epoch" in output
    assert "\x1b" not in output  # it is no terminal


@pytest.fixture
def preview(folder, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "recipes")
    monkeypatch.chdir(folder)
    main = importlib.import_module("preview").main

    def run(*argv: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "recipes" / "preview.py"), *argv])
        main()

    return run


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colors_on_a_terminal(preview, monkeypatch, no_color):
    monkeypatch.setenv("NO_COLOR", no_color)
    reader, writer = os.openpty()
    read = []

    def read_all():
        while b"steps an epoch" not in b"".join(read):
            read.append(os.read(reader, 10000))

    thread = threading.Thread(target=read_all, daemon=True)
    thread.start()
    with open(writer, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        preview("smollm2.yaml", "--tokenizer", "models/tiny", "--test_file", "votes.csv", "--max_length", "600")
        terminal.flush()
        thread.join(30)
    os.close(reader)
    assert (b"\x1b[1;32mA/" in b"".join(read)) == (not no_color)
    assert (b"\x1b" in b"".join(read)) == (not no_color)


def test_what_must_be_named(preview):
    with pytest.raises(ValueError, match="dataset_name or test_file: missing"):
        preview("--tokenizer", "models/tiny")
    with pytest.raises(ValueError, match="tokenizer: missing"):
        preview("--test_file", "votes.csv")


def test_gemma_on_real_votes(preview, assets, capsys):
    file = str(assets / "data" / "arena_first100.csv")
    preview("gemma.yaml", "--test_file", file, "--tokenizer", str(assets / "tokenizers" / "gemma2"))
    output = capsys.readouterr().out
    assert "<bos>/2 <start_of_turn>/106 user/1645 \\n/108 Here/4858" in output
    assert "a step of 16 rows: " in output and "7 steps an epoch" in output
    assert all(char.isprintable() or char == "\n" for char in output)
