"""Forecasts of several judges -> one. Functions of tables: no model is known here."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from .calibration import cross_fitted, log_losses
from .orders import largest
from .predictions import PROBABILITIES, best_order

MEANS = ("arithmetic", "geometric")


def stack_forecasts(
    names: list[str], tables: list[pd.DataFrame], orders: list[str] | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """
    Join predictions tables by id, in the order of the first.

    Args:
        names (`list[str]`): What errors call each member.
        tables (`list[DataFrame]`): A predictions table for each member.
        orders (`list[str]`, *optional*): Which order of each: "ab", "ba", "mean". The mean where there is one unless
            told, else "ab".

    Returns:
        `tuple[DataFrame, ndarray]`: The rows of the first member, and forecasts of shape `(battles, members, 3)`, NaN
        where a member has none.

    Raises:
        ValueError: If ids are doubled, or not those of the first member. Counts them and names the first.
    """
    first, stacked, problems = None, [], []
    for name, table, order in zip(names, tables, orders or map(best_order, tables), strict=True):
        rows = table[table["order"] == order]
        first = rows if first is None else first
        for ids, what in (
            (rows["id"][rows["id"].duplicated()], "stand in it twice"),
            (rows["id"][~rows["id"].isin(first["id"])], f"are not in {names[0]}"),
        ):
            if len(ids):
                problems.append(f"{name}: {len(ids)} ids {what}, the first {ids.iloc[0]}")
        if not problems:
            stacked.append(rows.set_index("id")[PROBABILITIES].reindex(first["id"]).to_numpy())
    if problems:
        raise ValueError("predictions that do not belong together:\n  " + "\n  ".join(problems))
    first = first.reset_index(drop=True)
    first.attrs = {}  # what one judge says of itself is not said of all
    return first, np.stack(stacked, axis=1)


def refuse_missing(names: list[str], battles: pd.DataFrame, forecasts: np.ndarray, weights: np.ndarray) -> None:
    """
    Check that a member has a forecast wherever it has a weight; shapes as for [`combine`].

    Raises:
        ValueError: Counts what each lacks and names the first.
    """
    lacking = np.isnan(forecasts).any(axis=2) & (np.broadcast_to(weights, forecasts.shape[:2]) > 0)
    problems = [
        f"{name}: {column.sum()} of {len(battles)} ids are missing, the first {battles['id'][column.argmax()]}"
        for name, column in zip(names, lacking.T, strict=True)
        if column.any()
    ]
    if problems:
        raise ValueError("predictions that do not belong together:\n  " + "\n  ".join(problems))


def weights_of_battles(
    battles: pd.DataFrame, weights: list[float], longest: float = 0.0, weights_longest: list[float] | None = None
) -> np.ndarray:
    """
    The members' weights for each battle: `weights_longest` for the share `longest` of battles with the most tokens,
    as counted by the first member, and `weights` for the others.

    Returns:
        `ndarray`: Of shape `(battles, members)`; each row sums to 1.
    """
    of_battles = np.tile(np.array(weights, dtype=float), (len(battles), 1))
    if weights_longest is not None:
        of_battles[longest_battles(battles, longest)] = weights_longest
    return of_battles / of_battles.sum(axis=1, keepdims=True)


def longest_battles(battles: pd.DataFrame, share: float) -> np.ndarray:
    """Which battles are in the share with the most tokens, as truth values."""
    return largest(battles["num_tokens"].to_numpy(), battles["id"].to_numpy(dtype=str), share)


def combine(forecasts: np.ndarray, weights: np.ndarray, mean: str = "arithmetic") -> np.ndarray:
    """
    The weighted mean of the members' forecasts.

    Args:
        forecasts (`ndarray`): Of shape `(battles, members, 3)`. What has no weight may be NaN.
        weights (`ndarray`): Of shape `(members,)` or `(battles, members)`; they sum to 1.
        mean (`str`): "arithmetic", or "geometric": the mean of log probabilities, normalised.

    Returns:
        `ndarray`: Of shape `(battles, 3)`.
    """
    weights = np.broadcast_to(weights, forecasts.shape[:2])[..., None]
    if mean == "geometric":
        forecasts = np.log(np.clip(forecasts, 1e-12, 1))
    summed = (np.where(weights > 0, forecasts, 0.0) * weights).sum(axis=1)
    if mean == "geometric":
        summed = np.exp(summed - summed.max(axis=1, keepdims=True))
    return summed / summed.sum(axis=1, keepdims=True)


def fit_weights(forecasts: np.ndarray, labels: np.ndarray, mean: str = "arithmetic") -> np.ndarray:
    """
    The weights, none negative and together 1, with the least log loss. For both means it is convex in the weights.

    Args:
        forecasts (`ndarray`): Of shape `(battles, members, 3)`, of battles that no member was trained on.
        labels (`ndarray`): The votes, as indices into `WINNERS`.
        mean (`str`): As for [`combine`].
    """
    members = forecasts.shape[1]
    rows = np.arange(len(labels))

    def log_loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        weights = np.clip(weights, 0, None)  # SLSQP may step out of its bounds by a rounding error
        combined = combine(forecasts, weights / weights.sum(), mean)
        if mean == "geometric":
            logs = np.log(np.clip(forecasts, 1e-12, 1))
            slopes = (combined[:, None] * logs).sum(axis=2) - logs[rows, :, labels]
        else:
            slopes = 1 - forecasts[rows, :, labels] / np.clip(combined[rows, labels], 1e-12, 1)[:, None]
        return log_losses(combined, labels).mean(), slopes.mean(axis=0)

    found = minimize(
        log_loss, np.full(members, 1 / members), jac=True, method="SLSQP", bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10},
    )  # fmt: skip
    weights = np.clip(found.x, 0, None)
    return weights / weights.sum()


def cross_fitted_ensemble(
    forecasts: np.ndarray, labels: np.ndarray, groups: np.ndarray, mean: str = "arithmetic"
) -> np.ndarray:
    """Each battle's combined forecast, with weights that were fitted on battles of other groups: an honest one."""
    return cross_fitted(
        forecasts,
        labels,
        groups,
        fit=lambda members, votes: fit_weights(members, votes, mean),
        apply=lambda members, weights: combine(members, weights, mean),
    )
