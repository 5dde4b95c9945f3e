"""Temperature and biases: fitted, cross-fitted, and refused where they do not help."""

import numpy as np
import pandas as pd
import pytest
from helpers.votes import draw, simulated, table
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lmsys_trl.metrics.functions import log_losses
from lmsys_trl.predictions.calibrate import refuse_calibrated
from lmsys_trl.predictions.calibration import apply_calibration, best_calibration
from lmsys_trl.predictions.style import fit_with_style
from lmsys_trl.predictions.table import votes_and_groups


def test_calibration_recovers_what_was_done_to_the_predictions():
    true = simulated(20000, 1)[:, 0]
    labels, groups = draw(true), np.arange(20000) // 4
    undo = {"temperature": 1.6, "biases": np.array([0.3, -0.1, -0.2])}
    distorted = apply_calibration(true, {"temperature": 1 / 1.6, "biases": -undo["biases"] * 1.6})
    fitted, helps = best_calibration(distorted, labels, groups)
    assert helps and fitted["method"] == "temperature_and_biases"
    assert fitted["temperature"] == pytest.approx(1.6, rel=0.04)
    assert fitted["biases"] == pytest.approx(undo["biases"], abs=0.04)
    assert fitted["log_loss_after"] < fitted["log_loss_before"]
    fitted, helps = best_calibration(apply_calibration(true, {"temperature": 0.5, "biases": 0}), labels, groups)
    assert helps and fitted["temperature"] == pytest.approx(2, rel=0.04) and np.abs(fitted["biases"]).max() < 0.05
    assert not best_calibration(true, labels, groups)[1]
    # Alike within a group: what looks like a gain over many battles is one over three groups.
    assert not best_calibration(true[:12], labels[:12], np.arange(12) // 4)[1]
    with pytest.raises(ValueError, match="two groups at least"):
        best_calibration(true[:12], labels[:12], np.zeros(12))
    rows = table(true[:4], labels=labels[:4])
    assert list(votes_and_groups(rows.drop(columns="group"))[1]) == ["id b0", "id b1", "id b2", "id b3"]


def test_predictions_of_others_are_refused():
    table = pd.DataFrame({"fold": pd.array([0, 1], dtype="Int64")})
    with pytest.raises(ValueError, match="of the judges of several folds"):
        refuse_calibrated(table, "oof.parquet", "mine")
    table.attrs["judge"] = {"adapter": "other", "calibrated": False}
    with pytest.raises(ValueError, match="the predictions of another judge"):
        refuse_calibrated(table, "other.parquet", "mine")
    table.attrs["judge"] = {"adapter": "mine", "calibrated": True}
    with pytest.raises(ValueError, match="calibrated already"):
        refuse_calibrated(table, "mine.parquet", "mine")
    table.attrs["judge"]["calibrated"] = False
    refuse_calibrated(table, "mine.parquet", "mine")


def battles_with_style(size: int, judge: float, style: float, seed: int = 0):
    """A judge's probabilities and two features in columns, votes that depend on both as much as said, and groups."""
    rng = np.random.default_rng(seed)
    log_p, features = rng.normal(0, 1, (size, 3)), rng.normal(5, 3, (size, 2))
    features[:, 1] = 7  # a constant one
    pull = style * (features[:, :1] - 5) / 3 * [1, -1, 0]
    labels = draw(softmax(judge * log_p + pull, axis=1), seed)
    return np.hstack([softmax(log_p, axis=1), features]), labels, np.arange(size) // 3


def test_style_corrects_a_judge_where_both_know_something():
    fitted, helps = best_calibration(*battles_with_style(3000, judge=1.0, style=1.0))
    assert helps and fitted["method"].startswith("style_")
    assert fitted["log_loss_after"] < fitted["log_loss_without_style"] - 0.1
    assert fitted["log_loss_after"] < fitted["log_loss_of_style_alone"] - 0.1
    assert np.array(fitted["style"]["weights"])[:2, 0] == pytest.approx([1, -1], abs=0.15)
    assert np.array(fitted["style"]["weights"])[:, 1] == pytest.approx([0, 0, 0])


def test_a_regression_on_training_votes_needs_few_others():
    def with_other_features(predictions, labels, groups):
        others = np.random.default_rng(2).normal(0, 1, (len(labels), 12))
        return np.hstack([predictions, others]), labels, groups

    predictions, labels, _ = with_other_features(*battles_with_style(3000, judge=0.0, style=1.0))
    predictions[:, :3] = 1 / 3
    fitted = fit_with_style(predictions, labels, 0.003)
    regression = {**fitted["style"], "biases": fitted["biases"]}
    few = with_other_features(*battles_with_style(90, judge=1.0, style=1.0, seed=1))
    with_regression, helps = best_calibration(*few, regression)
    assert helps and with_regression["method"] == "style_of_training_votes"
    assert with_regression["log_loss_after"] < best_calibration(*few)[0]["log_loss_after"]
    found = log_losses(apply_calibration(few[0], with_regression), few[1]).mean()
    for factor in (0.9, 1.1):  # no other weight is better on the votes that it is fitted on
        weights = factor * np.array(with_regression["style"]["weights"])
        other = {**with_regression, "style": {**with_regression["style"], "weights": weights}}
        assert log_losses(apply_calibration(few[0], other), few[1]).mean() > found


def test_style_that_says_nothing_more_is_left_out():
    fitted, helps = best_calibration(*battles_with_style(1500, judge=0.5, style=0.0))
    assert helps and "style" not in fitted and fitted["temperature"] == pytest.approx(2, rel=0.2)
    # The judge's noise is worse than style alone: the two together are refused.
    predictions, labels, groups = battles_with_style(3000, judge=0.0, style=1.0)
    predictions[:, :3] = softmax(np.log(predictions[:, :3]) * 500, axis=1)
    fitted, _ = best_calibration(predictions, labels, groups)
    assert "style" not in fitted and fitted["log_loss_of_style_alone"] < fitted["log_loss_after"]


def test_style_alone_is_the_logistic_regression_of_scikit_learn():
    predictions, labels, _ = battles_with_style(500, judge=0.0, style=1.0)
    predictions[:, :3] = 1 / 3  # without a judge only the features count
    fitted = fit_with_style(predictions, labels, 0.01)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (0.01 * 500), tol=1e-8))
    expected = model.fit(predictions[:, 3:], labels).predict_proba(predictions[:, 3:])
    assert apply_calibration(predictions, fitted) == pytest.approx(expected, abs=1e-4)
