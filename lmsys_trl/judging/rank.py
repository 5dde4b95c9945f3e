"""Candidates for a prompt -> the best of them, by battles between them in both orders."""

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from datasets import Dataset

from ..errors import UserError, raise_problems
from ..predictions.table import PROBABILITIES
from .battles import as_battle

if TYPE_CHECKING:
    from .judge import Judge

Method: TypeAlias = Literal["round_robin", "knockout"]
Match = tuple[int, int, int]  # the prompt and two of its candidates, by number


def rank_candidates(judge: "Judge", prompts: list[dict], method: Method = "round_robin", **options) -> list[dict]:
    """
    Rank the candidates of many prompts at once.

    Args:
        judge (`Judge`): Who judges.
        prompts (`list[dict]`): With `prompt` and `responses`, a list; each a text, or a list with one text a turn.
        method (`str`): "round_robin": every two candidates meet, `n * (n - 1) / 2` battles; or "knockout": the winner
            of a battle meets the winner of another, `n - 1` battles, which find the best and say less of the others.
        options: Of [`PredictionOptions`]. In `folder` each round has shards of its own.

    Returns:
        `list[dict]`: For each prompt `ranking`, the numbers of its candidates from 0, best first; and `scores` in the
        order of the candidates: the mean of what each gets from its battles, a tie half a win, or with "knockout" the
        number of rounds that it stayed in, plus what it got from the battle that it lost.

    Raises:
        UserError: If there are no candidates, or texts do not fit.
    """
    problems = [
        f"prompt {number}: responses: expected a list of one or more, found {row.get('responses')!r:.60}"
        for number, row in enumerate(prompts, 1)
        if not isinstance(row.get("responses"), list) or not row["responses"]
    ]
    if method not in ("round_robin", "knockout"):
        problems.append(f"method: expected round_robin or knockout, found {method}")
    raise_problems(problems)
    rank = _round_robin if method == "round_robin" else _knockout
    return [
        {"ranking": np.argsort(-scores, kind="stable").tolist(), "scores": scores.tolist()}
        for scores in rank(judge, prompts, options)
    ]


def _round_robin(judge: "Judge", prompts: list[dict], options: dict) -> list[np.ndarray]:
    matches = [
        (number, a, b) for number, row in enumerate(prompts) for a, b in combinations(range(len(row["responses"])), 2)
    ]
    scores = [np.zeros(len(row["responses"])) for row in prompts]
    for (number, a, b), points in zip(matches, _play(judge, prompts, matches, options, 1), strict=True):
        scores[number][[a, b]] += points, 1 - points
    return [total / max(len(total) - 1, 1) for total in scores]


def _knockout(judge: "Judge", prompts: list[dict], options: dict) -> list[np.ndarray]:
    scores = [np.zeros(len(row["responses"])) for row in prompts]
    left = [list(range(len(row["responses"]))) for row in prompts]
    number_of_round = 0
    while any(len(numbers) > 1 for numbers in left):
        number_of_round += 1
        odd = [numbers for numbers in left if len(numbers) % 2]
        matches = [
            (number, *pair)
            for number, numbers in enumerate(left)
            for pair in zip(numbers[0::2], numbers[1::2], strict=False)
        ]
        for (number, a, b), points in zip(
            matches, _play(judge, prompts, matches, options, number_of_round), strict=True
        ):
            loser = b if points >= 0.5 else a
            scores[number][loser] = number_of_round - 1 + min(points, 1 - points)
            left[number].remove(loser)
            if len(left[number]) == 1:
                scores[number][left[number][0]] = number_of_round
        for numbers in odd:  # the last one has met nobody: it is the first to do so in the next round
            numbers.insert(0, numbers.pop())
    return scores


def _play(judge: "Judge", prompts: list[dict], matches: list[Match], options: dict, number_of_round: int) -> list:
    """What the first candidate of each match gets, from 0 to 1, by its battle in both orders."""
    if not matches:
        return []
    battles = []
    for number, a, b in matches:
        row = prompts[number]
        texts = {"prompt": row["prompt"], "response_a": row["responses"][a], "response_b": row["responses"][b]}
        battle = as_battle({"id": f"{number + 1}: {a} - {b}", **texts, "vote": None})
        if len({len(battle[name]) for name in texts}) > 1:
            raise UserError(
                f"prompt {number + 1}: its prompt and candidates {a} and {b} have different numbers of turns"
            )
        battles.append(battle)
    if folder := options.get("folder"):
        options = {**options, "folder": Path(folder) / str(number_of_round)}
    table = judge.predict_dataset(Dataset.from_list(battles), tta="swap", **options)
    rows = table[table["order"] == "mean"].set_index("id").loc[[battle["id"] for battle in battles], PROBABILITIES]
    return (rows.iloc[:, 0] + rows.iloc[:, 2] / 2).tolist()
