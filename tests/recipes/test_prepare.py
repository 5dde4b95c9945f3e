"""From votes to a data set: every removal is recorded, and no group is split."""

import importlib.util
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from unittest.mock import patch

import pandas as pd
import pytest
import yaml
from datasets import load_dataset
from helpers.models import build_tokenizer
from helpers.run import REPOSITORY, programs, recipe
from helpers.votes import write_votes
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsys_trl.battle import WINNERS, swap_battle, vote_for, winner_of
from lmsys_trl.data.dataset import data_fingerprint, load_battles
from lmsys_trl.data.sources import read_battles
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.dataset import conversation_dataset, encode_dataset
from lmsys_trl.encoding.examples import encode_battle
from lmsys_trl.errors import UserError
from lmsys_trl.terminal import set_up_logging

spec = importlib.util.spec_from_file_location("prepare", REPOSITORY / "recipes" / "prepare.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


def prepare(folder, **config) -> pd.DataFrame:
    """Run the recipe in this process; returns all rows with their split."""
    (folder / "x.yaml").write_text(yaml.safe_dump({"output_dir": str(folder / "data"), "overwrite": True, **config}))
    set_up_logging()
    with patch.object(sys, "argv", ["prepare.py", str(folder / "x.yaml")]):
        module.main()
    return pd.concat(
        [pd.read_parquet(path).assign(split=path.stem) for path in sorted((folder / "data" / "battles").iterdir())]
    ).reset_index(drop=True)


def removed(folder) -> pd.DataFrame:
    return pd.read_parquet(folder / "data" / "removed.parquet")


def battle(id, prompt, a="a", b="b", winner="model_a", **changes):
    answers = {"response_a": [a], "response_b": [b]}
    return {
        "id": id,
        "model_a": "x",
        "model_b": "y",
        "prompt": [prompt],
        **answers,
        "vote": vote_for(winner),
        **changes,
    }


def many(name, num=20):
    """Battles about different things."""
    rng = random.Random(name)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(500)]
    return [battle(f"{name}{i}", " ".join(rng.choices(words, k=6)), winner=WINNERS[i % 3]) for i in range(num)]


def test_rows_and_record(tmp_path, capsys):
    votes = make_battles(40)
    path = write_votes(tmp_path / "votes.csv", votes)
    rows = prepare(tmp_path, sources=[str(path)])
    assert sorted(rows["id"]) == sorted(b["id"] for b in votes)
    by_id = rows.set_index("id")
    for expected in votes:
        row = by_id.loc[expected["id"]]
        assert list(row["prompt"]) == expected["prompt"] and list(row["response_b"]) == expected["response_b"]
        assert list(row["vote"]) == expected["vote"] and row["model_a"] == expected["model_a"]
    assert set(rows["split"]) == {"train", "validation"} and rows["fold"].isna().all()
    record = json.loads((tmp_path / "data" / "prepare.json").read_text())
    assert record["sources"]["votes"]["rows"] == 40 and record["versions"]["datasets"]
    output = capsys.readouterr().out
    assert "validation: 8 battles" in output
    assert f"Next: lmsys-trl sft smollm2.yaml --dataset_name {tmp_path / 'data'} --output_dir runs/judge" in output
    loaded = load_battles(str(tmp_path / "data"))
    with pytest.raises(UserError, match=rf"Did you mean {tmp_path / 'data'}\?"):
        load_battles(str(tmp_path / "dat"))
    with pytest.raises(UserError, match=f"is a file. Make a data set of it with lmsys-trl prepare --sources {path} "):
        load_battles(str(path))
    assert {name: split.num_rows for name, split in loaded.items()} == {"train": 32, "validation": 8}
    assert loaded["train"].to_pandas().equals(rows[rows["split"] == "train"].drop(columns="split"))


