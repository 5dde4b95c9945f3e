"""Battles as a program has them -> battles with a list of texts in each column."""

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
from datasets import Dataset

from ..battle import replace_surrogates
from ..data.columns import TURN_COLUMNS
from ..data.votes import to_fractions
from ..errors import UserError, collect_problems, raise_problems


def as_battles(battles: Dataset | pd.DataFrame | list[dict]) -> Dataset | list[dict]:
    """
    Battles as a judge predicts them. Those of a `Dataset` are left on disk; [`as_battle`] is for each when it is read.

    Raises:
        UserError: With the problems of all battles, or if they are something else.
    """
    if isinstance(battles, Dataset):
        _check_columns(battles.column_names)
        if "id" not in battles.column_names:
            raise UserError("battles: a Dataset needs a column id")
        return battles
    if isinstance(battles, pd.DataFrame):
        battles = battles.to_dict("records")
    if not isinstance(battles, list) or not all(isinstance(battle, Mapping) for battle in battles):
        raise UserError("battles: expected a list of dicts, a DataFrame or a Dataset")
    _check_columns(set(TURN_COLUMNS).intersection(*battles))  # those that all have
    converted: list[dict] = []
    problems: list[str] = []
    for number, battle in enumerate(battles):
        with collect_problems(problems):
            converted.append(as_battle({"id": str(number), **battle}))
    repeated = [battle_id for battle_id, count in Counter(battle["id"] for battle in converted).items() if count > 1]
    if repeated:
        problems.append(f"battles: {len(repeated)} ids are given more than once, such as {repeated[0]}")
    raise_problems(problems)
    return converted


def as_battle(battle: Mapping) -> dict:
    """
    A battle with a list of texts in each of its columns: a text alone is one turn.

    Raises:
        UserError: If a column holds something else, such as messages.
    """
    columns = {column: battle[column] for column in TURN_COLUMNS}
    if all(map(_is_json_list, columns.values())):
        raise UserError(
            f"battle {battle.get('id')}: its texts are JSON lists. Convert them with json.loads, or use lmsys-trl "
            "predict, which reads such files"
        )
    texts = {column: _texts(battle.get("id"), column, value) for column, value in columns.items()}
    return {**battle, **texts, "vote": _vote(battle.get("id"), battle.get("vote"))}


def _vote(battle_id, value) -> list[float] | None:
    if _is_missing(value):
        return None
    vote = to_fractions(list(value)) if isinstance(value, list | tuple | np.ndarray) else None
    if vote is None:
        raise UserError(
            f"battle {battle_id}: vote: expected the fractions of A, B and tie, found {value!r:.100}. Leave it out, "
            "or convert it: lmsys_trl.battle.vote_for('model_a')"
        )
    return vote


def _texts(battle_id, column: str, value) -> list[str | None]:
    if isinstance(value, str) or _is_missing(value):
        value = [value if isinstance(value, str) else None]
    if isinstance(value, tuple | np.ndarray):
        value = list(value)
    if not isinstance(value, list) or not all(text is None or isinstance(text, str) for text in value):
        raise UserError(
            f"battle {battle_id}: {column}: expected a text, or a list with one text a turn, found {value!r:.100}. "
            "Give the texts of messages"
        )
    return [text and replace_surrogates(text)[0] for text in value]


def _is_missing(value) -> bool:
    """Whether a cell is empty, as programs and pandas say so."""
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _is_json_list(value) -> bool:
    if not isinstance(value, str) or not value.startswith("["):
        return False
    try:
        return isinstance(json.loads(value), list)
    except ValueError:
        return False


def _check_columns(columns) -> None:
    missing = [name for name in TURN_COLUMNS if name not in columns]
    if missing:
        raise UserError(
            f"battles: no {', '.join(missing)}, which each needs. lmsys-trl predict reads files of other formats"
        )
