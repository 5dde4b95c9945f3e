import json

import numpy as np
import pandas as pd
import pytest
from helpers.votes import draw, simulated, table

from lmsys_trl.battle import swap_probabilities
from lmsys_trl.predictions.calibrate import fit_calibrations
from lmsys_trl.predictions.calibration import apply_calibration
from lmsys_trl.predictions.position import correct_position, fit_position
from lmsys_trl.predictions.table import PROBABILITIES, probabilities_of


def in_both_orders(fair: np.ndarray, bias: float, labels=None) -> pd.DataFrame:
    """Predictions of a judge that adds a bias to the answer that stands first."""
    biased = {"temperature": 1.0, "biases": [bias, -bias, 0.0]}
    ab, ba = apply_calibration(fair, biased), swap_probabilities(apply_calibration(swap_probabilities(fair), biased))
    orders = {"ab": ab, "ba": ba, "mean": (ab + ba) / 2}
    return pd.concat([table(found, order=order, labels=labels) for order, found in orders.items()], ignore_index=True)


@pytest.mark.parametrize("bias", [-3.0, -0.4, 0.7])
def test_position_is_found_and_removed_without_votes(bias):
    fair = simulated(400, 1)[:, 0]
    predictions = in_both_orders(fair, bias)
    found = fit_position(predictions)
    assert found["biases"] == pytest.approx([-bias, bias, 0.0], abs=1e-6)
    assert np.sign(found["preference_before"]) == np.sign(bias) and found["num_battles"] == 400
    corrected = correct_position(predictions, found)
    for order in ("ab", "ba", "mean"):
        assert np.allclose(probabilities_of(corrected, order), fair, atol=1e-6)
    assert corrected.drop(columns=PROBABILITIES).equals(predictions.drop(columns=PROBABILITIES))


def test_battles_in_one_order_are_corrected_too():
    """Whatever the order of the rows; their mean is the one order that there is."""
    fair = simulated(200, 1)[:, 0]
    predictions = in_both_orders(fair, 0.5)
    alone = (predictions["order"] == "ba") & predictions["id"].isin([f"b{i}" for i in range(0, 200, 3)])
    position, predictions = fit_position(predictions), predictions[~alone].sample(frac=1, random_state=0)
    corrected = correct_position(predictions, position).sort_values(["order", "id"])
    assert fit_position(predictions) is None  # those in both orders may have been chosen by what was predicted
    expected = in_both_orders(fair, 0.0)[~alone.to_numpy()].sort_values(["order", "id"])
    assert np.allclose(corrected[PROBABILITIES], expected[PROBABILITIES], atol=1e-2)


def test_nothing_to_correct():
    fair = simulated(400, 1)[:, 0]
    assert fit_position(in_both_orders(fair, 0.0)) is None
    assert fit_position(table(fair)) is None
    saturated = np.eye(3)[np.arange(300) % 3]
    assert fit_position(in_both_orders(saturated, 0.0)) is None
    assert fit_position(in_both_orders(fair[:2], 0.7)) is None  # one group has no standard error


def test_a_judge_that_reads_the_position_alone():
    """It is certain that the first answer wins: the largest bias that can be needed."""
    first = np.tile([1.0, 0.0, 0.0], (50, 1))
    both = pd.concat([table(first), table(swap_probabilities(first), order="ba")], ignore_index=True)
    corrected = correct_position(both, fit_position(both))
    assert np.allclose(corrected[PROBABILITIES], [0.5, 0.5, 0.0], atol=1e-6)


def test_calibrations_are_fitted_on_what_is_left():
    fair = simulated(2000, 1)[:, 0]
    labels = draw(fair)
    found = fit_calibrations(in_both_orders(fair, 0.8, labels), "fingerprint")
    assert found.keys() == {"position"} and found["position"]["fitted_on"] == "fingerprint"
    json.dumps(found)  # it goes to judge.json
    sharp = apply_calibration(fair, {"temperature": 0.5, "biases": [0.0, 0.0, 0.0]})
    found = fit_calibrations(in_both_orders(sharp, 0.8, labels), "")
    assert found.keys() == {"position", "ab", "mean"}
    assert found["ab"]["temperature"] == pytest.approx(2, rel=0.1)
    assert found["ab"]["biases"] == pytest.approx([0, 0, 0], abs=0.1)


def test_without_votes_the_position_alone_is_fitted():
    fair = simulated(400, 1)[:, 0]
    assert fit_calibrations(in_both_orders(fair, 0.8), "").keys() == {"position"}
    assert fit_calibrations(in_both_orders(fair, 0.0), "") == {}
    with pytest.raises(ValueError, match="votes 0 for A, 0 for B, 0 for a tie"):
        fit_calibrations(table(fair), "")
