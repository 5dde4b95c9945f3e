"""Forecasts of other judges as what a judge learns from, joined to its battles by id."""

from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, List, Value

from .predictions import PROBABILITIES, best_order, load_predictions

TEACHERS = List(List(Value("float64")))  # a triple of probabilities for each teacher, or None


def join_teachers(battles: Dataset, files: list[str], allow_unmatched: bool = False) -> Dataset:
    """
    Add what teachers forecast.

    Args:
        battles (`Dataset`): Rows of [`PREPARED_FEATURES`]. A swapped twin gets its origin's forecast, exchanged.
        files (`list[str]`): Predictions files, one a teacher. Where they hold both orders their mean is taken.
        allow_unmatched (`bool`): Accept battles that a teacher knows nothing of (they learn from their vote alone),
            and forecasts of other battles.

    Returns:
        `Dataset`: The battles with a column `teachers`: a triple for each file, or None where one of them is missing.

    Raises:
        ValueError: With how many ids lack a match, on either side, for all files at once.
    """
    ids = battles["id"][:]
    origins = [origin or battle_id for battle_id, origin in zip(ids, battles["swapped_from"][:], strict=True)]
    swapped = np.array([battle_id != origin for battle_id, origin in zip(ids, origins, strict=True)], dtype=bool)
    forecasts, problems = [], []
    for file in files:
        table = read_forecasts(file)
        unknown, foreign = sorted(set(origins) - set(table.index)), sorted(set(table.index) - set(origins))
        if unknown:
            problems.append(f"{file}: no forecast for {len(unknown)} of {len(set(origins))} battles, as {unknown[0]}")
        if foreign:
            problems.append(f"{file}: {len(foreign)} forecasts for battles that are not here, as {foreign[0]}")
        triples = table.reindex(origins).to_numpy(copy=True)
        triples[swapped] = triples[swapped][:, [1, 0, 2]]
        forecasts.append(triples)
    if problems and not allow_unmatched:
        raise ValueError("\n  ".join(["teacher_files: give allow_unmatched to go on all the same.", *problems]))
    for problem in problems:
        print(problem)
    forecasts = np.stack(forecasts, axis=1)  # (battles, teachers, 3)
    known = ~np.isnan(forecasts).any(axis=(1, 2))
    column = [triples.tolist() if fine else None for triples, fine in zip(forecasts, known, strict=True)]
    return battles.add_column("teachers", column, feature=TEACHERS)


def read_forecasts(file: str | Path) -> pd.DataFrame:
    """
    A predictions file's best forecast of each battle: the mean of both orders, or the one order that it holds. A CSV
    file with ids and probabilities, as a submission is, will do too.

    Returns:
        `DataFrame`: Three columns of probabilities, indexed by id.

    Raises:
        ValueError: If it holds no forecasts, or an id stands in it twice.
    """
    if Path(file).suffix == ".csv" and Path(file).is_file():
        table = pd.read_csv(file, dtype={"id": str})
        missing = {"id", *PROBABILITIES} - set(table.columns)
        if missing:
            raise ValueError(f"{file}: no forecasts, it lacks the columns {', '.join(sorted(missing))}")
    else:
        table = load_predictions(file)
        table = table[table["order"] == best_order(table)]
    table = table.set_index("id")[PROBABILITIES]
    doubled = table.index[table.index.duplicated()]
    if len(doubled):
        raise ValueError(f"{file}: {len(doubled)} ids stand there twice, the first {doubled[0]}")
    broken = ~(np.isfinite(table).all(axis=1) & (table >= 0).all(axis=1) & (abs(table.sum(axis=1) - 1) < 1e-3))
    if broken.any():
        raise ValueError(f"{file}: {broken.sum()} forecasts are no probabilities, the first of {broken.idxmax()}")
    return table


def without_fold(battles: Dataset, fold: int) -> Dataset:
    """The battles of all folds but one."""
    return battles.select(np.flatnonzero(_folds(battles, fold) != fold))


def of_fold(battles: Dataset, fold: int) -> Dataset:
    """The battles of one fold; no swapped twins, whose forecast is their origin's, exchanged."""
    origins = np.array([origin is None for origin in battles["swapped_from"][:]])
    return battles.select(np.flatnonzero((_folds(battles, fold) == fold) & origins))


def _folds(battles: Dataset, fold: int) -> np.ndarray:
    folds = np.array([-1 if fold is None else fold for fold in battles["fold"][:]])
    if fold not in folds:
        known = ", ".join(map(str, sorted(set(folds.tolist()) - {-1}))) or "none; make them with num_folds"
        raise ValueError(f"fold: the data set has no fold {fold}. Its folds: {known}")
    return folds


def refuse_leaks(battles: Dataset, fingerprint: str, judges: dict[str, dict]) -> None:
    """
    Make sure that out-of-fold forecasts are what their name says.

    Args:
        battles (`Dataset`): The training battles.
        fingerprint (`str`): Their [`data_fingerprint`].
        judges (`dict[str, dict]`): The content of `judge.json` by adapter.

    Raises:
        ValueError: If a group stands in several folds, an adapter was trained on other data or on all folds, or the
            adapters do not have one fold each.
    """
    table = pd.DataFrame({"group": battles["group"][:], "fold": battles["fold"][:]}).dropna()
    torn = table.groupby("group")["fold"].nunique()
    problems = []
    if (torn > 1).any():
        problems.append(f"{(torn > 1).sum()} groups of battles stand in several folds, the first {torn.idxmax()}")
    for adapter, settings in judges.items():
        if settings["dataset"].get("train") != fingerprint:
            problems.append(f"{adapter}: was trained on another data set, so it may have seen any of these battles")
        elif settings.get("fold") is None:
            problems.append(f"{adapter}: was trained on all folds. Train it with --fold")
    left_out, wanted = [settings.get("fold") for settings in judges.values()], sorted(set(table["fold"].astype(int)))
    if not problems and sorted(left_out) != wanted:
        problems.append(f"the adapters leave out the folds {left_out}, and the data set has {wanted}: one each")
    if problems:
        raise ValueError("\n  ".join(["these forecasts would not be out of fold:", *problems]))
