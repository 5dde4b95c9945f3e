import os
import re
import runpy
import sys
import threading

import pyarrow as pa
import pytest
from datasets import Dataset
from helpers.models import build_base
from helpers.run import REPOSITORY, recipe
from helpers.votes import write_votes
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl.data.columns import TURN_COLUMNS
from lmsys_trl.data.schema import BATTLE_SCHEMA
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.examples import IGNORED, encode_battle, example_spans
from lmsys_trl.encoding.preview import Tally, render_battle, visible
from lmsys_trl.encoding.template import PROMPT_VERSION, TEMPLATES
from lmsys_trl.errors import UserError
from lmsys_trl.terminal import set_up_logging

HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eabc\r\x08\u200b\U000e0041"
LONG = {
    "id": f"7{HOSTILE}",
    "prompt": ["first", f"Hi {HOSTILE}"],
    "response_a": ["a" * 30, "x" * 300],
    "response_b": ["b" * 20, "y" * 40],
    "vote": [0.0, 0.0, 1.0],
}

texts = st.text(max_size=120) | st.none()
battles = st.integers(0, 4).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            **{column: st.lists(texts, min_size=n, max_size=n) for column in TURN_COLUMNS},
            "vote": st.sampled_from([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], None]),
        }
    )
)


@given(battle=battles, max_length=st.integers(300, 700))
def test_examples_consist_of_their_spans(tokenizer, battle, max_length):
    examples = encode_battle(battle, tokenizer, max_length)
    (divided,) = example_spans([battle], tokenizer, max_length)
    assert len(divided) == len(examples)
    texts_in_order = []
    for example, spans in zip(examples, divided, strict=True):
        start = 0
        for span in spans:
            ids, labels = (example[key][start : start + span.kept] for key in ("input_ids", "labels"))
            start += span.kept
            assert len(ids) == span.kept <= span.total
            assert (span.name == "answer") == (set(labels) != {IGNORED} and span.kept > 0)
            if span.name in TURN_COLUMNS:
                text = battle[span.name][span.turn - 1] if battle[span.name] else None
                written = TEMPLATES[PROMPT_VERSION].turn_text(text)
                beginning = tokenizer(written, split_special_tokens=True)["input_ids"]
                assert ids == beginning[: span.kept] and span.total == len(beginning)
                texts_in_order.append((span.turn, span.name))
        assert start == len(example["input_ids"])
        assert [span.name for span in spans if span.turn is None][:2] == ["prefix", "suffix"]
    assert texts_in_order == [(k + 1, column) for k in range(max(1, len(battle["prompt"]))) for column in TURN_COLUMNS]


def test_what_is_shown_of_a_battle(tokenizer):
    shown = render_battle(LONG, tokenizer, 500)
    example = encode_battle(LONG, tokenizer, 500)[-1]
    lines = shown.splitlines()
    assert lines[0].endswith(f": {len(example['input_ids'])} of 500 tokens, label -100 unless another is shown")
    assert lines[1:4] == [
        "  prompt 1 dropped: 5 tokens",
        "  response_a 1 dropped: 30 tokens",
        "  response_b 1 dropped: 20 tokens",
    ]
    ids = [int(i) for i in re.findall(r"/(\d+)(?:=\d+)?(?= |$)", shown, flags=re.MULTILINE)]
    assert ids == example["input_ids"]
    letter, end = example["labels"][-2:]
    assert lines[-1] == f"  answer        C/{letter}={letter} <|im_end|>/{end}={end}"
    kept = 300 - int(re.search(r"\[(\d+) of 300 tokens truncated\]", shown)[1])
    assert sum(i == tokenizer.convert_tokens_to_ids("x") for i in ids) == kept < 300
    assert all(len(line) <= 119 for line in lines[1:])


def test_nothing_in_a_text_reaches_the_terminal(tokenizer):
    shown = render_battle({**LONG, "vote": None}, tokenizer, 600)
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
    for battle in battles:  # in chunks of any size
        tally.add([battle], tokenizer, 500)
    examples = [encode_battle(battle, tokenizer, 500) for battle in battles]
    complete = [encode_battle(battle, tokenizer, 10**6)[-1] for battle in battles]
    assert tally.lengths == [len(encoded[-1]["input_ids"]) for encoded in examples]
    assert tally.num_dropped == sum(len(encoded) > 1 for encoded in examples) >= 1
    assert 1 <= tally.num_truncated < len(battles)
    texts = sum(
        len(tokenizer(t, split_special_tokens=True)["input_ids"]) for b in battles for c in TURN_COLUMNS for t in b[c]
    )
    assert sum(tally.kept[c] + tally.lost[c] for c in TURN_COLUMNS) == texts
    assert sum(tally.kept.values()) == sum(tally.lengths) < sum(len(example["input_ids"]) for example in complete)
    assert tally.kept["answer"] == 2 * len(battles)
    total, longest = sum(tally.lengths), sorted(tally.lengths)[-4:]
    assert tally.summary().startswith(f"21 examples, {total:,} tokens\n")
    assert tally.step_summary(8, copies=2) == (
        f"a step of 8 examples: {8 * total / 21:,.0f} tokens on average, {2 * sum(longest):,} at most; "
        "6 steps per epoch"
    )
    at_once = Tally()
    at_once.add(battles, tokenizer, 500)
    assert at_once == tally and Tally().summary() == "no battles"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preview")
    build_base(folder / "models" / "tiny")
    (folder / "models" / "tiny" / "model.safetensors").unlink()  # no weights are loaded
    battles = make_battles(9)
    write_votes(folder / "votes.csv", battles)
    battles[4]["vote"] = None
    Dataset(pa.Table.from_pylist(battles, BATTLE_SCHEMA)).to_parquet(folder / "battles" / "train.parquet")
    return folder


def test_the_recipe(folder):
    arguments = ["smollm2.yaml", "--model_name_or_path", "models/tiny", "--max_length", "600"]
    output = recipe("preview.py", *arguments, "--dataset_name", "battles", "--swap", "paired", cwd=folder)
    assert output.count(" of 600 tokens, label -100") == 3
    assert "the end token's label has no effect" in output  # smollm2.yaml has loss: letters
    assert "train: 8 examples, " in output  # those with a vote
    assert "a step of 16 examples: " in output and "1 steps per epoch" in output
    assert "\x1b" not in output  # it is not a terminal


@pytest.fixture
def preview(folder, monkeypatch):
    monkeypatch.chdir(folder)
    script = REPOSITORY / "recipes" / "preview.py"
    main = runpy.run_path(str(script), run_name="recipe")["main"]
    set_up_logging()

    def run(*argv: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(script), *argv])
        main()

    return run


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colors_on_a_terminal(preview, monkeypatch, no_color):
    monkeypatch.setenv("NO_COLOR", no_color)
    reader, writer = os.openpty()
    read = []

    def read_all():
        while b"steps per epoch" not in b"".join(read):
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
    with pytest.raises(UserError, match="test_file or dataset_name: missing"):
        preview("--tokenizer", "models/tiny")
    with pytest.raises(UserError, match="tokenizer: missing"):
        preview("--test_file", "votes.csv")


def test_gemma_on_real_votes(preview, assets, capsys):
    file = str(assets / "data" / "arena_first100.csv")
    preview("gemma.yaml", "--test_file", file, "--tokenizer", str(assets / "tokenizers" / "gemma2"))
    output = capsys.readouterr().out
    assert "<bos>/2 <start_of_turn>/106 user/1645 \\n/108 Here/4858" in output
    assert "a step of 16 examples: " in output and "7 steps per epoch" in output
    assert all(char.isprintable() or char == "\n" for char in output)