def test_a_data_set_is_a_source(tmp_path):
    """What prepare wrote, prepare reads: the same battles with the same votes."""
    repeated = [battle("1", "p", winner="model_a"), battle("2", "p", winner="tie"), *many("other")]
    path = write_votes(tmp_path / "votes.csv", repeated)
    first = prepare(tmp_path, sources=[str(path)], duplicates="soft")
    assert list(first.set_index("id").loc["1", "vote"]) == [0.5, 0, 0.5]
    shutil.move(tmp_path / "data", tmp_path / "first")
    for fmt in ({}, {"format": "lmsys_trl"}):
        source = {"path": str(tmp_path / "first"), "file": "battles/*.parquet", "name": "votes", **fmt}
        second = prepare(tmp_path, sources=[source]).drop(columns="split")
        assert second.equals(first.drop(columns="split"))
    battles, _ = read_battles(tmp_path / "first" / "battles" / "train.parquet", lenient=True)
    votes = first[first["split"] == "train"].set_index("id")["vote"].map(list)
    assert {b["id"]: b["vote"] for b in battles} == votes.to_dict()


def test_what_is_loaded_is_never_of_an_older_folder(tmp_path):
    """`load_dataset` caches local folders by name."""
    for i in (1, 2):
        path = write_votes(tmp_path / "votes.csv", many(f"run {i} ", 20))
        rows = prepare(tmp_path, sources=[str(path)])
        for load in (load_battles, load_dataset):
            assert set(load(str(tmp_path / "data"))["train"]["id"]) == set(rows[rows["split"] == "train"]["id"])


def test_a_battle_of_two_sources_is_used_from_the_first(tmp_path):
    one = write_votes(tmp_path / "one.csv", [battle("1", "p"), *many("one")])
    same = [battle("1", " p "), battle("2", "p", "b", "a"), battle("3", "p", "a", "c"), *many("two")]
    two = write_votes(tmp_path / "two.csv", same)
    rows = prepare(tmp_path, sources=[str(one), str(two)])
    about = rows[rows["prompt"].str[0].str.strip() == "p"]
    assert list(about["id"]) == ["1", "3"] and about["split"].nunique() == 1
    duplicates = removed(tmp_path)
    assert list(duplicates["id"]) == ["1", "2"] and set(duplicates["reason"]) == {"the same battle is in one"}
    content = json.loads(duplicates["content"][1])
    assert content["response_a"] == ["b"] and content["vote"] == [1, 0, 0]
    rows = prepare(tmp_path, sources=[str(two), str(one)])
    assert {"2", "3"} <= set(rows["id"]) and set(removed(tmp_path)["source"]) == {"one"}


def test_an_id_of_an_earlier_source_gets_a_prefix(tmp_path):
    one = write_votes(tmp_path / "one.csv", many("one"))
    two = write_votes(tmp_path / "two.csv", [battle("one0", "something else"), *many("two")])
    rows = prepare(tmp_path, sources=[str(one), str(two)])
    assert rows["id"].is_unique and "two/one0" in set(rows["id"])
    assert "| two | ids that an earlier source has too" in (tmp_path / "data" / "README.md").read_text()


def test_repeated_votes_are_used_or_merged(tmp_path):
    repeated = [
        battle("1", "p", winner="model_a"),
        battle("2", "p", "b", "a", winner="model_a"),
        battle("3", "p", winner="model_a"),
        battle("4", "p", winner="tie"),
    ]
    path = write_votes(tmp_path / "votes.csv", repeated + many("other"))
    everything = prepare(tmp_path, sources=[str(path)])
    assert len(everything) == 24
    assert everything.set_index("id").loc[list("1234"), "group"].nunique() == 1
    first = prepare(tmp_path, sources=[str(path)], duplicates="first").set_index("id")
    assert len(first) == 21 and list(first.loc["1", "vote"]) == [1, 0, 0]
    soft = prepare(tmp_path, sources=[str(path)], duplicates="soft").set_index("id")
    assert len(soft) == 21 and winner_of(soft.loc["1", "vote"]) == "model_a"
    assert list(soft.loc["1", "vote"]) == [0.5, 0.25, 0.25]  # the second voted for what is B in the first
    path = write_votes(tmp_path / "votes.csv", repeated[:2] + many("other"))
    soft = prepare(tmp_path, sources=[str(path)], duplicates="soft").set_index("id")
    assert winner_of(soft.loc["1", "vote"]) is None and list(soft.loc["1", "vote"]) == [0.5, 0.5, 0]


