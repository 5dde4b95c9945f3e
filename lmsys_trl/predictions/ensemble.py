"""Predictions of several judges -> one. Functions of tables: models are not needed here."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from ..errors import UserError, raise_problems
from ..metrics.functions import as_fractions, log_losses
from ..terminal import logger
from .calibration import cross_fitted
from .table import PROBABILITIES, best_order, has_vote, other_votes, votes_and_groups
from .tta import top_fraction

MISMATCH = "predictions that do not belong together:"


def check_members(
    predictions: Sequence[str] | None,
    adapter: Sequence[str] | None,
    weights: Sequence[float] | None = None,
    longest: float = 0.0,
    weights_longest: Sequence[float] | None = None,
    fit_on: Sequence[str] | None = None,
    orders: Sequence[str] | None = None,
    **others: Sequence | None,
) -> list[str]:
    """
    Problems with the members of an ensemble and their weights.

    Args:
        predictions, adapter (`Sequence[str]`, *optional*): The members, as predictions files or as adapters.
        weights, longest, weights_longest: As for [`battle_weights`].
        fit_on, orders (`Sequence[str]`, *optional*): Instead of weights, as for [`fit_on_predictions`].
        others (`Sequence`, *optional*): More keys with one value for each member.
    """
    num_members, problems = len(predictions or adapter or ()), []
    if (predictions is None) == (adapter is None):
        problems.append("predictions, adapter: give one of the two")
    if (weights is None) == (fit_on is None):
        problems.append("weights, fit_on: give one of the two, such as weights 0.6 0.4 for two members")
    keys = {"weights": weights, "weights_longest": weights_longest, "fit_on": fit_on, "orders": orders, **others}
    for name, values in keys.items():
        if values is not None and len(values) != num_members:
            problems.append(f"{name}: {len(values)} for {num_members} members")
    for name, numbers in (("weights", weights), ("weights_longest", weights_longest)):
        if numbers and not 0 < sum(numbers) < np.inf:
            problems.append(f"{name}: expected finite numbers, at least one above 0")
    read = list(zip(fit_on or (), orders or fit_on or (), strict=False))  # a length that differs is named above
    if len(set(read)) < len(read):
        problems.append("fit_on: names a file twice. Give one for each member")
    if fit_on is None and (longest > 0) != (weights_longest is not None):
        problems.append("longest, weights_longest: give both or neither")
    return problems


def stack_predictions(
    names: Sequence[str], tables: Sequence[pd.DataFrame], orders: Sequence[str] | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """
    Join predictions tables by id, in the order of the first.

    Args:
        names (`Sequence[str]`): What errors call each member.
        tables (`Sequence[DataFrame]`): A predictions table for each member.
        orders (`Sequence[str]`, *optional*): Which order of each: "ab", "ba", "mean". Default: the mean if there is
            one, else "ab".

    Returns:
        `tuple[DataFrame, ndarray]`: The rows of the first member, and predictions of shape `(battles, members, 3)`,
        NaN where a member has none.

    Raises:
        UserError: If there are duplicate ids, ids that the first member does not have, or ids with another vote than
            its own, which are other battles. Counts them and names the first.
    """
    selected = [
        table[table["order"] == order] for table, order in zip(tables, orders or map(best_order, tables), strict=True)
    ]
    first, problems = selected[0], []
    for name, rows in zip(names, selected, strict=True):
        duplicates, unknown = rows["id"][rows["id"].duplicated()], rows["id"][~rows["id"].isin(first["id"])]
        if len(duplicates):
            problems.append(f"{name}: {len(duplicates)} duplicate ids, the first {duplicates.iloc[0]}")
        if len(unknown):
            problems.append(f"{name}: {len(unknown)} ids are not in {names[0]}, the first {unknown.iloc[0]}")
        if not len(duplicates) and len(other := other_votes(first, rows)):
            problems.append(f"{name}: {len(other)} ids have another vote than in {names[0]}, the first {other[0]}")
    raise_problems(problems, MISMATCH)
    stacked = [rows.set_index("id")[PROBABILITIES].reindex(first["id"]).to_numpy() for rows in selected]
    first = first.reset_index(drop=True)
    first.attrs = {}  # what one judge says of itself is not true of all
    return first, np.stack(stacked, axis=1)


def check_coverage(names: Sequence[str], battles: pd.DataFrame, predictions: np.ndarray, weights: np.ndarray) -> None:
    """
    Check that a member has a prediction wherever it has a weight; shapes as for [`combine`].

    Raises:
        UserError: Counts what each lacks and names the first.
    """
    lacking = np.isnan(predictions).any(axis=2) & (np.broadcast_to(weights, predictions.shape[:2]) > 0)
    problems = [
        f"{name}: {column.sum()} of {len(battles)} ids are missing, the first {battles['id'][column.argmax()]}"
        for name, column in zip(names, lacking.T, strict=True)
        if column.any()
    ]
    raise_problems(problems, MISMATCH)


def battle_weights(
    battles: pd.DataFrame,
    weights: Sequence[float],
    longest: float = 0.0,
    weights_longest: Sequence[float] | None = None,
) -> np.ndarray:
    """
    The members' weights for each battle: `weights_longest` for the fraction `longest` of battles with the most
    tokens, as counted by the first member, and `weights` for the others.

    Returns:
        `ndarray`: Of shape `(battles, members)`; each row sums to 1.
    """
    per_battle = np.tile(np.array(weights, dtype=float), (len(battles), 1))
    if weights_longest is not None:
        per_battle[longest_battles(battles, longest)] = weights_longest
    return per_battle / per_battle.sum(axis=1, keepdims=True)


def longest_battles(battles: pd.DataFrame, fraction: float) -> np.ndarray:
    """A boolean mask of the fraction of battles with the most tokens."""
    return top_fraction(battles["num_tokens"].to_numpy(), battles["id"].to_numpy(dtype=str), fraction)


def combine(predictions: np.ndarray, weights: np.ndarray, mean: str = "arithmetic") -> np.ndarray:
    """
    The weighted mean of the members' predictions.

    Args:
        predictions (`ndarray`): Of shape `(battles, members, 3)`. NaN is ignored where the weight is 0.
        weights (`ndarray`): Of shape `(members,)` or `(battles, members)`; they sum to 1.
        mean (`str`): "arithmetic", or "geometric": the mean of log probabilities, normalised.

    Returns:
        `ndarray`: Of shape `(battles, 3)`.
    """
    weights = np.broadcast_to(weights, predictions.shape[:2])[..., None]
    if mean == "geometric":
        predictions = np.log(np.clip(predictions, 1e-12, 1))
    summed = (np.where(weights > 0, predictions, 0.0) * weights).sum(axis=1)
    if mean == "geometric":
        summed = np.exp(summed - summed.max(axis=1, keepdims=True))
    return summed / summed.sum(axis=1, keepdims=True)


def fit_weights(predictions: np.ndarray, labels: np.ndarray, mean: str = "arithmetic") -> np.ndarray:
    """
    The weights, not negative and with sum 1, with the smallest log loss. It is convex in them for both means.

    Args:
        predictions (`ndarray`): Of shape `(battles, members, 3)`, of battles that no member was trained on.
        labels (`ndarray`): The votes, as for [`log_losses`].
        mean (`str`): As for [`combine`].
    """
    num_members = predictions.shape[1]
    votes = as_fractions(labels, 3)

    def log_loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        weights = np.clip(weights, 0, None)  # SLSQP may step out of its bounds by a rounding error
        combined = combine(predictions, weights / weights.sum(), mean)
        if mean == "geometric":
            logs = np.log(np.clip(predictions, 1e-12, 1))
            slopes = ((combined - votes)[:, None] * logs).sum(axis=2)
        else:
            slopes = 1 - (predictions * (votes / np.clip(combined, 1e-12, 1))[:, None]).sum(axis=2)
        return log_losses(combined, labels).mean(), slopes.mean(axis=0)

    solution = minimize(
        log_loss, np.full(num_members, 1 / num_members), jac=True, method="SLSQP", bounds=[(0, 1)] * num_members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10},
    )  # fmt: skip
    weights = np.clip(solution.x, 0, None)
    return weights / weights.sum()


def cross_fitted_ensemble(
    predictions: np.ndarray, labels: np.ndarray, groups: np.ndarray, mean: str = "arithmetic"
) -> np.ndarray:
    """Each battle's combined prediction, with weights that were fitted on battles of other groups: out-of-sample."""
    return cross_fitted(
        predictions,
        labels,
        groups,
        fit=lambda members, votes: fit_weights(members, votes, mean),
        apply=lambda members, weights: combine(members, weights, mean),
    )


