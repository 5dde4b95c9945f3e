"""The letters' logits -> predictions of battles, in one order of the answers and in both."""

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from ..battle import prompt_group, swap_battle, swap_probabilities, winner_of
from ..encoding.examples import encode_battles, text_lengths
from ..errors import UserError
from ..predictions.calibration import apply_calibration
from ..predictions.features import swap_features
from ..predictions.table import PREDICTION_COLUMNS, PROBABILITIES, predictions_table, vote_columns

CHUNK = 256  # battles that are tokenized at a time


def encode_for_prediction(
    battles: list[dict],
    order: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    examples: str,
    prompt_version: str,
) -> tuple[list[np.ndarray], list[int], list[list[int]]]:
    """
    The examples of battles, with the answers as given or swapped.

    Args:
        battles, tokenizer, max_length: As for [`encode_battles`]. Votes are dropped.
        order (`str`): "ab" as given, or "ba" swapped.
        examples (`str`): The "last" one of each battle, or "all".
        prompt_version (`str`): As for [`encode_battle`].

    Returns:
        `tuple[list[ndarray], list[int], list[list[int]]]`: The token ids of each example, the index of its battle,
        and [`LENGTH_COLUMNS`] of each battle's last example.
    """
    unlabelled = [{**(swap_battle(battle) if order == "ba" else battle), "vote": None} for battle in battles]
    inputs, owners, lengths = [], [], []
    for start in range(0, len(unlabelled), CHUNK):
        encoded = encode_battles(unlabelled[start : start + CHUNK], tokenizer, max_length, prompt_version)
        for owner, battle_examples in enumerate(encoded, start):
            lengths.append(text_lengths(battle_examples[-1]))
            for example in battle_examples if examples == "all" else battle_examples[-1:]:
                inputs.append(example["input_ids"])
                owners.append(owner)
    return inputs, owners, lengths


def battle_predictions(battles: list[dict], order: str, logits: torch.Tensor, owners: list[int]) -> pd.DataFrame:
    """
    One row per battle with its prediction, the mean over its examples, in terms of the battle as given.

    Args:
        battles (`list[dict]`): The battles.
        order (`str`): "ab", or "ba" if the examples show the answers swapped.
        logits (`Tensor`): Of the letters, at the judge's temperature; shape `(examples, 3)`.
        owners (`list[int]`): The index of each example's battle.

    Raises:
        UserError: If a prediction is not a number. Names the battle.
    """
    probabilities = np.zeros((len(battles), 3))
    np.add.at(probabilities, owners, logits.softmax(-1).numpy())
    probabilities /= np.bincount(owners)[:, None]
    broken = np.flatnonzero(np.isnan(probabilities).any(axis=1))
    if len(broken):
        raise UserError(
            f"the predictions of {len(broken)} battles are not numbers, the first that of {battles[broken[0]]['id']}. "
            "Compute in another dtype"
        )
    votes = [battle.get("vote") for battle in battles]
    columns = {
        "id": [battle["id"] for battle in battles],
        **{name: [battle.get(name) for battle in battles] for name in ("model_a", "model_b")},
        "winner": [winner_of(vote) for vote in votes],
        **vote_columns(votes),
        "fold": [battle.get("fold") for battle in battles],
        "group": [prompt_group(battle) for battle in battles],
        **_columns(swap_probabilities(probabilities) if order == "ba" else probabilities),
    }
    return pd.DataFrame(columns).astype({name: PREDICTION_COLUMNS[name] for name in columns})


def combine_orders(
    as_given: pd.DataFrame,
    swapped: pd.DataFrame | None,
    calibrations: dict[str, dict],
    with_mean: bool,
    features: np.ndarray,
) -> pd.DataFrame:
    """
    Combine the orders in one predictions table, battles by place.

    Args:
        as_given (`DataFrame`): Predictions in the order "ab", all battles, by `place`, with `num_tokens`.
        swapped (`DataFrame`, *optional*): Predictions in the order "ba", of some battles, by `place`.
        calibrations (`dict`): As in `judge.json`: "position" for both orders before all else, and "ab" for predictions
            in one order, in terms of the answers as they were shown; "mean" for the mean of both.
        with_mean (`bool`): Give each battle a "mean": of both orders, or the one order that there is.
        features (`ndarray`): As from [`feature_matrix`], by place; without columns if no calibration needs them.
    """

    def calibrate(probabilities: np.ndarray, features: np.ndarray, order: str) -> np.ndarray:
        if order not in calibrations:
            return probabilities
        calibrated = apply_calibration(np.hstack([probabilities, features]), calibrations[order])
        if not np.isfinite(calibrated).all():
            raise UserError(
                "the calibration in judge.json makes probabilities that are no numbers. Calibrate the judge again, or "
                "give --calibrated false"
            )
        return calibrated

    def calibrate_as_shown(in_ba: np.ndarray, features: np.ndarray, order: str) -> np.ndarray:
        return swap_probabilities(calibrate(swap_probabilities(in_ba), features, order))

    in_ab = calibrate(as_given[PROBABILITIES].to_numpy(), features, "position")
    mean = calibrate(in_ab, features, "ab").copy()
    tables = [as_given.assign(order="ab", **_columns(mean))]
    if swapped is not None:
        places = swapped["place"].to_numpy()
        in_ba = calibrate_as_shown(swapped[PROBABILITIES].to_numpy(), features[places], "position")
        mean[places] = calibrate((in_ab[places] + in_ba) / 2, features[places], "mean")
        as_shown = swap_features(features[places]) if features.shape[1] else features[places]
        calibrated = calibrate_as_shown(in_ba, as_shown, "ab")
        tables.append(as_given.iloc[places].assign(order="ba", **_columns(calibrated)))
    if with_mean:
        tables.append(as_given.assign(order="mean", **_columns(mean)))
    return predictions_table(pd.concat(tables).sort_values(["place", "order"], ignore_index=True))


def _columns(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(PROBABILITIES, probabilities.T, strict=True))
