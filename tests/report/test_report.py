"""Figures, intervals, ratings and the page, on simulated predictions."""

import json
import re
from cProfile import Profile
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from helpers.run import recipe
from helpers.votes import write_votes

from lmsys_trl.battle import WINNERS, swap_battle, vote_for, winner_of
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.metrics import score
from lmsys_trl.metrics.functions import binned, calibration_errors, flips, log_losses
from lmsys_trl.predictions.baselines import baseline_predictions
from lmsys_trl.predictions.features import features_table
from lmsys_trl.predictions.table import (
    PROBABILITIES,
    VOTE_COLUMNS,
    predictions_table,
    save_predictions,
    vote_columns,
)
from lmsys_trl.publish import push
from lmsys_trl.report.bootstrap import GroupBootstrap
from lmsys_trl.report.figures import report_figures, scores
from lmsys_trl.report.page import REPORT_FILES, code_span, render_markdown, render_page
from lmsys_trl.report.ratings import bradley_terry, model_ratings
from lmsys_trl.report.slices import annotator_agreement, battle_attributes, slice_figures
from lmsys_trl.report.votes import judge_predictions, read_predictions, votes_from_predictions, votes_table

PLOTS = (
    "Reliability", "Votes and verdicts", "Log loss by length", "Both orders", "Ratings", "Known probabilities",
)  # fmt: skip
HOSTILE = (
    "</pre></article><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} <a href='javascript:alert(3)'>"
)


def predict(battles, seed=0, noise=0.5, shift=0.3, orders=("ab", "ba", "mean")):
    """Predictions around the generator's probabilities, with a bias for the first position."""
    random = np.random.default_rng(seed)
    logits = np.log([battle["probabilities"] for battle in battles]) + random.normal(0, noise, (len(battles), 3))
    predictions = {"ab": softmax(logits + [shift, 0, 0]), "ba": softmax(logits + [0, shift, 0])}
    predictions["mean"] = (predictions["ab"] + predictions["ba"]) / 2
    return predictions_table(
        [
            {
                "id": battle["id"],
                "order": order,
                **dict(zip(PROBABILITIES, predictions[order][i], strict=True)),
                "winner": winner_of(battle["vote"]),
                "num_tokens": 50 + i % 300,
            }
            for i, battle in enumerate(battles)
            for order in orders
        ]
    )


def softmax(logits):
    exp_logits = np.exp(logits)
    return exp_logits / exp_logits.sum(axis=1, keepdims=True)


def figures_of(battles, judges, known=None):
    votes = votes_table(battles)
    predictions = {name: judge_predictions(name, table, votes) for name, table in judges.items()}
    attributes = battle_attributes(votes, next(iter(predictions.values())).num_tokens)
    baselines, _ = baseline_predictions(features_table(battles), None)
    return report_figures(votes, predictions, baselines, attributes, known), predictions, votes


def contains(figure, value):
    return figure["low"] <= value <= figure["high"]


def test_an_interval_is_that_of_groups():
    random = np.random.default_rng(1)
    groups = random.integers(0, 40, 300).astype(str)
    values = random.normal(size=300)
    bootstrap = GroupBootstrap(groups)
    interval = bootstrap.mean(values)
    # The same draws computed naively: groups are numbered in order of appearance.
    names, members = list(dict.fromkeys(groups)), {name: np.flatnonzero(groups == name) for name in set(groups)}
    draws = np.random.default_rng(0)
    means = []
    for _ in range(1000):
        drawn = [members[names[i]] for i in draws.integers(0, len(names), len(names))]
        means.append(values[np.concatenate(drawn)].mean())
    assert (interval["low"], interval["high"]) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-5)
    assert interval["value"] == pytest.approx(values.mean())
    # Ten copies of every battle are not more evidence, unless each is a group of its own.
    copies = GroupBootstrap(np.repeat(groups, 10)).mean(np.repeat(values, 10))
    assert copies == pytest.approx(interval, abs=1e-5)
    alone = GroupBootstrap(range(3000)).mean(np.repeat(values, 10))
    assert alone["high"] - alone["low"] < 0.5 * (interval["high"] - interval["low"])
    # Some of the battles; a single group has no interval.
    mask = values > 0
    assert bootstrap.mean(values, mask)["value"] == pytest.approx(values[mask].mean())
    assert GroupBootstrap(["one"] * 5).mean(values[:5])["low"] is None


