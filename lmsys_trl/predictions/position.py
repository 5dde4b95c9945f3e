"""What a judge gives to an answer because it stands first. Both orders show it, without a vote."""

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from ..battle import swap_probabilities
from ..terminal import logger
from .calibration import apply_calibration, standard_error
from .table import PROBABILITIES, probabilities_of, votes_and_groups

MAX_BIAS = 30.0  # the log odds of two probabilities are at most 28, see [`apply_calibration`]


def fit_position(predictions: pd.DataFrame) -> dict | None:
    """
    Fit biases of the letters A and B after which the answer that stands first is as likely to win as the other one, on
    average over the battles that were predicted in both orders.

    Args:
        predictions (`DataFrame`): A predictions table.

    Returns:
        `dict`, *optional*: `temperature` (1) and `biases`, as for [`apply_calibration`]; `num_battles`; and
        `preference_before`, by how much more likely to win the first answer was. None if that is within its standard
        error over groups, or if there are not two groups of battles in both orders.
    """
    tables = {order: table.set_index("id", drop=False) for order, table in predictions.groupby("order")}
    if not {"ab", "ba"} <= tables.keys():
        return None
    if len(tables["ba"]) < len(tables["ab"]):
        logger.info("position: not fitted, since not all battles were predicted in both orders (--tta swap)")
        return None
    given = tables["ab"].loc[tables["ba"].index]
    shown = np.vstack([given[PROBABILITIES], swap_probabilities(tables["ba"][PROBABILITIES].to_numpy())])

    def preferences(bias: float) -> np.ndarray:
        corrected = apply_calibration(shown, _biases(bias))
        return (corrected[:, 0] - corrected[:, 1]).reshape(2, -1).mean(axis=0)

    before = preferences(0.0)
    _, groups = votes_and_groups(given)
    if len(set(groups)) < 2:
        logger.info("position: not fitted, since one group of battles does not say how sure it would be")
        return None
    message = (
        f"position: the answer that stands first is {'more' if before.mean() > 0 else 'less'} likely to win, by "
        f"{abs(before.mean()):.3f} on average over {len(before)} battles in both orders"
    )
    if abs(before.mean()) <= standard_error(before, groups):
        logger.info("%s: not corrected, since it is within its standard error", message)
        return None
    bias = brentq(lambda bias: preferences(bias).mean(), -MAX_BIAS, MAX_BIAS)
    logger.info("%s: a bias of %+.3f for A and %+.3f for B is fitted", message, bias, -bias)
    return {**_biases(bias), "num_battles": len(before), "preference_before": float(before.mean())}


def _biases(bias: float) -> dict:
    return {"temperature": 1.0, "biases": [bias, -bias, 0.0]}


def correct_position(predictions: pd.DataFrame, position: dict) -> pd.DataFrame:
    """A predictions table as if the judge had had the biases of [`fit_position`]."""
    corrected = predictions.copy()
    in_ab, in_ba, mean = (predictions["order"] == order for order in ("ab", "ba", "mean"))
    corrected.loc[in_ab, PROBABILITIES] = apply_calibration(probabilities_of(predictions, "ab"), position)
    swapped = swap_probabilities(probabilities_of(predictions, "ba"))
    corrected.loc[in_ba, PROBABILITIES] = swap_probabilities(apply_calibration(swapped, position))
    means = corrected[~mean].groupby("id")[PROBABILITIES].mean()
    corrected.loc[mean, PROBABILITIES] = means.loc[corrected.loc[mean, "id"]].to_numpy()
    return corrected