def chain(num_links):
    """Long prompts that each differ from the previous one in one word, so that the first and last are not similar."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(30)]
    links = [list(words)]
    for i in range(num_links):
        links.append([*links[-1][:i], "".join(rng.choices("klmnopqrst", k=6)), *links[-1][i + 1 :]])
    return [" ".join(link) for link in links]


def test_chains_of_near_duplicates_do_not_leak(tmp_path):
    links = [battle(f"link{i}", prompt) for i, prompt in enumerate(chain(25))]
    path = write_votes(tmp_path / "votes.csv", links + many("other", 60))
    rows = prepare(tmp_path, sources=[str(path)]).set_index("id")
    assert rows.loc[[link["id"] for link in links], ["group", "split"]].nunique().tolist() == [1, 1]
    assert rows["group"].nunique() == 61
    rows = prepare(tmp_path, sources=[str(path)], near_duplicates=0)
    assert rows["group"].nunique() == 86


def test_validation_comes_from_the_sources_named_for_it(tmp_path):
    shared = [battle(f"s{i}", b["prompt"][0], "other", "answers") for i, b in enumerate(many("one", 60)[:20])]
    one = write_votes(tmp_path / "one.csv", many("one", 60))
    two = write_votes(tmp_path / "two.csv", [*shared, *many("two", 60)])
    rows = prepare(tmp_path, sources=[str(one), str(two)], validation_sources=["one"], validation_size=15)
    validation = rows[rows["split"] == "validation"]
    assert set(validation["source"]) == {"one"} and len(validation) == 15 and len(rows) == 140
    assert not set(validation["group"]) & set(rows[rows["source"] == "two"]["group"])
    assert validation["vote"].map(winner_of).value_counts().to_dict() == dict.fromkeys(WINNERS, 5)
    with pytest.raises(ValueError, match="41 battles are wanted and 40 are available whose group is in one only"):
        prepare(tmp_path, sources=[str(one), str(two)], validation_sources=["one"], validation_size=41)


def test_a_system_text_does_not_join_different_questions(tmp_path):
    system = {"role": "system", "content": "You are the assistant of a museum. " + "Rule: answer politely. " * 40}
    rows = [
        {side: [system, {"role": "user", "content": one["prompt"][0]}, {"role": "assistant", "content": answer}]
         for side, answer in (("chosen", f"yes {i}"), ("rejected", f"no {i}"))}
        for i, one in enumerate(many("museum", 24))
    ]  # fmt: skip
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    prepared = prepare(tmp_path, sources=[str(tmp_path / "pairs.json")], validation_fraction=0.25)
    assert prepared["group"].nunique() == 24 and (prepared["split"] == "validation").sum() == 6
    assert all(prompt[0].startswith("You are the assistant") for prompt in prepared["prompt"])


def test_what_joined_a_large_group_is_said(tmp_path, capsys):
    alike = [battle(f"alike {i}", f"Write a story about a cat named Tom, please, number {i}") for i in range(40)]
    path = write_votes(tmp_path / "votes.csv", [*alike, *many("other", 60)])
    prepare(tmp_path, sources=[str(path)])
    output = capsys.readouterr().err
    assert "votes: 40 of 100 battles are one group, which is never split: their first prompts are similar" in output
    assert "'Write a story about a cat named Tom, please, number" in output
    path = write_votes(tmp_path / "votes.csv", alike)
    with pytest.raises(ValueError, match="cannot hold out.*\n.*40 of 40 battles are one group"):
        prepare(tmp_path, sources=[str(path)])


def test_columns_of_ones_own(tmp_path, capsys):
    rows = [
        {"question": one["prompt"][0], "x": "a", "y": "b", "preferred": ("left", "right", "same")[i % 3],
         "who": f"person {i % 4}", "topic": f"topic {i % 10}", "when": i}
        for i, one in enumerate(many("own", 60))
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "own.csv", index=False, sep=";")
    prepared = prepare(
        tmp_path,
        sources=[str(tmp_path / "own.csv")],
        columns={"prompt": "question", "response_a": "x", "response_b": "y", "vote": "preferred", "group": "topic",
                 "annotator": "who"},
        votes={"left": "model_a", "right": "model_b", "same": "tie"},
        keep=["when", "annotator"],
    )  # fmt: skip
    assert len(prepared) == 60 and prepared["group"].nunique() == 10
    assert set(prepared["when"]) == {str(i) for i in range(60)} and set(prepared["annotator"]) == {
        f"person {i}" for i in range(4)
    }
    assert [winner_of(vote) for vote in prepared.sort_values("when", key=lambda c: c.astype(int))["vote"]] == [
        WINNERS[i % 3] for i in range(60)
    ]
    assert load_battles(str(tmp_path / "data"))["train"].column_names[-2:] == ["when", "annotator"]
    card = (tmp_path / "data" / "README.md").read_text()
    assert "60 votes, 33% of them ties." in card and "- `when`: as in the sources" in card
    for name in ("id", "first_prompt"):
        with pytest.raises(ValueError, match=f"keep: {name} would replace a column that prepare makes"):
            prepare(tmp_path, sources=[str(tmp_path / "own.csv")], keep=[name])


def test_a_given_split_does_not_leak(tmp_path):
    path = write_votes(tmp_path / "votes.csv", [battle("no 1", "p"), battle("2", "p", "c"), *many("other")])
    (tmp_path / "ids.txt").write_text("\ufeffno 1\r\nother3\n")
    rows = prepare(tmp_path, sources=[str(path)], validation_ids=str(tmp_path / "ids.txt"))
    assert set(rows[rows["split"] == "validation"]["id"]) == {"no 1", "other3"} and len(rows) == 21
    assert list(removed(tmp_path)["id"]) == ["2"]
    (tmp_path / "ids.txt").write_text("1 nowhere")
    with pytest.raises(ValueError, match="1 ids that are not in the data"):
        prepare(tmp_path, sources=[str(path)], validation_ids=str(tmp_path / "ids.txt"))


def test_samples_and_swaps(tmp_path):
    path = write_votes(tmp_path / "votes.csv", many("one", 200))
    other = write_votes(tmp_path / "other.csv", many("two", 30))
    sources = [{"path": str(path), "sample": 100, "swap": 40}, {"path": str(other), "swap": "all"}]
    rows = prepare(tmp_path, sources=sources, num_folds=3)
    assert rows["source"].value_counts().to_dict() == {"votes": 140, "other": 60} and rows["id"].is_unique
    originals = rows[rows["swapped_from"].isna()].set_index("id")
    for copy in rows[rows["swapped_from"].notna()].to_dict("records"):
        original = originals.loc[copy["swapped_from"]]
        assert (copy["split"], copy["group"]) == (original["split"], original["group"])
        assert copy["fold"] == original["fold"] or (pd.isna(copy["fold"]) and pd.isna(original["fold"]))
        for key, value in swap_battle({**original, "vote": list(original["vote"])}).items():
            if key in ("prompt", "response_a", "response_b", "vote"):
                assert list(copy[key]) == list(value)
            elif key in ("model_a", "model_b"):
                assert copy[key] == value
    assert (removed(tmp_path)["reason"] == "not in the sample of 100").sum() == 100
    assert set(rows[rows["split"] == "train"]["fold"]) == {0, 1, 2}


@settings(max_examples=8)
@given(order=st.randoms(), fraction=st.floats(0.2, 0.6))
def test_the_order_of_rows_and_sources_does_not_matter(tmp_path_factory, order, fraction):
    folder = tmp_path_factory.mktemp("orders")
    one = [
        *many("one"),
        battle("x", "p"),
        battle("y", "p", "b", "a"),
        *(battle(f"l{i}", p) for i, p in enumerate(chain(4))),
    ]
    two = [*many("two"), battle("z", "p", "c", "d")]
    results = []
    for shuffle in (False, True):
        sources = [{"path": str(folder / f"{name}.csv"), "swap": 5} for name in ("one", "two")]
        for name, votes in (("one", one), ("two", two)):
            write_votes(folder / f"{name}.csv", order.sample(votes, len(votes)) if shuffle else votes)
        if shuffle:
            order.shuffle(sources)
        rows = prepare(folder, sources=sources, validation_fraction=fraction, num_folds=2)
        assert rows.groupby("group")["split"].nunique().max() == 1
        rows["vote"] = rows["vote"].map(tuple)
        results.append(rows.fillna({"fold": -1}).set_index("id")[["split", "fold", "group", "vote"]].sort_index())
    assert results[0].equals(results[1])


def test_contamination(tmp_path):
    links = chain(2)
    path = write_votes(tmp_path / "votes.csv", [battle("1", "p"), battle("l", links[0]), *many("other")])
    others = [battle("a", "p", "b", "a"), battle("b", " p"), battle("c", links[1]), battle("d", "q")]
    others[1]["response_a"] = ["new"]
    test = write_votes(tmp_path / "test.csv", others)
    rows = prepare(tmp_path, sources=[str(path)], contamination=[str(test)]).set_index("id")
    report = pd.read_csv(tmp_path / "data" / "contamination" / "test.csv", keep_default_na=False).set_index("id")
    assert list(report["match"]) == ["same battle", "same first prompt", "similar first prompt", "none"]
    assert list(report["splits"])[:3] == [rows.loc["1", "split"], rows.loc["1", "split"], rows.loc["l", "split"]]
    assert "Of 4 rows of test.csv, 1 are not in the data" in (tmp_path / "data" / "README.md").read_text()


def test_files_of_other_battles_with_one_name(tmp_path):
    path = write_votes(tmp_path / "votes.csv", many("x"))
    words = ["--sources", path, "--output_dir", "data", "--contamination", "a/test.csv", "b/test.csv"]
    output = recipe("prepare.py", *words, cwd=tmp_path, fails=True)
    assert "contamination: test, test are not all different" in output and "Traceback" not in output


def test_all_problems_at_once(tmp_path):
    with pytest.raises(ValueError) as caught:
        prepare(tmp_path, sources=[{"path": "a.csv", "formt": "lmsys"}, {"path": "b.csv", "swap": "some"}], sed=1)
    message = str(caught.value)
    assert "entry 1: unknown key formt. Did you mean format?" in message and "entry 2: swap:" in message
    assert "sed: unknown key" in message and "Did you mean seed?" in message
    with pytest.raises(ValueError) as caught:
        prepare(tmp_path, sources=["x/a.csv"], validation_fraction=1, near_duplicates=2, num_folds=1)
    message = str(caught.value)
    for key in ("validation_fraction", "near_duplicates", "num_folds"):
        assert f"{key}: input should be " in message
    with pytest.raises(ValueError) as caught:
        prepare(
            tmp_path, sources=["x/a.csv", "y/a.csv"], validation_sources=["c"], conversations=True, push_to_hub=True,
        )  # fmt: skip
    message = str(caught.value)
    for part in (
        "a, a are not all different",
        "source c",
        "tokenizer",
        "push_to_hub: needs hub_dataset_id",
    ):
        assert part in message
    with pytest.raises(ValueError, match="hub_dataset_id: expected owner/name, found 'battles'"):
        prepare(tmp_path, sources=["votes.csv"], push_to_hub=True, hub_dataset_id="battles")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set with conversations, and the tokenizer of these."""
    folder = tmp_path_factory.mktemp("data")
    build_tokenizer().save_pretrained(folder / "tokenizer")
    votes = [*make_battles(60), battle("long", "x" * 400, "y" * 400), battle("turns", "p")]
    for column in ("prompt", "response_a", "response_b"):
        votes[-1][column] = [column * 20] * 3
    write_votes(folder / "votes.csv", votes)
    prepare(
        folder, sources=[{"path": str(folder / "votes.csv"), "license": "cc-by-4.0"}], conversations=True,
        examples="all", tokenizer=str(folder / "tokenizer"), max_length=600,
    )  # fmt: skip
    return folder


