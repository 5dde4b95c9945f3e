"""Figures of models that a judge has compared: against values computed by hand and other code."""

import evalica
import numpy as np
import pandas as pd
import pytest

from lmsys_trl.battle import swap_probabilities
from lmsys_trl.errors import UserError
from lmsys_trl.predictions.table import PROBABILITIES, predictions_table
from lmsys_trl.report.bootstrap import GroupBootstrap
from lmsys_trl.report.comparison import comparison_figures, unlinked_models
from lmsys_trl.report.comparison_page import summary_lines, write_comparison
from lmsys_trl.report.length_control import length_controlled_win_rate
from lmsys_trl.report.ratings import MEAN_RATING, style_controlled_ratings


def battle(number, a="x", b="y", lengths=(10, 10), turns=1):
    return {
        "id": f"{number}: {a} - {b}", "prompt": [f"prompt {number}"] * turns, "model_a": a, "model_b": b,
        "response_a": ["a" * lengths[0]] * turns, "response_b": ["b" * lengths[1]] * turns, "vote": None,
    }  # fmt: skip


def predicted(battles, in_ab, in_ba):
    """A predictions table with these probabilities in both orders, in terms of the battles as given."""
    orders = {"ab": np.array(in_ab), "ba": np.array(in_ba)}
    orders["mean"] = (orders["ab"] + orders["ba"]) / 2
    return predictions_table(
        [
            {"id": found["id"], "order": order, **dict(zip(PROBABILITIES, rows[k], strict=True)), "num_tokens": 5}
            for order, rows in orders.items()
            for k, found in enumerate(battles)
        ]
    )


def test_two_models_by_hand():
    battles = [battle(0, lengths=(40, 10)), battle(1, lengths=(10, 40)), battle(2), battle(3, turns=2)]
    in_ab = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]
    in_ba = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]
    figures = comparison_figures(battles, predicted(battles, in_ab, in_ba))
    (pair,) = figures["pairs"]
    assert pair["models"] == ["x", "y"] and pair["num_battles"] == figures["num_battles"] == 4
    assert pair["win_rate"]["value"] == pytest.approx((0.75 + 0.25 + 0.45 + 0.5) / 4)
    assert pair["win_rate"]["low"] <= pair["win_rate"]["value"] <= pair["win_rate"]["high"]
    assert [pair["expected"][name]["value"] for name in ("win", "loss", "tie")] == pytest.approx([0.35, 0.375, 0.275])
    assert [pair["verdicts"][name]["value"] for name in ("win", "loss", "tie")] == [0.25, 0.5, 0.25]
    assert pair["flip_rate"]["value"] == figures["flip_rate"]["value"] == 0.25
    assert pair["length_controlled_win_rate"] == {"value": None, "low": None, "high": None}  # fewer than folds
    slices = {(row["attribute"], row["slice"]): row["win_rate"]["value"] for row in pair["slices"]}
    assert slices[("length", "x is longer")] == pytest.approx(0.75) and slices[("turns", "2")] == pytest.approx(0.5)
    assert slices[("length", "about equal")] == pytest.approx(0.475) and slices[("length", "y is longer")] == 0.25
    assert [win["id"] for win in pair["clearest"]["x"]] == [battles[0]["id"]]
    assert [win["id"] for win in pair["clearest"]["y"]] == [battles[1]["id"], battles[2]["id"]]
    assert "models" not in figures
    with pytest.raises(UserError, match="there are none"):
        comparison_figures([], predicted(battles, in_ab, in_ba))
    with pytest.raises(UserError, match="4 battles were not predicted in both orders"):
        comparison_figures(battles, predicted(battles, in_ab, in_ba).query("order == 'ab'"))


def test_models_that_no_battle_links_are_named():
    battles = [{"model_a": a, "model_b": b} for a, b in ("xy", "yz", "pq")]
    (note,) = unlinked_models(battles)
    assert note.endswith("can't be compared with each other: p, q | x, y, z")
    assert unlinked_models(battles[:2]) == []


@pytest.fixture(scope="module")
def league():
    """Battles of three models of known strength, one of which writes long answers."""
    random = np.random.default_rng(0)
    strength = {"weak": 0.0, "good": 0.5, "long": 1.0}
    battles, probabilities = [], []
    for number in range(150):
        for a, b in (("weak", "good"), ("weak", "long"), ("good", "long")):
            lengths = [round(100 * (1 + 2 * (name == "long")) * random.lognormal(0, 0.5)) for name in (a, b)]
            battles.append(battle(number, a, b, lengths))
            wins = 1 / (1 + np.exp(strength[b] - strength[a] + 0.8 * np.log(lengths[1] / lengths[0])))
            probabilities.append([0.9 * wins, 0.9 * (1 - wins), 0.1])
    return battles, predicted(battles, probabilities, probabilities)


