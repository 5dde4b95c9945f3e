"""Temperature and biases: fitted, cross-fitted, and refused where they do not help."""

import numpy as np
import pandas as pd
import pytest
from helpers.votes import draw, simulated, table

from lmsys_trl.predictions.calibration import apply_calibration, best_calibration, refuse_calibrated
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
