"""Figures, intervals, ratings and the page, on simulated forecasts."""

import json
import time
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import recipe, write_votes

from lmsys_trl.baselines import baseline_forecasts, features_table
from lmsys_trl.battle import WINNERS, swap_battle
from lmsys_trl.metrics import flip_rate, score
from lmsys_trl.metrics.ece.ece import binned, calibration_errors
from lmsys_trl.metrics.log_loss.log_loss import log_losses
from lmsys_trl.predictions import PROBABILITIES, predictions_table, save_predictions
from lmsys_trl.report.bootstrap import GroupBootstrap
from lmsys_trl.report.figures import report_figures, scores
from lmsys_trl.report.page import render_page
from lmsys_trl.report.ratings import bradley_terry, model_ratings
from lmsys_trl.report.slices import agreement, attributes, slice_figures
from lmsys_trl.report.votes import forecasts_of, read_predictions, votes_of_predictions, votes_table
from lmsys_trl.synthetic import make_battles

HOSTILE = (
    "</pre></article><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} <a href='javascript:alert(3)'>"
)


def predict(battles, seed=0, noise=0.5, shift=0.3, orders=("ab", "ba", "mean")):
    """Forecasts around the generator's probabilities, that lean to the first place."""
    random = np.random.default_rng(seed)
    logits = np.log([battle["probabilities"] for battle in battles]) + random.normal(0, noise, (len(battles), 3))
    forecasts = {"ab": softmax(logits + [shift, 0, 0]), "ba": softmax(logits + [0, shift, 0])}
    forecasts["mean"] = (forecasts["ab"] + forecasts["ba"]) / 2
    return predictions_table(
        [
            {
                "id": battle["id"],
                "order": order,
                **dict(zip(PROBABILITIES, forecasts[order][i], strict=True)),
                "winner": battle["winner"],
                "num_tokens": 50 + i % 300,
            }
            for i, battle in enumerate(battles)
            for order in orders
        ]
    )


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def figures_of(battles, judges, known=None):
    votes = votes_table(battles)
    forecasts = {name: forecasts_of(name, table, votes) for name, table in judges.items()}
    table = attributes(votes, next(iter(forecasts.values())).num_tokens)
    baselines, _ = baseline_forecasts(features_table(battles), None)
    return report_figures(votes, forecasts, baselines, table, known), forecasts, votes


def contains(figure, value):
    return figure["low"] <= value <= figure["high"]


def test_an_interval_is_that_of_groups():
    random = np.random.default_rng(1)
    groups = random.integers(0, 40, 300).astype(str)
    values = random.normal(size=300)
    bootstrap = GroupBootstrap(groups)
    found = bootstrap.mean(values)
    # The same draws in the plain way: groups are numbered as they first occur.
    names, members = list(dict.fromkeys(groups)), {name: np.flatnonzero(groups == name) for name in set(groups)}
    draws = np.random.default_rng(0)
    means = []
    for _ in range(1000):
        drawn = [members[names[i]] for i in draws.integers(0, len(names), len(names))]
        means.append(values[np.concatenate(drawn)].mean())
    assert (found["low"], found["high"]) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-5)
    assert found["value"] == pytest.approx(values.mean())
    # Ten copies of every battle are no more evidence, unless they are taken for battles of their own.
    copies = GroupBootstrap(np.repeat(groups, 10)).mean(np.repeat(values, 10))
    assert copies == pytest.approx(found, abs=1e-5)
    alone = GroupBootstrap(range(3000)).mean(np.repeat(values, 10))
    assert alone["high"] - alone["low"] < 0.5 * (found["high"] - found["low"])
    # Of a part of the battles; of one group nothing can be said.
    part = values > 0
    assert bootstrap.mean(values, part)["value"] == pytest.approx(values[part].mean())
    assert GroupBootstrap(["one"] * 5).mean(values[:5])["low"] is None


