"""Predictions of other judges that a judge learns from, joined to its battles by id."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, List, Value

from ..battle import swap_probabilities
from ..errors import UserError, raise_problems
from ..models.judge_file import JudgeFile
from ..predictions.table import PROBABILITIES, best_order, is_distribution, load_predictions
from ..terminal import logger

TEACHERS_COLUMN = List(List(Value("float64")))  # the probabilities of A, B and tie for each teacher, or None


def join_teachers(
    battles: Dataset,
    files: list[str],
    allow_unmatched: bool = False,
    elsewhere: Mapping[str, set[str]] | None = None,
) -> Dataset:
    """
    Add the predictions of teachers.

    Args:
        battles (`Dataset`): Battles with [`PREPARED_SCHEMA`]. A swapped copy gets its source's predictions, swapped.
        files (`list[str]`): Predictions files, one for each teacher. If one has both orders their mean is taken.
        allow_unmatched (`bool`): Accept battles without a prediction (they learn from their vote alone), and
            predictions on battles that the data set does not know.
        elsewhere (`Mapping[str, set[str]]`, *optional*): Ids that are in the data set but not among these battles, by
            where they are ("validation"). Predictions on them are counted, and accepted.

    Returns:
        `Dataset`: The battles with a column `teachers`: the probabilities of A, B and tie for each file, or None if
        one of them is missing.

    Raises:
        UserError: With the numbers of ids without a match, on either side, for all files at once.
    """
    ids = battles["id"][:]
    source_ids = [source or battle_id for battle_id, source in zip(ids, battles["swapped_from"][:], strict=True)]
    swapped = np.array([battle_id != source for battle_id, source in zip(ids, source_ids, strict=True)], dtype=bool)
    known_ids, predictions, problems = set(source_ids), [], []
    for file in files:
        table = read_teacher_predictions(file)
        missing, others = sorted(known_ids - set(table.index)), set(table.index) - known_ids
        for where, place in (elsewhere or {}).items():
            if found := others & place:
                logger.info("%s: %d of its predictions are on battles in %s", file, len(found), where)
                others -= found
        unknown = sorted(others)
        if missing:
            problems.append(f"{file}: no prediction for {len(missing)} of {len(known_ids)} ids, such as {missing[0]}")
        if unknown:
            problems.append(f"{file}: {len(unknown)} unknown ids, such as {unknown[0]}")
        triples = table.reindex(source_ids).to_numpy(copy=True)
        triples[swapped] = swap_probabilities(triples[swapped])
        predictions.append(triples)
    if not allow_unmatched:
        raise_problems(problems, "teacher_files: ids without a match. Give --allow_unmatched to continue anyway:")
    for problem in problems:
        logger.warning("%s", problem)
    stacked = np.stack(predictions, axis=1)  # (battles, teachers, 3)
    is_known = ~np.isnan(stacked).any(axis=(1, 2))
    column = [triples.tolist() if known else None for triples, known in zip(stacked, is_known, strict=True)]
    return battles.add_column("teachers", column, feature=TEACHERS_COLUMN)


def read_teacher_predictions(file: str | Path) -> pd.DataFrame:
    """
    The best prediction for each battle in a predictions file: the mean of both orders, or the one order that it has.
    A CSV file with ids and probabilities, such as a submission, is accepted too.

    Returns:
        `DataFrame`: Three columns of probabilities, indexed by id.

    Raises:
        UserError: If it holds no predictions, has duplicate ids, or a row is not three probabilities.
    """
    if Path(file).suffix == ".csv" and Path(file).is_file():
        table = pd.read_csv(file, dtype={"id": str})
        missing = {"id", *PROBABILITIES} - set(table.columns)
        if missing:
            raise UserError(f"{file}: no predictions, it lacks the columns {', '.join(sorted(missing))}")
    else:
        table = load_predictions(file)
        table = table[table["order"] == best_order(table)]
    table = table.set_index("id")[PROBABILITIES]
    duplicates = table.index[table.index.duplicated()]
    if len(duplicates):
        raise UserError(f"{file}: {len(duplicates)} duplicate ids, the first {duplicates[0]}")
    broken = ~is_distribution(table.to_numpy())
    if broken.any():
        first = table.index[broken.argmax()]
        raise UserError(f"{file}: {broken.sum()} rows are not probabilities, the first that of {first}")
    return table


def exclude_fold(battles: Dataset, fold: int) -> Dataset:
    """The battles of all folds except one."""
    return battles.select(np.flatnonzero(_folds(battles, fold) != fold))


def select_fold(battles: Dataset, fold: int) -> Dataset:
    """The battles of one fold, without swapped copies: their predictions are those of their sources, swapped."""
    is_source = np.array([source_id is None for source_id in battles["swapped_from"][:]])
    return battles.select(np.flatnonzero((_folds(battles, fold) == fold) & is_source))


def _folds(battles: Dataset, fold: int) -> np.ndarray:
    folds = np.array([-1 if fold is None else fold for fold in battles["fold"][:]])
    if fold not in folds:
        known = ", ".join(map(str, sorted(set(folds.tolist()) - {-1}))) or "none; make them with num_folds"
        raise UserError(f"fold: the data set has no fold {fold}. Its folds: {known}")
    return folds


def check_out_of_fold(battles: Dataset, fingerprint: str, judges: dict[str, JudgeFile]) -> None:
    """
    Check that predictions will be out of fold.

    Args:
        battles (`Dataset`): The training battles.
        fingerprint (`str`): Their [`data_fingerprint`].
        judges (`dict[str, JudgeFile]`): The judges by adapter.

    Raises:
        UserError: If a group is split over several folds, a judge was trained on other data or on all folds, or not
            every fold has one judge.
    """
    table = pd.DataFrame({"group": battles["group"][:], "fold": battles["fold"][:]}).dropna()
    num_folds = table.groupby("group")["fold"].nunique()
    problems = []
    if (num_folds > 1).any():
        problems.append(f"{(num_folds > 1).sum()} groups are split over several folds, the first {num_folds.idxmax()}")
    excluded = []
    for adapter, judge in judges.items():
        if judge.dataset.get("train") != fingerprint:
            problems.append(f"{adapter}: was trained on another data set, so it may have seen any of these battles")
        elif judge.fold is None:
            problems.append(f"{adapter}: was trained on all folds. Train it with --fold")
        elif any(e["dataset"].get("train") == fingerprint and e["fold"] != judge.fold for e in judge.earlier):
            problems.append(f"{adapter}: started from a judge that has seen fold {judge.fold}. Train that with --fold")
        else:
            excluded.append(judge.fold)
    folds = sorted(set(table["fold"].astype(int)))
    if not problems and sorted(excluded) != folds:
        problems.append(f"the adapters exclude the folds {excluded}, and the data set has {folds}: give one for each")
    raise_problems(problems, "these predictions would not be out of fold:")
