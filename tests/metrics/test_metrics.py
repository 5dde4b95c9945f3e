from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import evaluate
import numpy as np
import pytest
from sklearn import metrics

from lmsys_trl.metrics import load_metric, metric_folder, score
from lmsys_trl.metrics.functions import binned, calibration_errors, correct, log_losses, squared_distances
from lmsys_trl.predictions.calibration import apply_temperature, cross_fitted_temperature, fit_temperature

# Processes of their own that have loaded the libraries already, which takes seconds.
PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["evaluate", "sklearn.metrics", "lmsys_trl.metrics", "lmsys_trl.predictions.calibration"]
)


def calibrated_predictions(n=500, seed=0):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1, 1, 1], size=n)
    labels = np.array([random.choice(3, p=p) for p in probabilities])
    return probabilities, labels


def test_against_scikit_learn():
    probabilities, labels = calibrated_predictions()
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
    # Two battles with confidence 0.75 and one of them right: the squared gap minus the variance of the mean of two.
    probabilities = np.array([[0.75, 0.25, 0.0]] * 2)
    ece, squared, debiased = calibration_errors(binned(probabilities, np.array([0, 1])).sum(axis=0))
    assert (ece, squared, debiased) == pytest.approx((0.25, 0.25**2, 0.25**2 - 0.25))
    assert score(probabilities, np.array([0, 1]))["debiased_ce"] == 0
    # Of calibrated predictions the plain error is large with few battles, and the other is not.
    samples = [calibrated_predictions(100, seed) for seed in range(300)]
    errors = np.array([calibration_errors(binned(*sample).sum(axis=0)) for sample in samples])
    assert errors[:, 0].mean() > 0.08
    assert abs(errors[:, 2].mean()) < 3 * errors[:, 2].std() / 300**0.5 < errors[:, 1].mean() / 5
    # Overconfident by a known distance: all predictions say 0.9, and 0.6 come true.
    random = np.random.default_rng(0)
    sure = np.tile([0.9, 0.1, 0.0], (200, 1))
    many = [calibration_errors(binned(sure, (random.random(200) > 0.6).astype(int)).sum(axis=0)) for _ in range(300)]
    assert np.mean(many, axis=0)[2] == pytest.approx(0.3**2, rel=0.05)


def test_certain_and_wrong():
    probabilities = np.array([[1.0, 0, 0], [0.5, 0.5, 0]])
    expected = metrics.log_loss([1, 0], probabilities, labels=[0, 1, 2])
    assert score(probabilities, np.array([1, 0]))["log_loss"] == pytest.approx(expected)


def test_votes_that_are_fractions_score_as_their_winners_on_average():
    probabilities, _ = calibrated_predictions(50)
    probabilities[0] = 1 / 3  # equally probable
    votes = np.random.default_rng(1).dirichlet(np.ones(3), 50)
    every = np.repeat(np.arange(3)[None], 50, axis=0)
    scores = score(probabilities, votes)
    for name, function in (("log_loss", log_losses), ("accuracy", correct), ("brier_score", squared_distances)):
        by_winner = np.stack([function(probabilities, every[:, winner]) for winner in range(3)], axis=1)
        assert scores[name] == pytest.approx((votes * by_winner).sum(axis=1).mean()), name
    hard = np.eye(3)[every[:, 1]]
    assert score(probabilities, hard) == score(probabilities, every[:, 1])


def test_one_winner_only_and_one_battle():
    assert score(np.array([[0.5, 0.25, 0.25]]), np.array([0]))["log_loss"] == pytest.approx(np.log(2))


def test_flips():
    as_given, swapped = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]], [[0.3, 0.6, 0.1], [0.1, 0.8, 0.1]]
    assert load_metric("flip_rate").compute(predictions=as_given, references=swapped) == {"flip_rate": 0.5}


def test_from_several_processes_at_once():
    with ProcessPoolExecutor(2, mp_context=PROCESSES) as pool:
        scores = list(pool.map(score_seed, range(4)))
    assert scores == [score_seed(seed) for seed in range(4)]


def score_seed(seed):
    return score(*calibrated_predictions(100, seed))


def test_loaded_by_path_in_two_processes_at_once():
    """As anyone would load them, with evaluate's own files in its cache."""
    with ProcessPoolExecutor(2, mp_context=PROCESSES) as pool:
        losses = list(pool.map(loss_by_path, range(6)))
    assert losses == pytest.approx([metrics.log_loss(*calibrated_predictions(100, seed)[::-1]) for seed in range(6)])


def loss_by_path(seed):
    probabilities, labels = calibrated_predictions(100, seed)
    metric = evaluate.load(metric_folder("log_loss"))
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        metric.add(prediction=row, reference=label)
    return metric.compute()["log_loss"]


def test_the_temperature_is_found():
    probabilities, labels = calibrated_predictions(20_000)
    sharpened = apply_temperature(probabilities, 0.5)
    assert fit_temperature(sharpened, labels) == pytest.approx(2, rel=0.05)
    calibrated, temperature = cross_fitted_temperature(sharpened, labels, [str(i % 100) for i in range(len(labels))])
    assert temperature == pytest.approx(2, rel=0.05)
    assert score(calibrated, labels)["log_loss"] == pytest.approx(score(probabilities, labels)["log_loss"], abs=1e-3)
    same, temperature = cross_fitted_temperature(sharpened, labels, ["one"] * len(labels))
    assert temperature == 1 and (same == sharpened).all()
