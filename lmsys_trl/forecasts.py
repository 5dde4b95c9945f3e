"""Letters' logits -> forecasts of battles, in one order and in both."""

from hashlib import sha256

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from .battle import first_prompt, swap_battle
from .calibration import apply_calibration
from .predictions import COLUMNS, PROBABILITIES, predictions_table
from .rows import encode_battles

NUM_ENCODED = 256  # battles that are tokenized at a time


def shown_rows(
    battles: list[dict], order: str, tokenizer: PreTrainedTokenizerBase, max_length: int, rows: str
) -> tuple[list[np.ndarray], list[int]]:
    """
    What a judge is shown of battles, "ab" as given or "ba" with the answers exchanged.

    Args:
        battles, tokenizer, max_length: As for [`encode_battles`]. Votes are left out.
        order (`str`): "ab" or "ba".
        rows (`str`): "last" row of each battle, or "all".

    Returns:
        `tuple[list[ndarray], list[int]]`: The token ids of each row, and the place of its battle.
    """
    shown = [{**(swap_battle(battle) if order == "ba" else battle), "winner": None} for battle in battles]
    inputs, owners = [], []
    for start in range(0, len(shown), NUM_ENCODED):
        encoded = encode_battles(shown[start : start + NUM_ENCODED], tokenizer, max_length)
        for owner, of_battle in enumerate(encoded, start):
            for row in of_battle if rows == "all" else of_battle[-1:]:
                inputs.append(np.array(row["input_ids"], dtype=np.int32))  # a ninth of a list's memory
                owners.append(owner)
    return inputs, owners


def battle_forecasts(battles: list[dict], order: str, logits: torch.Tensor, owners: list[int]) -> pd.DataFrame:
    """
    One row a battle with its forecast, the average over its rows, in terms of the battle as given.

    Args:
        battles (`list[dict]`): The battles.
        order (`str`): "ab", or "ba" if the rows show the answers exchanged.
        logits (`Tensor`): Of the letters, at the judge's temperature; shape `(rows, 3)`.
        owners (`list[int]`): The place of each row's battle.

    Raises:
        ValueError: If one is not a number. Names the battle.
    """
    probabilities = np.zeros((len(battles), 3))
    np.add.at(probabilities, owners, logits.softmax(-1).numpy())
    probabilities /= np.bincount(owners)[:, None]
    broken = np.flatnonzero(np.isnan(probabilities).any(axis=1))
    if len(broken):
        raise ValueError(
            f"the forecasts of {len(broken)} battles are not numbers, the first that of {battles[broken[0]]['id']}. "
            "Compute in another dtype"
        )
    columns = {
        "id": [battle["id"] for battle in battles],
        "winner": [battle.get("winner") for battle in battles],
        "fold": [battle.get("fold") for battle in battles],
        "group": [battle.get("group") or sha256(first_prompt(battle).encode()).hexdigest() for battle in battles],
        **_columns(exchange(probabilities) if order == "ba" else probabilities),
    }
    return pd.DataFrame(columns).astype({name: COLUMNS[name] for name in columns})


def exchange(probabilities: np.ndarray) -> np.ndarray:
    """A's chance in B's place and the other way round; shape `(battles, 3)`."""
    return probabilities[:, [1, 0, 2]]


def in_all_orders(
    given: pd.DataFrame, exchanged: pd.DataFrame | None, calibrations: dict, with_mean: bool
) -> pd.DataFrame:
    """
    Put the orders together as a predictions table, battles by place.

    Args:
        given (`DataFrame`): Forecasts in the order "ab", all battles, by `place`, with `num_tokens`.
        exchanged (`DataFrame`, *optional*): Forecasts in the order "ba", of some battles, by `place`.
        calibrations (`dict`): As stored in judge.json: "ab" for a forecast in one order, in terms of the answers as
            they were shown, "mean" for the average of both.
        with_mean (`bool`): Give each battle a "mean", where there is one order that one.
    """

    def calibrate(probabilities: np.ndarray, order: str) -> np.ndarray:
        return apply_calibration(probabilities, calibrations[order]) if order in calibrations else probabilities

    one = given[PROBABILITIES].to_numpy()
    best = calibrate(one, "ab").copy()
    tables = [given.assign(order="ab", **_columns(calibrate(one, "ab")))]
    if exchanged is not None:
        chosen, other = exchanged["place"].to_numpy(), exchanged[PROBABILITIES].to_numpy()
        best[chosen] = calibrate((one[chosen] + other) / 2, "mean")
        shown = exchange(calibrate(exchange(other), "ab"))
        tables.append(given.iloc[chosen].assign(order="ba", **_columns(shown)))
    if with_mean:
        tables.append(given.assign(order="mean", **_columns(best)))
    return predictions_table(pd.concat(tables).sort_values(["place", "order"], ignore_index=True))


def _columns(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(PROBABILITIES, probabilities.T, strict=True))