def refuse_other_order(
    members: Sequence[str], weights: Sequence[str | None], fit_on: Sequence[str], fitted: Sequence[pd.DataFrame]
) -> None:
    """
    Raise a [`UserError`] if files to fit on, with the tables `fitted`, say that they are not of the members' judges,
    in their order. `weights` are the members' fingerprints, None where none is known.
    """
    raise_problems(
        [
            f"fit_on: {other} was predicted by another judge than {member}. Give the files in the order of the members"
            for member, other, one, two in zip(members, fit_on, weights, map(judge_weights, fitted), strict=True)
            if one and two and one != two
        ]
    )


def judge_weights(predictions: pd.DataFrame) -> str | None:
    """The fingerprint of the weights that made predictions, if their file says so."""
    return predictions.attrs.get("judge", {}).get("adapter")


def fit_on_predictions(
    files: Sequence[str],
    tables: Sequence[pd.DataFrame],
    longest: float = 0.0,
    mean: str = "arithmetic",
    orders: Sequence[str] | None = None,
) -> tuple[list[float], list[float] | None]:
    """
    Fit the weights for all battles, or one set for the longest and one for the others, and log what they gain.

    Args:
        files (`Sequence[str]`), tables (`Sequence[DataFrame]`): The names of predictions files, one for each member,
            and what is in them: battles with votes that no member was trained on.
        longest (`float`): The fraction of longest battles with weights of their own.
        mean (`str`): As for [`combine`].
        orders (`Sequence[str]`, *optional*): As for [`stack_predictions`].

    Returns:
        `tuple[list[float], list[float] | None]`: `weights` and `weights_longest` as for [`battle_weights`].
    """
    battles, predictions = stack_predictions(files, tables, orders)
    check_coverage(files, battles, predictions, np.full(len(files), 1 / len(files)))
    mask = longest_battles(battles, longest)
    weights = _fit_and_log("weights", files, battles[~mask], predictions[~mask], mean)
    if not longest:
        return weights, None
    return weights, _fit_and_log("weights_longest", files, battles[mask], predictions[mask], mean)