def test_conversations_are_the_examples_as_text(data, tokenizer):
    battles = load_dataset(str(data / "data"))
    conversations = load_dataset(str(data / "data"), "conversations")
    for name in ("train", "validation"):
        expected = [(b["id"], example) for b in battles[name] for example in encode_battle(b, tokenizer, 600)]
        assert len(expected) == conversations[name].num_rows
        for (battle_id, example), conversation in zip(expected, conversations[name], strict=True):
            assert conversation["id"] == battle_id and conversation["num_tokens"] == len(example["input_ids"])
            messages = [*conversation["prompt"], *conversation["completion"]]
            ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
            assert ids[: len(example["input_ids"])] == example["input_ids"]
    assert conversations["train"].num_rows + conversations["validation"].num_rows > 62


def test_the_cache_is_used_and_never_stale(data, tokenizer):
    battles = load_battles(str(data / "data"))["train"]
    first = encode_dataset(battles, tokenizer, 600)
    with patch("lmsys_trl.encoding.dataset.encode_battles", side_effect=AssertionError("encoded again")):
        assert encode_dataset(battles, tokenizer, 600)["input_ids"] == first["input_ids"]
        for changed in (
            lambda: encode_dataset(battles.select(range(5)), tokenizer, 600),
            lambda: encode_dataset(battles, tokenizer, 601),
            lambda: encode_dataset(battles, tokenizer, 600, swap="all"),
        ):
            with pytest.raises(AssertionError, match="encoded again"):
                changed()
        other = build_tokenizer()
        other.chat_template = other.chat_template.replace("assistant", "judge")
        with pytest.raises(AssertionError, match="encoded again"):
            encode_dataset(battles, other, 600)
    assert encode_dataset(battles, tokenizer, 600, swap="all").num_rows == 2 * battles.num_rows
    assert conversation_dataset(battles, tokenizer, 600).num_rows == battles.num_rows