def overconfident(n, random):
    truth = random.dirichlet([2, 1, 1], size=n)
    labels = (random.random((n, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    return truth**1.7 / (truth**1.7).sum(axis=1, keepdims=True), labels


def test_intervals_hold_the_truth():
    """Of 100 samples about 95 intervals hold the log loss and the calibration errors of very many battles."""
    random = np.random.default_rng(0)
    forecast, labels = overconfident(200_000, random)
    ece, squared, _ = calibration_errors(binned(forecast, labels).sum(axis=0))
    truth = {"log_loss": log_losses(forecast, labels).mean(), "ece": ece, "debiased_ce": np.sqrt(squared)}
    held = dict.fromkeys(truth, 0)
    for _ in range(100):
        found = scores(*overconfident(400, random), GroupBootstrap(range(400), num_resamples=200))
        for name, value in truth.items():
            held[name] += contains(found[name], value)
    assert min(held.values()) >= 86, held


def test_figures_are_those_of_the_metrics():
    battles = make_battles(300, seed="figures")
    known = np.array([battle["probabilities"] for battle in battles])
    figures, forecasts, votes = figures_of(battles, {"one": predict(battles), "two": predict(battles, 1, 2.0)}, known)
    labels = votes["label"].to_numpy()
    judge, orders = figures["judges"]["one"], forecasts["one"].orders
    for found, forecast in ((judge, orders["mean"]), *((judge["orders"][order], orders[order]) for order in orders)):
        for name, value in score(forecast, labels).items():
            assert found[name]["value"] == pytest.approx(value), name
            assert found[name]["low"] <= value <= found[name]["high"] or name in ("ece", "debiased_ce")
    assert judge["position"]["flip_rate"]["value"] == pytest.approx(flip_rate(orders["ab"], orders["ba"]))
    assert judge["position"]["shift_to_a"]["low"] > 0
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures

    two_less_one = figures["differences"][0]
    assert (two_less_one["judge"], two_less_one["less"]) == ("two", "one") and two_less_one["log_loss"]["low"] > 0
    of_two = figures["judges"]["two"]["log_loss"]["value"]
    assert two_less_one["log_loss"]["value"] == pytest.approx(of_two - judge["log_loss"]["value"])
    # Paired: the difference is known better than the two log losses.
    widths = [f["high"] - f["low"] for f in (two_less_one["log_loss"], figures["judges"]["two"]["log_loss"])]
    assert widths[0] < widths[1]
    assert judge["known_probabilities"]["mean_absolute_error"]["value"] == pytest.approx(
        np.abs(forecasts["one"].final - known).mean()
    )
    assert 0 < judge["known_probabilities"]["kl_divergence"]["value"] < 0.3
    assert figures["best_possible"]["log_loss"]["value"] < judge["log_loss"]["value"]

    first = judge["confident_mistakes"][0]
    assert WINNERS.index(first["vote"]) != np.argmax(list(first["forecast"].values()))
    wrong = forecasts["one"].final.max(axis=1)[forecasts["one"].final.argmax(axis=1) != labels]
    assert max(first["forecast"].values()) == pytest.approx(wrong.max())


def test_slices():
    table = pd.DataFrame(
        {"turns": ["1"] * 30 + ["2"] * 20, "models": list("abcde") * 4 + ["f"] * 30, "same": ["x"] * 50}
    )
    labels = np.zeros(50, dtype=int)
    forecast = np.tile([0.5, 0.25, 0.25], (50, 1))
    forecast[30:] = [0.2, 0.4, 0.4]
    found = slice_figures(table, labels, {"judge": forecast}, GroupBootstrap(range(50)))
    assert [(row["attribute"], row["slice"], row["num_battles"]) for row in found] == [
        ("turns", "2", 20),
        ("turns", "1", 30),
        ("models", "f", 30),
        ("models", "5 others", 20),
    ]
    assert found[0]["log_loss"]["judge"]["value"] == pytest.approx(-np.log(0.2))
    assert [row["accuracy"]["judge"]["value"] for row in found[:2]] == [0, 1]


def test_agreement_between_people():
    one, other, alone = make_battles(200, seed="people")[:3]
    votes = [{**one, "id": "1", "winner": "model_a"}, {**one, "id": "2", "winner": "model_a"}]
    votes += [{**swap_battle(one), "id": "3", "winner": "model_a"}]  # for the other answer
    votes += [{**other, "id": "4", "winner": "model_b"}, {**swap_battle(other), "id": "5", "winner": "model_a"}, alone]
    table = votes_table(votes)
    found = agreement(table, {"judge": np.tile([0.6, 0.3, 0.1], (6, 1))}, GroupBootstrap(table["group"]))
    assert (found["num_battles"], found["num_items"]) == (5, 2)
    assert found["people"]["value"] == pytest.approx((1 / 2 + 1 / 2 + 0 + 1 + 1) / 5)
    assert found["judges"]["judge"]["accuracy"]["value"] == pytest.approx(4 / 5)
    assert found["best_accuracy"]["value"] == pytest.approx((2 + 2) / 5)
    assert found["best_log_loss"]["value"] == pytest.approx(-(2 * np.log(2 / 3) + np.log(1 / 3)) / 5)
    assert agreement(votes_table([one, other]), {}, GroupBootstrap(["a", "b"])) is None


def test_ratings_are_found():
    random = np.random.default_rng(0)
    strengths = np.array([1200.0, 1100, 1000, 900, 800])
    a, b = random.integers(0, 5, (2, 20_000))
    a, b = a[a != b], b[a != b]
    chance = 1 / (1 + 10 ** ((strengths[b] - strengths[a]) / 400))
    names = np.array(["v", "w", "x", "y", "z"], dtype=object)
    votes = pd.DataFrame(
        {
            "label": np.where(random.random(len(a)) > chance, 1, 0),
            "group": random.integers(0, 500, len(a)).astype(str),
            "model_a": names[a],
            "model_b": names[b],
        }
    )
    alone = pd.DataFrame({"label": [0], "group": ["g"], "model_a": ["p"], "model_b": ["q"]})
    votes = pd.concat([votes, alone], ignore_index=True)
    right = np.append(np.stack([chance, 1 - chance, 0 * chance], axis=1), [[1, 0, 0]], axis=0)
    found = model_ratings(votes, {"right": right, "reversed": right[:, [1, 0, 2]]}, GroupBootstrap(votes["group"]))
    assert [row["model"] for row in found["models"]] == ["v", "w", "x", "y", "z"] and found["num_left_out"] == 1
    for row, strength in zip(found["models"], strengths, strict=True):
        assert row["judges"]["right"]["value"] == pytest.approx(strength, abs=2)
        assert row["people"]["value"] == pytest.approx(strength, abs=25)
        assert row["people"]["low"] < row["people"]["value"] < row["people"]["high"]
    assert found["rank_correlation"]["right"]["spearman"]["value"] == pytest.approx(1)
    assert found["rank_correlation"]["reversed"]["kendall"]["value"] == pytest.approx(-1)
    assert model_ratings(votes[:0], {}, None) is None
    # A tie is half a win for both: who only ties is as strong as the other.
    assert bradley_terry(np.array([[0], [1]]), np.array([[0.5, 0.5]]), 2) == pytest.approx([1000, 1000])


def test_what_is_wrong_with_predictions_is_told(tmp_path):
    battles = make_battles(20, seed="wrong")
    votes, table = votes_table(battles), predict(battles)
    doubled = pd.concat([table, table[:1]])
    with pytest.raises(ValueError, match=f"1 battles are predicted twice, the first with id {battles[0]['id']}"):
        forecasts_of("x", doubled, votes)
    with pytest.raises(ValueError, match="1 battles are not predicted"):
        forecasts_of("x", table[3:], votes)
    with pytest.raises(ValueError, match="1 battles are not among the votes"):
        forecasts_of("x", table, votes[1:])
    with pytest.raises(ValueError, match="2 rows are no probabilities"):
        forecasts_of("x", table.assign(winner_tie=[2.0, -1.0, *table["winner_tie"][2:]]), votes)
    others = table.assign(winner=table["winner"].map({"model_a": "tie", "tie": "model_a"}).fillna("model_b"))
    with pytest.raises(ValueError, match="votes are others"):
        forecasts_of("x", others, votes)
    with pytest.raises(ValueError, match="holds no votes"):
        votes_of_predictions(table.assign(winner=None))
    (tmp_path / "text.parquet").write_text("nothing")
    table.drop(columns="order").to_parquet(tmp_path / "columns.parquet")
    message = "(?s)text.parquet: not a file of forecasts.*columns.parquet: no columns order"
    with pytest.raises(ValueError, match=message):
        read_predictions([str(tmp_path / "text.parquet"), str(tmp_path / "columns.parquet")])
    with pytest.raises(ValueError, match="none.parquet: there is no such file"):
        read_predictions([str(tmp_path / "none.parquet")])


def test_a_second_order_for_some_battles_only():
    battles = make_battles(30, seed="some")
    table = predict(battles)
    some = table[(table["order"] == "ab") | table["id"].isin([battle["id"] for battle in battles[:10]])]
    votes = votes_of_predictions(some)
    forecasts = forecasts_of("x", some, votes)
    assert list(forecasts.whole) == ["ab"]
    assert np.allclose(forecasts.final[:10], forecasts.orders["mean"][:10])
    assert np.allclose(forecasts.final[10:], forecasts.orders["ab"][10:])
    baselines, _ = baseline_forecasts(pd.DataFrame({"winner": some["winner"][:30], "group": some["id"][:30]}), None)
    assert baselines.keys() == {"uniform", "class_prior"}
    figures = report_figures(votes, {"x": forecasts}, baselines, attributes(votes, forecasts.num_tokens))
    assert figures["judges"]["x"]["position"]["num_battles"] == 10 and figures["ratings"] is None


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.texts.append(text)


def test_hostile_texts_stay_text():
    battles = make_battles(30, seed="hostile")
    pages = []
    for text in ("harmless", HOSTILE):
        named = [
            {**b, "prompt": [text] * len(b["prompt"]), "response_a": [text] * len(b["prompt"])}
            | {"id": f"{i}{text}", "model_a": text, "model_b": ("m", "n")[i % 2], "source": (text, "s")[i % 2]}
            for i, b in enumerate(battles)
        ]
        figures, _, _ = figures_of(named, {text: predict(named)})
        figures["judges"][text]["num_battles_with_a_training_prompt"] = 3
        record = {"battles": text, "baselines_fitted": text}
        page = render_page(figures, {text: {text: b"png"}}, {battle["id"]: battle for battle in named}, record)
        pages.append(Elements(page))
    harmless, hostile = pages
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in harmless.found]
    assert {"script", "a", "iframe"}.isdisjoint(tag for tag, _ in hostile.found)
    assert not any(name.startswith("on") for _, attributes in hostile.found for name in attributes)
    assert sum(HOSTILE in text for text in hostile.texts) == sum("harmless" in text for text in harmless.texts) > 20
    assert any(attributes.get("content", "").startswith("default-src 'none'") for _, attributes in hostile.found)


def test_ten_thousand_battles_in_seconds():
    battles = make_battles(10_000, seed="many")
    start = time.process_time()
    figures, _, _ = figures_of(battles, {"judge": predict(battles)})
    assert time.process_time() - start < 20 and figures["num_battles"] == 10_000


def test_predictions_alone_and_beside_their_battles(tmp_path):
    battles = make_battles(60, seed="recipe")
    save_predictions(predict(battles), tmp_path / "a.parquet")
    save_predictions(predict(battles, 1, orders=["ab"]), tmp_path / "b.parquet")
    write_votes(tmp_path / "votes.csv", battles)
    recipe("validate.py", "--predictions", "a.parquet", "--output_dir", "alone", cwd=tmp_path)
    alone = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    assert alone["num_groups"] == 60 and {row["attribute"] for row in alone["slices"]} == {"vote", "tokens"}
    output = recipe(
        "validate.py", "--predictions", "a.parquet", "b.parquet", "--test_file", "votes.csv", "--output_dir", "two",
        cwd=tmp_path,
    )  # fmt: skip
    assert "a: verdicts that flip" in output and "b: verdicts" not in output
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert two["judges"]["a"]["log_loss"]["value"] == pytest.approx(alone["judges"]["a"]["log_loss"]["value"])
    assert two["ratings"]["models"] and {"turns", "models"} <= {row["attribute"] for row in two["slices"]}
    assert set(pd.read_parquet(tmp_path / "two" / "predictions.parquet")["judge"]) == {"a", "b"}
    page = (tmp_path / "two" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(list((tmp_path / "two" / "plots").glob("*.png"))) == 9


def test_ratings_where_some_resamples_have_no_battle_of_known_models():
    """As in 224 real votes, of which few groups of prompts came with the models' names."""
    models = [("p", "q"), ("q", "r"), ("r", "p"), ("p", "q"), *[(None, None)] * 9]
    votes = pd.DataFrame(
        {
            "label": [0, 1, 0, 2, *[0] * 9],
            "group": ["one", "one", "one", "one", *map(str, range(9))],
            "model_a": [a for a, _ in models],
            "model_b": [b for _, b in models],
        }
    )
    found = model_ratings(votes, {"judge": np.full((13, 3), 1 / 3)}, GroupBootstrap(votes["group"]))
    for row in found["models"]:
        assert row["people"]["low"] <= row["people"]["value"] <= row["people"]["high"]