def _fit_and_log(
    name: str, files: Sequence[str], battles: pd.DataFrame, predictions: np.ndarray, mean: str
) -> list[float]:
    labelled = has_vote(battles)
    predictions = predictions[labelled]
    labels, groups = votes_and_groups(battles[labelled])
    if not labelled.any():
        raise UserError(f"fit_on: {files[0]} has no votes. Give predictions of battles with votes")
    if len(set(groups)) < 2:
        raise UserError(f"fit_on: {name} are fitted on some groups of battles and tested on others: two at least")
    weights = fit_weights(predictions, labels, mean)
    combined = [
        *zip(files, predictions.transpose(1, 0, 2), strict=True),
        ("all, equal weights", combine(predictions, np.full(len(weights), 1 / len(weights)), mean)),
        ("all, fitted weights (cross-fitted)", cross_fitted_ensemble(predictions, labels, groups, mean)),
    ]
    logger.info("%s, log loss on %d battles of %d groups:", name, len(labels), len(set(groups)))
    for description, probabilities in combined:
        logger.info("  %.4f  %s", log_losses(probabilities, labels).mean(), description)
    logger.info("%s: [%s]", name, ", ".join(f"{weight:.4f}" for weight in weights))
    return weights.tolist()


def combine_tables(
    names: Sequence[str],
    tables: Sequence[pd.DataFrame],
    orders: Sequence[str] | None,
    weights: Sequence[float],
    longest: float = 0.0,
    weights_longest: Sequence[float] | None = None,
    mean: str = "arithmetic",
) -> pd.DataFrame:
    """
    The ensemble's predictions as a table with one row per battle, in the order of the first member.

    Args:
        names, tables, orders: As for [`stack_predictions`].
        weights, longest, weights_longest: As for [`battle_weights`].
        mean (`str`): As for [`combine`].
    """
    battles, predictions = stack_predictions(names, tables, orders)
    per_battle = battle_weights(battles, weights, longest, weights_longest)
    check_coverage(names, battles, predictions, per_battle)
    battles[PROBABILITIES] = combine(predictions, per_battle, mean)
    battles["order"] = "ab"
    return battles