def test_fingerprint_of_data(data):
    battles = load_battles(str(data / "data"))["train"]
    assert data_fingerprint(battles) == data_fingerprint(battles.select(range(battles.num_rows)).flatten_indices())
    assert data_fingerprint(battles) != data_fingerprint(battles.select(range(1, battles.num_rows)))


def test_battles_without_a_vote_are_not_trained_on(data, tokenizer):
    battles = load_battles(str(data / "data"))["train"]
    some = battles.map(lambda row, i: {"vote": row["vote"] if i else None}, with_indices=True)
    assert encode_dataset(some, tokenizer, 600).num_rows == battles.num_rows - 1


def test_the_card(data):
    card = DatasetCard.load(data / "data" / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.size_categories == ["n<1K"]
    assert [config["config_name"] for config in card.data.configs] == ["battles", "conversations"]
    assert str(data) not in card.content and str(data) not in (data / "data" / "prepare.json").read_text()
    assert "0 groups are split" in card.content and "cc-by-4.0" in card.text
    for name in ("winners", "turns", "lengths"):
        assert (data / "data" / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (data / "data").iterdir()} == {
        "README.md", "battles", "conversations", "plots", "prepare.json", "removed.parquet",
    }  # fmt: skip


def test_languages_on_the_card(tmp_path):
    votes = [b | {"language": "English" if i % 3 else "pt"} for i, b in enumerate(many("one", 30))]
    (tmp_path / "votes.json").write_text(json.dumps(votes))
    prepare(tmp_path, sources=[str(tmp_path / "votes.json")])
    card = DatasetCard.load(tmp_path / "data" / "README.md")
    assert card.data.language == ["en", "pt"] and "English (20), pt (10)" in card.text


def test_a_license_that_forbids_a_push_is_reported_before_anything_is_written(tmp_path):
    path = write_votes(tmp_path / "votes.csv", many("one"))
    push = {"push_to_hub": True, "hub_dataset_id": "owner/name"}
    for license in (None, "all rights reserved"):
        with pytest.raises(ValueError, match="license of votes forbids passing it on, or is unknown"):
            prepare(tmp_path, sources=[{"path": str(path), "license": license}], **push)
    assert not (tmp_path / "data").exists()


def test_all_bad_files_are_reported_and_the_old_data_set_stays(tmp_path):
    write_votes(tmp_path / "votes.csv", many("one"))
    recipe("prepare.py", "--sources", "votes.csv", "--output_dir", "data/battles", cwd=tmp_path)
    (tmp_path / "one.csv").write_text("id,prompt\n1,[]\n")
    before = (tmp_path / "data" / "battles" / "prepare.json").read_text()
    output = recipe(
        "prepare.py",
        "--sources",
        "one.csv",
        "two.csv",
        "--output_dir",
        "data/battles",
        "--overwrite",
        cwd=tmp_path,
        fails=True,
    )
    assert "one.csv: not a file of battles" in output and "two.csv: there is no such file" in output
    assert "Traceback" not in output
    assert (tmp_path / "data" / "battles" / "prepare.json").read_text() == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["battles"]
    output = recipe("prepare.py", "--sources", "data", "--output_dir", ".", cwd=tmp_path, fails=True)
    assert ".: holds data, which is read" in output
    (tmp_path / "thesis").mkdir()
    output = recipe("prepare.py", "--sources", "one.csv", "--output_dir", "thesis", cwd=tmp_path, fails=True)
    assert "thesis exists and is not a data set made by prepare" in output


def test_a_killed_run_leaves_the_old_data_set_as_it_was(tmp_path):
    write_votes(tmp_path / "votes.csv", many("one", 30))
    write_votes(tmp_path / "more.csv", many("two", 20_000))
    recipe("prepare.py", "--sources", "votes.csv", "--output_dir", "data", cwd=tmp_path)
    before = {path: path.read_bytes() for path in sorted((tmp_path / "data").rglob("*")) if path.is_file()}
    words = ["--sources", "more.csv", "--output_dir", "data", "--overwrite"]
    for wait_for in ("texts.arrow", "battles"):
        command = [programs() / "python", REPOSITORY / "recipes" / "prepare.py", *words]
        process = subprocess.Popen(command, cwd=tmp_path)
        while process.poll() is None and not (tmp_path / ".data.new" / wait_for).exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert before == {path: path.read_bytes() for path in sorted((tmp_path / "data").rglob("*")) if path.is_file()}
    shutil.move(tmp_path / "data", tmp_path / ".data.old")  # as if it had been killed between the last two renames
    recipe("prepare.py", "--sources", "nowhere.csv", "--output_dir", "data", "--overwrite", cwd=tmp_path, fails=True)
    assert before == {path: path.read_bytes() for path in sorted((tmp_path / "data").rglob("*")) if path.is_file()}
    recipe("prepare.py", "--sources", "more.csv", "--output_dir", "data", "--overwrite", cwd=tmp_path)
    assert len(pd.read_parquet(tmp_path / "data" / "battles")) == 20_000
    assert {path.name for path in tmp_path.iterdir()} == {"data", "votes.csv", "more.csv"}


def test_no_group_of_real_votes_is_split(assets, tmp_path):
    names = ("mt_bench_human", "tulu_human_eval", "pandalm_votes")
    rows = prepare(tmp_path, sources=[str(path) for path in sorted((assets / "data").glob("*.csv")) if path.stem in
                                      (*names, "arena_first100")])  # fmt: skip
    num_matched = 0
    for name in names:
        meta = pd.read_csv(assets / "data" / f"{name}.meta.csv", dtype=str)
        matched = rows[rows["source"] == name].merge(meta, on="id", suffixes=("", "_of_meta"))
        num_matched += len(matched)
        assert matched.groupby("group_of_meta")["split"].nunique().max() == 1
        if "item" in matched:  # votes of the same item in both orders
            assert matched.groupby("item")["group"].nunique().max() == 1
            assert (matched.groupby("item")["model_a"].nunique() > 1).sum() > 100
    assert num_matched >= 3000


def test_a_data_set_does_not_depend_on_the_hashes_of_a_process(tmp_path):
    """Items are told apart by hashes that differ from process to process."""
    battles = make_battles(30)
    again = [{**battle, "id": f"{battle['id']}-{k}", "vote": vote_for(WINNERS[(i + k) % 3])}
             for i, battle in enumerate(battles[:20]) for k in range(3)]  # fmt: skip
    write_votes(tmp_path / "votes.csv", [*battles, *again])
    found = []
    for seed in ("1", "2"):
        options = ["--sources", "votes.csv", "--output_dir", f"data{seed}", "--duplicates", "soft"]
        recipe("prepare.py", *options, cwd=tmp_path, PYTHONHASHSEED=seed)
        found.append(
            {
                path.name: path.read_bytes().replace(f"data{seed}".encode(), b"data")
                for path in sorted((tmp_path / f"data{seed}").rglob("*"))
                if path.is_file() and path.suffix != ".png"
            }
        )
    assert "Krippendorff" in found[0]["README.md"].decode() and found[0].keys() == found[1].keys()
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []
