"""Baselines: predictions without a judge, which a judge must beat."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ..metrics.functions import class_prior
from .features import FEATURES
from .table import VOTE_COLUMNS, vote_fractions


def baseline_predictions(table: pd.DataFrame, training: pd.DataFrame | None) -> tuple[dict[str, np.ndarray], str]:
    """
    Predict battles with each baseline.

    Args:
        table (`DataFrame`): The battles to predict, as made by [`features_table`]. With votes and `group` alone there
            is no logistic regression.
        training (`DataFrame`, *optional*): The judge's training battles. Default: each battle is predicted from
            those in `table` with another first prompt.

    Returns:
        `tuple[dict[str, ndarray], str]`: Probabilities of shape `(battles, 3)` by name of the baseline, and what they
        were fitted on, in words.
    """
    uniform = np.full((len(table), 3), 1 / 3)
    predictions, fits = {"uniform": uniform}, {"class_prior": _class_prior}
    if _features(table):
        fits["logistic_regression"] = _logistic_regression
    if training is not None:
        predictions |= {name: fit(training, table) for name, fit in fits.items()}
        return predictions, f"fitted on the {len(training)} training votes"
    num_folds = min(5, table["group"].nunique())
    for name, fit in fits.items():
        predictions[name] = uniform.copy()
        if num_folds > 1:
            for others, fold in GroupKFold(num_folds).split(table, groups=table["group"]):
                predictions[name][fold] = fit(table.iloc[others], table.iloc[fold])
    return predictions, f"cross-fitted by prompt on the {len(table)} votes of this report, in {num_folds} folds"


def _class_prior(training: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    return class_prior(vote_fractions(training), len(table))


def _logistic_regression(training: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    probabilities = _class_prior(training, table)
    if (model := _fit_regression(training)) is None:
        return probabilities
    seen, features = model.classes_, _features(training)
    # A winner without training votes keeps its probability of the prior.
    probabilities[:, seen] = model.predict_proba(table[features]) * probabilities[:, seen].sum(axis=1, keepdims=True)
    return probabilities


def _fit_regression(training: pd.DataFrame) -> Pipeline | None:
    votes = vote_fractions(training)
    rows, winners = np.nonzero(votes)  # a vote for several counts for each, by its fraction
    if len(set(winners)) < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    features = training[_features(training)].iloc[rows]
    return model.fit(features, winners, logisticregression__sample_weight=votes[rows, winners])


def style_regression(training: pd.DataFrame) -> dict | None:
    """
    The logistic regression of the baselines as numbers.

    Args:
        training (`DataFrame`): As made by [`features_table`].

    Returns:
        `dict`, *optional*: `mean` and `scale` of each of [`FEATURES`], `weights` of shape `(3, features)` and `biases`
        of shape `(3,)`. None if the votes lack one of A, B and tie, or the features are those of another version.
    """
    if tuple(_features(training)) != FEATURES or (model := _fit_regression(training)) is None:
        return None
    scaler, fitted = model
    if len(fitted.classes_) < 3:
        return None
    numbers = {"mean": scaler.mean_, "scale": scaler.scale_, "weights": fitted.coef_, "biases": fitted.intercept_}
    return {name: values.tolist() for name, values in numbers.items()}


def _features(table: pd.DataFrame) -> list[str]:
    """The columns to predict from."""
    return [name for name in table if name not in ("winner", "group", *VOTE_COLUMNS)]