def overconfident(n, random):
    truth = random.dirichlet([2, 1, 1], size=n)
    labels = (random.random((n, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    return truth**1.7 / (truth**1.7).sum(axis=1, keepdims=True), labels


def test_intervals_contain_the_truth():
    """Of 100 samples about 95 intervals contain the log loss and the calibration errors of very many battles."""
    random = np.random.default_rng(0)
    predictions, labels = overconfident(200_000, random)
    ece, squared, _ = calibration_errors(binned(predictions, labels).sum(axis=0))
    truth = {"log_loss": log_losses(predictions, labels).mean(), "ece": ece, "debiased_ce": np.sqrt(squared)}
    covered = dict.fromkeys(truth, 0)
    for _ in range(100):
        sample = scores(*overconfident(400, random), GroupBootstrap(range(400), num_resamples=200))
        for name, value in truth.items():
            covered[name] += contains(sample[name], value)
    assert min(covered.values()) >= 86, covered


def test_figures_are_those_of_the_metrics():
    battles = make_battles(300, seed="figures")
    known = np.array([battle["probabilities"] for battle in battles])
    figures, predictions, votes = figures_of(
        battles, {"one": predict(battles), "two": predict(battles, 1, 2.0)}, known
    )
    labels = votes[VOTE_COLUMNS].to_numpy().argmax(axis=1)
    judge, orders = figures["judges"]["one"], predictions["one"].orders
    pairs = [(judge, orders["mean"]), *((judge["orders"][order], orders[order]) for order in orders)]
    for actual, probabilities in pairs:
        for name, value in score(probabilities, labels).items():
            assert actual[name]["value"] == pytest.approx(value), name
            assert contains(actual[name], value) or name in ("ece", "debiased_ce")
    assert judge["position"]["flip_rate"]["value"] == pytest.approx(flips(orders["ab"], orders["ba"]).mean())
    assert judge["position"]["shift_to_a"]["low"] > 0
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures

    difference = figures["differences"][0]
    assert (difference["judge"], difference["baseline"]) == ("two", "one") and difference["log_loss"]["low"] > 0
    second_loss = figures["judges"]["two"]["log_loss"]["value"]
    assert difference["log_loss"]["value"] == pytest.approx(second_loss - judge["log_loss"]["value"])
    # Paired: the interval of the difference is narrower than those of the log losses.
    widths = [f["high"] - f["low"] for f in (difference["log_loss"], figures["judges"]["two"]["log_loss"])]
    assert widths[0] < widths[1]
    assert judge["known_probabilities"]["mean_absolute_error"]["value"] == pytest.approx(
        np.abs(predictions["one"].final - known).mean()
    )
    assert 0 < judge["known_probabilities"]["kl_divergence"]["value"] < 0.3
    assert figures["best_possible"]["log_loss"]["value"] < judge["log_loss"]["value"]
    losses = [figures["baselines"]["class_prior"], judge, figures["best_possible"]]
    prior, own, best = (entry["log_loss"]["value"] for entry in losses)
    fraction = judge["known_probabilities"]["fraction_of_achievable_gain"]
    assert fraction["value"] == pytest.approx((prior - own) / (prior - best))

    first = judge["high_confidence_errors"][0]
    assert WINNERS.index(first["vote"]) != np.argmax(list(first["prediction"].values()))
    final = predictions["one"].final
    assert max(first["prediction"].values()) == pytest.approx(final.max(axis=1)[final.argmax(axis=1) != labels].max())


def test_slices():
    table = pd.DataFrame(
        {"turns": ["1"] * 30 + ["2"] * 20, "models": list("abcde") * 4 + ["f"] * 30, "same": ["x"] * 50}
    )
    labels = np.zeros(50, dtype=int)
    predictions = np.tile([0.5, 0.25, 0.25], (50, 1))
    predictions[30:] = [0.2, 0.4, 0.4]
    slices = slice_figures(table, labels, {"judge": predictions}, GroupBootstrap(range(50)))
    assert [(row["attribute"], row["slice"], row["num_battles"]) for row in slices] == [
        ("turns", "2", 20),
        ("turns", "1", 30),
        ("models", "f", 30),
        ("models", "5 others, each with few battles", 20),
    ]
    assert slices[0]["log_loss"]["judge"]["value"] == pytest.approx(-np.log(0.2))
    assert [row["accuracy"]["judge"]["value"] for row in slices[:2]] == [0, 1]


def test_slices_are_named_for_people():
    votes = votes_table(make_battles(5, seed="named"))
    lengths = np.array([1200, 960, 900, 600, 588])
    attributes = battle_attributes(votes, lengths, complete_lengths=np.full(5, 1200))
    assert list(attributes["truncation"]) == [
        "not truncated",
        "truncated by up to a quarter",
        "truncated by up to a quarter",
        "truncated by a quarter to a half",
        "truncated by more than half",
    ]
    assert list(attributes["length"]) == ["1,200 tokens", "960 tokens", "900 tokens", *["588 to 600 tokens"] * 2]
    assert set(attributes["turns"]) <= {"1 turn", "2 turns", "3 turns", "4 turns or more"}


def test_agreement_between_annotators():
    first, second, single = make_battles(200, seed="people")[:3]
    a, b = vote_for("model_a"), vote_for("model_b")
    battles = [{**first, "id": "1", "vote": a}, {**first, "id": "2", "vote": a}]
    battles += [{**swap_battle(first), "id": "3", "vote": a}]  # for the other answer
    battles += [{**second, "id": "4", "vote": b}, {**swap_battle(second), "id": "5", "vote": a}, single]
    votes = votes_table(battles)
    judges = {"judge": np.tile([0.6, 0.3, 0.1], (6, 1))}
    agreement = annotator_agreement(votes, judges, GroupBootstrap(votes["group"]))
    assert (agreement["num_battles"], agreement["num_items"]) == (5, 2)
    assert agreement["annotators"]["value"] == pytest.approx((1 / 2 + 1 / 2 + 0 + 1 + 1) / 5)
    assert agreement["judges"]["judge"]["accuracy"]["value"] == pytest.approx(4 / 5)
    assert agreement["best_accuracy"]["value"] == pytest.approx((2 + 2) / 5)
    assert agreement["best_log_loss"]["value"] == pytest.approx(-(2 * np.log(2 / 3) + np.log(1 / 3)) / 5)
    assert annotator_agreement(votes_table([first, second]), {}, GroupBootstrap(["a", "b"])) is None


def test_ratings_are_found():
    random = np.random.default_rng(0)
    strengths = np.array([1200.0, 1100, 1000, 900, 800])
    a, b = random.integers(0, 5, (2, 20_000))
    a, b = a[a != b], b[a != b]
    chance = 1 / (1 + 10 ** ((strengths[b] - strengths[a]) / 400))
    names = np.array(["v", "w", "x", "y", "z"], dtype=object)
    votes = pd.DataFrame(
        {
            **vote_columns(np.eye(3)[np.where(random.random(len(a)) > chance, 1, 0)]),
            "group": random.integers(0, 500, len(a)).astype(str),
            "model_a": names[a],
            "model_b": names[b],
        }
    )
    unconnected = pd.DataFrame({**vote_columns([[1, 0, 0]]), "group": ["g"], "model_a": ["p"], "model_b": ["q"]})
    votes = pd.concat([votes, unconnected], ignore_index=True)
    right = np.append(np.stack([chance, 1 - chance, 0 * chance], axis=1), [[1, 0, 0]], axis=0)
    judges = {"right": right, "reversed": right[:, [1, 0, 2]]}
    ratings = model_ratings(votes, judges, GroupBootstrap(votes["group"]))
    assert [row["model"] for row in ratings["models"]] == ["v", "w", "x", "y", "z"] and ratings["num_excluded"] == 1
    for row, strength in zip(ratings["models"], strengths, strict=True):
        assert row["judges"]["right"]["value"] == pytest.approx(strength, abs=2)
        assert row["annotators"]["value"] == pytest.approx(strength, abs=25)
        assert row["annotators"]["low"] < row["annotators"]["value"] < row["annotators"]["high"]
    assert ratings["rank_correlation"]["right"]["spearman"]["value"] == pytest.approx(1)
    assert ratings["rank_correlation"]["reversed"]["kendall"]["value"] == pytest.approx(-1)
    assert model_ratings(votes[:0], {}, None) is None
    # A tie is half a win for both: with ties alone both are equally strong.
    pair = np.array([[0], [1]])
    (rated,) = bradley_terry(pair, np.array([[[0.5, 0.5]]]), 2)
    assert rated == pytest.approx([1000, 1000])
    # One that never loses has a finite rating, with ever so many battles; no battles have none.
    never, none = bradley_terry(pair, np.array([[[1e6, 0.0]], [[0.0, 0.0]]]), 2)
    assert 1000 < never[0] < 5000 and np.isnan(none).all()


@pytest.mark.parametrize("names", [("x", "x"), ("x", None), (None, None)])
def test_without_two_models_there_are_no_ratings(names):
    votes = pd.DataFrame({**vote_columns(np.eye(3)), "group": list("abc"), "model_a": names[0], "model_b": names[1]})
    assert model_ratings(votes, {"judge": np.full((3, 3), 1 / 3)}, GroupBootstrap(votes["group"])) is None


def test_many_models_are_expected_to_get_the_points_that_they_got():
    """Where the likelihood is largest they are; the weak penalty takes a hundredth of a model's rating in nats."""
    random = np.random.default_rng(0)
    strengths = random.normal(size=60)
    a, b = random.integers(0, 60, (2, 5000))
    a, b = np.minimum(a, b)[a != b], np.maximum(a, b)[a != b]
    pairs, pair = np.unique([a, b], axis=1, return_inverse=True)
    wins = np.zeros((pairs.shape[1], 2))
    np.add.at(wins, (pair, (random.random(len(a)) > 1 / (1 + np.exp(strengths[b] - strengths[a]))).astype(int)), 1.0)
    (ratings,) = (bradley_terry(pairs, wins[None], 60) - 1000) * np.log(10) / 400
    expected = wins.sum(axis=1) / (1 + np.exp(ratings[pairs[1]] - ratings[pairs[0]]))
    more = np.zeros(60)
    np.add.at(more, pairs[0], wins[:, 0] - expected)
    np.add.at(more, pairs[1], expected - wins[:, 0])
    assert more == pytest.approx(ratings / 100, abs=1e-3)


def test_problems_with_predictions_are_reported(tmp_path):
    battles = make_battles(20, seed="wrong")
    votes, table = votes_table(battles), predict(battles)
    duplicated = pd.concat([table, table[:1]])
    with pytest.raises(ValueError, match=f"1 battles are predicted twice, the first with id {battles[0]['id']}"):
        judge_predictions("x", duplicated, votes)
    with pytest.raises(ValueError, match="1 battles are not predicted"):
        judge_predictions("x", table[3:], votes)
    with pytest.raises(ValueError, match="1 battles are not among the votes"):
        judge_predictions("x", table, votes[1:])
    with pytest.raises(ValueError, match="the probabilities in 2 rows are negative or do not sum to 1"):
        judge_predictions("x", table.assign(winner_tie=[2.0, -1.0, *table["winner_tie"][2:]]), votes)
    others = table.assign(winner=table["winner"].map({"model_a": "tie", "tie": "model_a"}).fillna("model_b"))
    with pytest.raises(ValueError, match="battles have another vote"):
        judge_predictions("x", others, votes)
    with pytest.raises(ValueError, match="has no votes"):
        votes_from_predictions(table.assign(winner=None))
    (tmp_path / "text.parquet").write_text("nothing")
    table.drop(columns="order").to_parquet(tmp_path / "columns.parquet")
    message = "(?s)2 problems:.*text.parquet: not a predictions file.*columns.parquet: no columns order"
    with pytest.raises(ValueError, match=message):
        read_predictions([str(tmp_path / "text.parquet"), str(tmp_path / "columns.parquet")])
    with pytest.raises(ValueError, match="none.parquet: there is no such file"):
        read_predictions([str(tmp_path / "none.parquet")])


def test_a_second_order_for_some_battles_only():
    battles = make_battles(30, seed="some")
    table = predict(battles)
    some = table[(table["order"] == "ab") | table["id"].isin([battle["id"] for battle in battles[:10]])]
    votes = votes_from_predictions(some)
    judge = judge_predictions("x", some, votes)
    assert list(judge.complete_orders) == ["ab"]
    assert np.allclose(judge.final[:10], judge.orders["mean"][:10])
    assert np.allclose(judge.final[10:], judge.orders["ab"][10:])
    baselines, _ = baseline_predictions(pd.DataFrame({"winner": some["winner"][:30], "group": some["id"][:30]}), None)
    assert baselines.keys() == {"uniform", "class_prior"}
    figures = report_figures(votes, {"x": judge}, baselines, battle_attributes(votes, judge.num_tokens))
    assert figures["judges"]["x"]["position"]["num_battles"] == 10 and figures["ratings"] is None


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.texts.append(text)


def test_hostile_texts_stay_text():
    battles = make_battles(30, seed="hostile")
    pages, markdown = [], []
    for text in ("harmless", HOSTILE):
        named = [
            {**b, "prompt": [text] * len(b["prompt"]), "response_a": [text] * len(b["prompt"])}
            | {"id": f"{i}{text}", "model_a": text, "model_b": ("m", "n")[i % 2], "source": (text, "s")[i % 2]}
            for i, b in enumerate(battles)
        ]
        figures, _, _ = figures_of(named, {text: predict(named), f"2{text}": predict(named, 1)})
        for judge in figures["judges"].values():
            judge |= {"num_battles_with_a_training_prompt": 3, "num_battles_calibrated_on": 7}
        record = {"battles": text, "baselines_fitted": text}
        images = {name: dict.fromkeys(PLOTS, b"png") for name in figures["judges"]}
        page = render_page(figures, images, {battle["id"]: battle for battle in named}, record)
        pages.append(Elements(page))
        markdown.append(render_markdown(figures, {name: dict.fromkeys(PLOTS, "p.png") for name in images}, record))
    harmless, hostile = pages
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    assert {"script", "iframe"}.isdisjoint(tag for tag, _ in hostile.elements)
    assert all(attributes["href"].startswith("#") for tag, attributes in hostile.elements if tag == "a")
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    assert sum(HOSTILE in text for text in hostile.texts) == sum("harmless" in text for text in harmless.texts) > 20
    assert any(attributes.get("content", "").startswith("default-src 'none'") for _, attributes in hostile.elements)

    # In Markdown they are in code spans, so that the lines, cells and everything else are those of harmless names.
    harmless, hostile = markdown
    assert hostile.count("<script>") == harmless.count("harmless") > 20
    for text in (
        HOSTILE,
        f"2{HOSTILE}",
        *(f"{pair} – {HOSTILE}" for pair in "mn"),
        *(f"{HOSTILE} – {pair}" for pair in "mn"),
    ):
        hostile = hostile.replace(code_span(text), f"`{text.replace(HOSTILE, 'harmless')}`")
    assert hostile.count("|") == harmless.count("|") and "script" not in hostile and "javascript" not in hostile


@pytest.mark.parametrize(
    "text, expected",
    [
        ("runs/a_b", "`runs/a_b`"),
        ("a`b``c", "``` a`b``c ```"),
        ("one\n\n# two | three\\| four", "`one # two ¦ three\\¦ four`"),
        (" \n", "` `"),
    ],
)
def test_code_spans(text, expected):
    assert code_span(text) == expected


def test_the_page_begins_with_words_then_plots_then_tables():
    battles = make_battles(60, seed="order")
    known = np.array([battle["probabilities"] for battle in battles])
    figures, _, _ = figures_of(battles, {"one": predict(battles), "two": predict(battles, 1, 2.0)}, known)
    figures["agreement"] = {
        "num_battles": 30,
        "num_items": 12,
        **dict.fromkeys(("annotators", "best_accuracy", "best_log_loss"), figures["judges"]["one"]["accuracy"]),
        "judges": figures["judges"],
    }
    figures["attacks"] = {}
    for number, row in enumerate(figures["ratings"]["models"]):
        row["num_battles"] = 9 if number < 2 else 10
    for judge in figures["judges"].values():
        judge["num_battles_with_a_training_prompt"] = None
    images = {name: dict.fromkeys(PLOTS, b"png") for name in figures["judges"]}
    page = render_page(figures, images, {}, {"battles": None, "baselines_fitted": "fitted"})
    anchors = [attributes["href"].removeprefix("#") for tag, attributes in Elements(page).elements if tag == "a"]
    sections = [attributes["id"] for tag, attributes in Elements(page).elements if tag == "section"]
    assert anchors == sections and len(set(sections)) == 11 and sections[:3] == ["plots", "scores", "differences"]
    assert page.index('<p class="lead">') < page.index("<nav") < page.index("<img") < page.index("<table")
    first = page[page.index('id="plots"') : page.index('id="scores"')]
    assert first.count("<img") == 8 and first.count("<details open>") == first.count("<details>") == 1
    folded = page[page.index("<summary>2 models with fewer than 10 battles") :].split("</details>")[0]
    models = [row["model"] for row in figures["ratings"]["models"]]
    assert [f"<td>{model}</td>" in folded for model in models] == [True, True] + [False] * (len(models) - 2)
    # Every table can be scrolled on a phone.
    assert page.count('<div class="wide"><table>') == page.count("<table>") > 8


def test_ten_thousand_battles():
    """No Python loop over battles and resamples: ten times as many battles take about as many function calls."""
    num_calls = {}
    for num_battles in (1000, 10_000):
        battles = make_battles(num_battles, seed="many")
        votes, judge, baselines = prepare(battles)
        with Profile(builtins=False) as profile:
            figures = report_figures(votes, {"judge": judge}, baselines, battle_attributes(votes, judge.num_tokens))
        assert figures["num_battles"] == num_battles and figures["ratings"]["models"]
        num_calls[num_battles] = sum(function.callcount for function in profile.getstats())
    assert num_calls[1000] > 1000 and num_calls[10_000] < 2 * num_calls[1000], num_calls


def prepare(battles):
    votes = votes_table(battles)
    baselines, _ = baseline_predictions(features_table(battles), None)
    return votes, judge_predictions("judge", predict(battles), votes), baselines


def test_predictions_with_and_without_their_battles(tmp_path):
    battles = make_battles(60, seed="recipe")
    save_predictions(predict(battles), tmp_path / "a.parquet")
    save_predictions(predict(battles, 1, orders=["ab"]), tmp_path / "b.parquet")
    write_votes(tmp_path / "votes.csv", battles)
    recipe("validate.py", "--predictions", "a.parquet", "--output_dir", "alone", cwd=tmp_path)
    alone = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    assert alone["num_groups"] == 60 and {row["attribute"] for row in alone["slices"]} == {"vote", "length"}
    output = recipe(
        "validate.py", "--predictions", "a.parquet", "b.parquet", "--test_file", "votes.csv", "--output_dir", "two",
        cwd=tmp_path,
    )  # fmt: skip
    assert "a: verdicts that flip" in output and "b: verdicts" not in output
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert two["judges"]["a"]["log_loss"]["value"] == pytest.approx(alone["judges"]["a"]["log_loss"]["value"])
    assert two["ratings"]["models"] and {"turns", "pair of models"} <= {row["attribute"] for row in two["slices"]}
    assert set(pd.read_parquet(tmp_path / "two" / "predictions.parquet")["judge"]) == {"a", "b"}
    page, text = ((tmp_path / "two" / f"report.{suffix}").read_text() for suffix in ("html", "md"))
    assert page.count("data:image/png;base64,") == len(list((tmp_path / "two" / "plots").glob("*.png"))) == 9
    linked = re.findall(r"^!\[.+\]\((plots/.+\.png)\)$", text, re.M)
    assert len(linked) == 3 and all((tmp_path / "two" / path).is_file() for path in linked)
    assert text.startswith("# Validation report\n\nOf 2 judges on 60 battles `b` has the lowest log loss, ")


def test_files_of_others_are_not_replaced(tmp_path):
    save_predictions(predict(make_battles(20, seed="others")), tmp_path / "a.parquet")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "report.md").write_text("of others")
    output = recipe("validate.py", "--predictions", "a.parquet", "--output_dir", "docs", cwd=tmp_path, fails=True)
    assert "docs is not a report, and its report.md would be replaced" in output
    assert (tmp_path / "docs" / "report.md").read_text() == "of others"
    assert {name.split("/")[0] for name in push.REPORT_FILES} == set(REPORT_FILES)  # all of a report is pushed


def test_ratings_where_some_resamples_have_no_battle_of_known_models():
    """As in 224 real votes, of which few groups of prompts name their models."""
    models = [("p", "q"), ("q", "r"), ("r", "p"), ("p", "q"), *[(None, None)] * 9]
    votes = pd.DataFrame(
        {
            **vote_columns(np.eye(3)[[0, 1, 0, 2, *[0] * 9]]),
            "group": ["one", "one", "one", "one", *map(str, range(9))],
            "model_a": [a for a, _ in models],
            "model_b": [b for _, b in models],
        }
    )
    ratings = model_ratings(votes, {"judge": np.full((13, 3), 1 / 3)}, GroupBootstrap(votes["group"]))
    for row in ratings["models"]:
        rating = row["annotators"]
        assert rating["low"] - 1e-6 < rating["value"] < rating["high"] + 1e-6
