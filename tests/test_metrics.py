from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn import metrics

from lmsys_trl import metrics as our_metrics
from lmsys_trl.baselines import baseline_forecasts, battle_features, features_table
from lmsys_trl.calibration import apply_temperature, cross_fitted_temperature, fit_temperature
from lmsys_trl.metrics import flip_rate, score
from lmsys_trl.metrics.ece.ece import binned, calibration_errors
from lmsys_trl.synthetic import make_battles, vote_probabilities


def forecasts(n=500, seed=0):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1, 1, 1], size=n)
    labels = np.array([random.choice(3, p=p) for p in probabilities])
    return probabilities, labels


def test_against_scikit_learn():
    probabilities, labels = forecasts()
    scores = score(probabilities, labels)
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(labels, probabilities))
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(labels, probabilities.argmax(1)))
    one_against_rest = [metrics.brier_score_loss(labels == i, probabilities[:, i]) for i in range(3)]
    assert scores["brier_score"] == pytest.approx(sum(one_against_rest))


def test_calibration_error():
    probabilities = np.array([[0.75, 0.25, 0.0]] * 4)
    assert score(probabilities, np.array([0, 0, 0, 1]))["ece"] == pytest.approx(0)
    assert score(probabilities, np.array([1, 1, 1, 0]))["ece"] == pytest.approx(0.5)
    probabilities = np.array([[1.0, 0, 0], [0.4, 0.35, 0.25]])  # two bins of one battle each
    assert score(probabilities, np.array([1, 0]))["ece"] == pytest.approx((1 + 0.6) / 2)


def test_bias_corrected_calibration_error():
    # Two battles with confidence 0.75 and one of them right: the squared gap less the variance of the mean of two.
    probabilities = np.array([[0.75, 0.25, 0.0]] * 2)
    ece, squared, debiased = calibration_errors(binned(probabilities, np.array([0, 1])).sum(axis=0))
    assert (ece, squared, debiased) == pytest.approx((0.25, 0.25**2, 0.25**2 - 0.25))
    assert score(probabilities, np.array([0, 1]))["debiased_ce"] == 0
    # Of forecasts that are right about their chances the plain error is large with few battles, and the other is not.
    found = np.array([calibration_errors(binned(*forecasts(100, seed)).sum(axis=0)) for seed in range(300)])
    assert found[:, 0].mean() > 0.08
    assert abs(found[:, 2].mean()) < 3 * found[:, 2].std() / 300**0.5 < found[:, 1].mean() / 5
    # Overconfident by a known distance: all forecasts say 0.9, and 0.6 come true.
    random = np.random.default_rng(0)
    sure = np.tile([0.9, 0.1, 0.0], (200, 1))
    many = [calibration_errors(binned(sure, (random.random(200) > 0.6).astype(int)).sum(axis=0)) for _ in range(300)]
    assert np.mean(many, axis=0)[2] == pytest.approx(0.3**2, rel=0.05)


def test_certain_and_wrong():
    probabilities = np.array([[1.0, 0, 0], [0.5, 0.5, 0]])
    expected = metrics.log_loss([1, 0], probabilities, labels=[0, 1, 2])
    assert score(probabilities, np.array([1, 0]))["log_loss"] == pytest.approx(expected)


def test_one_winner_only_and_one_battle():
    assert score(np.array([[0.5, 0.25, 0.25]]), np.array([0]))["log_loss"] == pytest.approx(np.log(2))


def test_flips():
    in_order = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    exchanged = np.array([[0.3, 0.6, 0.1], [0.1, 0.8, 0.1]])
    assert flip_rate(in_order, exchanged) == 0.5


def test_from_several_processes_at_once():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        scores = list(pool.map(score_seed, range(4)))
    assert scores == [score_seed(seed) for seed in range(4)]


def score_seed(seed):
    return score(*forecasts(100, seed))


