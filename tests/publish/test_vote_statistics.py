"""What the votes say, on votes of which it is known."""

import random

import evalica
import numpy as np
import pandas as pd
import pytest

from lmsys_trl.battle import vote_for
from lmsys_trl.data.text_store import open_texts, store_battles
from lmsys_trl.publish.vote_statistics import krippendorff_alpha, vote_statistics


def statistics(tmp_path, battles):
    frame = store_battles(battles, tmp_path / "texts.arrow")
    return vote_statistics(frame, open_texts(tmp_path / "texts.arrow"))


def battle(id, a, b, winner, annotator=None, prompt=None):
    return {"id": str(id), "source": "s", "prompt": [prompt or f"p{id}"], "response_a": [a], "response_b": [b],
            "vote": vote_for(winner), "annotator": annotator}  # fmt: skip


def test_what_is_favored(tmp_path):
    battles = []
    for i in range(100):
        long, short = "- word\n" * (3 + i % 5), "word"
        a, b = (long, short) if i % 2 else (short, long)
        longer, shorter = ("model_a", "model_b") if i % 2 else ("model_b", "model_a")
        battles.append(battle(i, a, b, "tie" if i >= 90 else longer if i < 72 else shorter))
    found = statistics(tmp_path, battles)
    assert (found.num_votes, found.num_ties, found.num_repeated, found.alpha) == (100, 10, 0, None)
    assert found.favors["longer"]["value"] == found.favors["more formatted"]["value"] == pytest.approx(0.8)
    assert found.favors["longer"]["low"] < 0.8 < found.favors["longer"]["high"]
    assert found.favors["first"]["value"] == pytest.approx(0.5, abs=0.02)
    assert found.lines()[0] == "100 votes, 10% of them ties." and "The longer answer wins 80% (" in found.lines()[2]


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 1.0, 1.0), (0.3, 0.2, 0.7), (1.0, -0.2, 0.2)])
def test_agreement(tmp_path, noise, low, high):
    """Three people vote on each item, one of them in the other order of the answers, and a fourth at random."""
    rng = random.Random(0)
    battles = []
    for i in range(60):
        best = rng.choice(["a", "b"])
        for who in ("ann", "ben", "cleo"):
            said = rng.choice(["a", "b"]) if rng.random() < noise else best
            a, b = ("answer a", "answer b") if who != "ben" else ("answer b", "answer a")
            winner = "model_a" if f"answer {said}" == a else "model_b"
            battles.append(battle(f"{i}{who}", a, b, winner, who, prompt=f"question {i}"))
    found = statistics(tmp_path, battles)
    assert found.num_repeated == 60 and (found.num_contradictory == 0) == (noise == 0)
    assert low <= found.alpha["value"] <= high
    assert found.alpha["low"] <= found.alpha["value"] <= found.alpha["high"]
    assert [row["votes"] for row in found.annotators] == [60, 60, 60]
    assert all(row["compared"] == 120 for row in found.annotators)
    if noise == 0:
        assert all(row["agreement"] == 1 for row in found.annotators)


@pytest.mark.parametrize("seed", range(20))
def test_agreement_as_another_library_computes_it(seed):
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(rng.integers(2, 6, size=30), [0.5, 0.3, 0.2])
    ratings = pd.DataFrame([pd.Series(np.repeat([0.0, 1.0, 2.0], item)) for item in counts]).T
    expected = evalica.alpha(ratings, distance="nominal").alpha
    assert krippendorff_alpha(counts)["value"] == pytest.approx(expected, abs=1e-12)


def test_no_votes_for_one_answer(tmp_path):
    found = statistics(tmp_path, [battle(1, "a", "b", "tie"), battle(2, "a", "b", "tie")])
    assert found.favors == {} and found.num_ties == 2 and len(found.lines()) == 1
