from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl.battle import WINNERS, first_prompt, swap_battle, vote_for, winner_of
from lmsys_trl.data.splits import assign_folds, held_out_groups, sample_by_hash
from lmsys_trl.data.synthetic import make_battles

votes = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(WINNERS)), min_size=2)


def arrays(votes):
    return np.array([group for group, _ in votes]), np.array([[winner == w for w in WINNERS] for _, winner in votes])


@given(votes=votes, fraction=st.floats(0.05, 0.95), shuffled=st.randoms())
def test_the_order_of_rows_does_not_matter(votes, fraction, shuffled):
    def choose(votes):
        groups, vote_array = arrays(votes)
        try:
            return set(groups[held_out_groups(groups, vote_array, fraction)])
        except ValueError as error:
            return str(error)

    assert choose(votes) == choose(shuffled.sample(votes, len(votes)))


def test_fractions_of_battles_and_winners():
    votes = [(first_prompt(battle), winner_of(battle["vote"])) for battle in make_battles(2000)]
    groups, vote_array = arrays(votes)
    held_out = held_out_groups(groups, vote_array, fraction=0.2)
    assert abs(held_out.sum() - 400) <= 5
    assert not set(groups[held_out]) & set(groups[~held_out])
    wins, wins_held_out = Counter(winner for _, winner in votes), vote_array[held_out].sum(axis=0)
    for winner, count in zip(WINNERS, wins_held_out, strict=True):
        assert abs(count - 0.2 * wins[winner]) <= 3
    assert (held_out != held_out_groups(groups, vote_array, fraction=0.2, seed=1)).any()


def test_folds_are_equal_and_no_group_is_split():
    groups, votes = arrays([(first_prompt(battle), winner_of(battle["vote"])) for battle in make_battles(1000)])
    folds = assign_folds(groups, votes, 4)
    wins = np.array([votes[folds == fold].sum(axis=0) for fold in range(4)])
    assert (abs(wins - wins.mean(axis=0)) <= 4).all()
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))


def test_one_prompt_cannot_be_split():
    with pytest.raises(ValueError, match="10 battles in 1 groups"):
        held_out_groups(np.array(["same"] * 10), np.tile([0, 0, 1], (10, 1)), fraction=0.2)


def test_a_continued_conversation_has_the_same_first_prompt():
    assert first_prompt({"prompt": [" What\nis  it? "]}) == first_prompt({"prompt": ["What is it?", "And then?"]})
    assert first_prompt({"prompt": [None]}) == first_prompt({"prompt": [""]}) == first_prompt({"prompt": []})


def test_a_sample_does_not_depend_on_the_order_of_ids():
    ids = [str(i) for i in range(100)]
    chosen = {ids[i] for i in sample_by_hash(ids, 10, "swap 1")}
    assert len(chosen) == 10 and chosen == {ids[::-1][i] for i in sample_by_hash(ids[::-1], 10, "swap 1")}
    assert chosen != {ids[i] for i in sample_by_hash(ids, 10, "swap 2")}
    assert len(sample_by_hash(ids, 1000, "")) == 100


def test_swapping():
    battle = make_battles(1)[0] | {"vote": [0.5, 0.3, 0.2]}
    swapped = swap_battle(battle)
    assert swapped["response_a"] == battle["response_b"] and swapped["model_b"] == battle["model_a"]
    assert swapped["prompt"] == battle["prompt"] and swapped["id"] == battle["id"]
    assert swapped["vote"] == [0.3, 0.5, 0.2]
    assert swap_battle(swapped) == battle
    swaps = [swap_battle({"response_a": [], "response_b": [], "vote": vote_for(w)})["vote"] for w in (*WINNERS, None)]
    assert swaps == [vote_for(winner) for winner in ("model_b", "model_a", "tie", None)]