def test_loaded_by_path_in_two_processes_at_once():
    """As anyone would load them, with evaluate's own files in its cache."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        losses = list(pool.map(loss_by_path, range(6)))
    assert losses == pytest.approx([metrics.log_loss(*forecasts(100, seed)[::-1]) for seed in range(6)])


def loss_by_path(seed):
    probabilities, labels = forecasts(100, seed)
    metric = evaluate.load(str(Path(our_metrics.__file__).parent / "log_loss"))
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        metric.add(prediction=row, reference=label)
    return metric.compute()["log_loss"]


def test_the_temperature_is_found():
    probabilities, labels = forecasts(20_000)
    sharpened = apply_temperature(probabilities, 0.5)
    assert fit_temperature(sharpened, labels) == pytest.approx(2, rel=0.05)
    calibrated, temperature = cross_fitted_temperature(sharpened, labels, [str(i % 100) for i in range(len(labels))])
    assert temperature == pytest.approx(2, rel=0.05)
    assert score(calibrated, labels)["log_loss"] == pytest.approx(score(probabilities, labels)["log_loss"], abs=1e-3)
    same, temperature = cross_fitted_temperature(sharpened, labels, ["one"] * len(labels))
    assert temperature == 1 and (same == sharpened).all()


def test_baselines_on_the_judges_training_votes():
    training, table = features_table(make_battles(400, seed=1)), features_table(make_battles(300, seed=2))
    forecasts, fitted_on = baseline_forecasts(table, training)
    assert fitted_on == "fitted on the judge's 400 training votes"
    labels = np.array([["model_a", "model_b", "tie"].index(winner) for winner in table["winner"]])
    losses = {name: score(probabilities, labels)["log_loss"] for name, probabilities in forecasts.items()}
    assert losses["uniform"] == pytest.approx(np.log(3))
    assert losses["logistic_regression"] < losses["class_prior"] < losses["uniform"]
    for probabilities in forecasts.values():
        assert np.allclose(probabilities.sum(axis=1), 1)
    share_a = (sum(training["winner"] == "model_a") + 1) / 403
    assert np.allclose(forecasts["class_prior"][:, 0], share_a)


def test_baselines_without_training_votes_are_cross_fitted_by_prompt():
    table = features_table(make_battles(300, seed=2))
    forecasts, fitted_on = baseline_forecasts(table, None)
    assert fitted_on == "cross-fitted by prompt on the 300 votes of this report, in 5 folds"
    assert len(np.unique(forecasts["class_prior"][:, 0])) > 1  # another prior for each fold
    one, _ = baseline_forecasts(table.iloc[:1], None)
    assert np.allclose(one["logistic_regression"], 1 / 3)
    two_classes = table[table["winner"] != "tie"]
    forecasts, _ = baseline_forecasts(table, two_classes)
    assert np.allclose(forecasts["logistic_regression"].sum(axis=1), 1)


def test_features_hold_no_text_and_exchange_their_sign():
    features = features_table([make_battles(1)[0]])
    assert list(features.select_dtypes("number").columns) == [c for c in features if c not in ("winner", "group")]
    longer = battle_features({"prompt": ["p"], "response_a": ["- a\n- b"], "response_b": [None]})
    other = battle_features({"prompt": ["p"], "response_a": [None], "response_b": ["- a\n- b"]})
    assert longer["length_difference"] == -other["length_difference"] > 0
    assert longer["list_items_difference"] == -other["list_items_difference"] > 0


def test_the_generator_draws_from_its_probabilities():
    battles = make_battles(3000)
    assert battles == make_battles(3000) and battles[:5] != make_battles(5, seed=1)
    assert all(sum(battle["probabilities"]) == pytest.approx(1) for battle in battles)
    for i, winner in enumerate(("model_a", "model_b", "tie")):
        expected = np.mean([battle["probabilities"][i] for battle in battles])
        assert np.mean([battle["winner"] == winner for battle in battles]) == pytest.approx(expected, abs=0.03)
    a, b, tie = vote_probabilities(8.0, 0.0)
    assert b > 0.9 > tie > a and vote_probabilities(1, 1) == vote_probabilities(4, 4)
    assert {len(battle["prompt"]) for battle in battles} == {1, 2, 3}