def test_ratings_and_style(league):
    battles, predictions = league
    figures = comparison_figures(battles, predictions)
    rows = {row["model"]: row for row in figures["models"]}
    assert [row["model"] for row in figures["models"]] == ["long", "good", "weak"]
    assert sum(row["rating"]["value"] for row in rows.values()) == pytest.approx(3 * MEAN_RATING)
    mean = predictions[predictions["order"] == "mean"][PROBABILITIES].to_numpy()
    models = [[found["model_a"], found["model_b"]] for found in battles]
    # The same by evalica: each battle is won, lost and tied by its probabilities.
    xs, ys = (np.repeat([pair[side] for pair in models], 3).tolist() for side in (0, 1))
    winners = [evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw] * len(battles)
    other = evalica.bradley_terry(xs, ys, winners, weights=mean.ravel().tolist(), tie_weight=0.5).scores
    elo = 400 * np.log10(other)
    for name, row in rows.items():
        assert row["rating"]["value"] == pytest.approx(elo[name] - elo.mean() + MEAN_RATING, abs=2)
        assert row["rating"]["low"] < row["rating"]["value"] < row["rating"]["high"] and row["num_battles"] == 300
    gap = {
        key: rows["long"][key]["value"] - rows["good"][key]["value"] for key in ("rating", "style_controlled_rating")
    }
    # At equal length half a nat is left, less what ties take of it.
    assert gap["style_controlled_rating"] == pytest.approx(0.9 * 0.5 * 400 / np.log(10), abs=12)
    assert gap["rating"] > gap["style_controlled_rating"] + 50
    pairs = {tuple(row["models"]): row for row in figures["pairs"]}
    assert (
        set(pairs) == {("weak", "good"), ("weak", "long"), ("good", "long")} and "slices" not in pairs["weak", "good"]
    )


def test_style_without_differences_changes_nothing():
    a, b, points = np.array([0, 0, 1] * 20), np.array([1, 2, 2] * 20), np.array([0.7, 0.8, 0.6] * 20)
    bootstrap = GroupBootstrap([str(k // 3) for k in range(60)])
    plain, _ = style_controlled_ratings(a, b, points, np.zeros((60, 2)), 3, bootstrap)
    swapped, resampled = style_controlled_ratings(b, a, 1 - points, np.zeros((60, 2)), 3, bootstrap)
    assert plain == pytest.approx(swapped) and plain.argmax() == 0 and resampled.shape[1] == 3


def test_length_control():
    random = np.random.default_rng(1)
    difference = random.normal(50, 100, 400)
    by_length = 1 / (1 + np.exp(-1.5 * np.tanh(difference / np.std(difference, ddof=1)) - 0.3))
    bootstrap = GroupBootstrap([str(k) for k in range(400)])
    found = length_controlled_win_rate(by_length, difference, bootstrap)
    assert found["value"] == pytest.approx(1 / (1 + np.exp(-0.3)), abs=0.01) and found["low"] < found["high"]
    assert by_length.mean() > found["value"] + 0.05
    other = length_controlled_win_rate(1 - by_length, -difference, bootstrap)
    assert other["value"] == pytest.approx(1 - found["value"], abs=1e-3)
    assert length_controlled_win_rate(by_length, np.full(400, 5), bootstrap)["value"] == pytest.approx(
        by_length.mean()
    )


def test_order_of_the_answers_does_not_matter(league):
    battles, predictions = league
    flipped = [
        {**found, "model_a": found["model_b"], "model_b": found["model_a"], "response_a": found["response_b"],
         "response_b": found["response_a"]}
        for found in battles
    ]  # fmt: skip
    swapped = predictions.copy()
    swapped[PROBABILITIES] = swap_probabilities(predictions[PROBABILITIES].to_numpy())
    one, other = comparison_figures(battles, predictions), comparison_figures(flipped, swapped)
    for row, twin in zip(one["models"], other["models"], strict=True):
        assert row["model"] == twin["model"]
        for key in ("rating", "style_controlled_rating", "win_rate"):
            assert row[key]["value"] == pytest.approx(twin[key]["value"], abs=0.05)


def test_page_and_sentences(tmp_path, league):
    battles = [battle(k, "<b>x", "y", lengths=(10 + k, 20)) for k in range(20)]
    probabilities = [[0.8, 0.1, 0.1]] * 20
    predictions = predicted(battles, probabilities, probabilities)
    figures = comparison_figures(battles, predictions)
    lines = summary_lines(figures)
    assert lines[0] == "<b>x wins 85.0% (85.0% to 85.0%) against y on 20 battles, ties as half a win. <b>x is better."
    assert lines[1] == "Expected votes: win 80%, loss 10%, tie 10%. Swapping the answers changes 0% of the verdicts."
    write_comparison(tmp_path / "two", figures, {"notes": ["<i>note"]}, battles, predictions)
    page = (tmp_path / "two" / "report.html").read_text()
    assert "<b>x" not in page and "&lt;b&gt;x wins" in page and "&lt;i&gt;note" in page and "Clearest wins of" in page
    many = comparison_figures(*league)
    assert summary_lines(many)[0].startswith("1. long: rating 1")
    write_comparison(tmp_path / "many", many, {"notes": []}, *league)
    page = (tmp_path / "many" / "report.html").read_text()
    assert "Leaderboard" in page and "good – long" in page
    assert len(pd.read_parquet(tmp_path / "many" / "predictions.parquet")) == 3 * 450


def test_neither_is_better():
    battles = [battle(k) for k in range(20)]
    probabilities = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]] * 10
    lines = summary_lines(comparison_figures(battles, predicted(battles, probabilities, probabilities)))
    assert lines[0].endswith("Neither is shown to be better.")


def test_a_few_prompts_show_nothing():
    battles = [battle(k) for k in range(9)]
    probabilities = [[0.8, 0.1, 0.1]] * 9
    lines = summary_lines(comparison_figures(battles, predicted(battles, probabilities, probabilities)))
    assert lines[0].endswith("There are too few groups of prompts, 9, to say which is better.")
