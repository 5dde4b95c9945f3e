import numpy as np
import pytest

from lmsys_trl.battle import winner_of
from lmsys_trl.data.synthetic import make_battles, vote_probabilities


def test_the_generator_draws_from_its_probabilities():
    battles = make_battles(3000)
    assert battles == make_battles(3000) and battles[:5] != make_battles(5, seed=1)
    assert all(sum(battle["probabilities"]) == pytest.approx(1) for battle in battles)
    for i, winner in enumerate(("model_a", "model_b", "tie")):
        expected = np.mean([battle["probabilities"][i] for battle in battles])
        fraction = np.mean([winner_of(battle["vote"]) == winner for battle in battles])
        assert fraction == pytest.approx(expected, abs=0.03)
    a, b, tie = vote_probabilities(8.0, 0.0)
    assert b > 0.9 > tie > a and vote_probabilities(1, 1) == vote_probabilities(4, 4)
    assert {len(battle["prompt"]) for battle in battles} == {1, 2, 3}
