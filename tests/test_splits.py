import csv
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl.battle import WINNERS, first_prompt, swap_battle
from lmsys_trl.sources import read_kaggle_csv
from lmsys_trl.splits import validation_groups
from lmsys_trl.synthetic import make_battles

votes = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(WINNERS)), min_size=2)


@given(votes=votes, share=st.floats(0.05, 0.95), shuffled=st.randoms())
def test_the_order_of_rows_does_not_matter(votes, share, shuffled):
    def choose(votes):
        try:
            return validation_groups([group for group, _ in votes], [winner for _, winner in votes], share)
        except ValueError as error:
            return str(error)

    assert choose(votes) == choose(shuffled.sample(votes, len(votes)))


def test_shares_of_battles_and_winners():
    battles = make_battles(2000)
    held_out = validation_groups([first_prompt(b) for b in battles], [b["winner"] for b in battles], share=0.2)
    validation = [battle for battle in battles if first_prompt(battle) in held_out]
    assert abs(len(validation) - 400) <= 5
    everywhere, there = (Counter(b["winner"] for b in side) for side in (battles, validation))
    for winner in WINNERS:
        assert abs(there[winner] - 0.2 * everywhere[winner]) <= 3
    others = validation_groups([first_prompt(b) for b in battles], [b["winner"] for b in battles], share=0.2, seed=1)
    assert held_out != others


def test_one_prompt_cannot_be_split():
    with pytest.raises(ValueError, match="1 different first prompts"):
        validation_groups(["same"] * 10, ["tie"] * 10, share=0.2)


def test_a_longer_conversation_belongs_to_its_beginning():
    assert first_prompt({"prompt": [" What\nis  it? "]}) == first_prompt({"prompt": ["What is it?", "And then?"]})
    assert first_prompt({"prompt": [None]}) == first_prompt({"prompt": [""]}) == first_prompt({"prompt": []})


@pytest.mark.parametrize("name", ["mt_bench_human", "tulu_human_eval", "pandalm_votes"])
def test_no_question_of_real_votes_on_both_sides(assets, name):
    battles, _ = read_kaggle_csv(assets / "data" / f"{name}.csv")
    with (assets / "data" / f"{name}.meta.csv").open(newline="") as file:
        question = {row["id"]: row["group"] for row in csv.DictReader(file)}
    held_out = validation_groups([first_prompt(b) for b in battles], [b["winner"] for b in battles], share=0.2)
    sides = {}
    for battle in battles:
        sides.setdefault(question[battle["id"]], set()).add(first_prompt(battle) in held_out)
    assert all(len(side) == 1 for side in sides.values())


def test_swapping():
    battle = make_battles(1)[0]
    swapped = swap_battle(battle)
    assert swapped["response_a"] == battle["response_b"] and swapped["model_b"] == battle["model_a"]
    assert swapped["prompt"] == battle["prompt"] and swapped["id"] == battle["id"]
    assert swap_battle(swapped) == battle
    assert [swap_battle({"response_a": [], "response_b": [], "winner": w})["winner"] for w in (*WINNERS, None)] == [
        "model_b",
        "model_a",
        "tie",
        None,
    ]
