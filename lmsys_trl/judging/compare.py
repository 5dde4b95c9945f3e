"""One pair of answers -> probabilities in both orders, a verdict, and what was not read."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..data.columns import TURN_COLUMNS
from ..predictions.table import LENGTH_COLUMNS, PROBABILITIES
from .battles import as_battles

if TYPE_CHECKING:
    from .judge import Judge, Texts

NAMES = {"prompt": "the prompt", "response_a": "answer A", "response_b": "answer B"}
VERDICTS = {"model_a": "A is better", "model_b": "B is better", "tie": "it is a tie"}


def compare_answers(judge: "Judge", prompt: "Texts", response_a: "Texts", response_b: "Texts") -> dict:
    """
    Compare two answers in both orders.

    Args:
        judge (`Judge`): Who compares.
        prompt, response_a, response_b (`str` or `Sequence[str]`): A text, or one for each turn.

    Returns:
        `dict`: `ab`, `ba` and `mean`: the probabilities of `winner_model_a`, `winner_model_b` and `winner_tie` with
        the answers as given, swapped (in terms of the answers as given), and their mean, each with its calibration if
        the judge has one. `verdict`: "model_a", "model_b" or "tie", the most likely one of the mean; `flips`: whether
        the orders have different ones.
        `turns_dropped`: the number of first turns that were not read; `truncated`: of each text that was not read to
        its end `name`, `turn` (from 1), and the tokens that were `kept`.

    Raises:
        UserError: If the numbers of turns differ, or a text is something else.
    """
    (battle,) = as_battles([{"id": "0", "prompt": prompt, "response_a": response_a, "response_b": response_b}])
    predictions = judge.predict_dataset([battle], tta="swap", with_lengths=True).set_index("order")
    table, lengths = predictions[PROBABILITIES], predictions.loc["ab", LENGTH_COLUMNS].astype(int).tolist()
    winners = table.idxmax(axis=1).str.removeprefix("winner_")
    *texts, turns_dropped = lengths
    return {
        **table.to_dict("index"),
        "verdict": winners["mean"],
        "flips": bool(winners["ab"] != winners["ba"]),
        "turns_dropped": turns_dropped,
        # A turn that is truncated is the only one of its example, so the last one.
        "truncated": [
            {"name": name, "turn": len(battle["prompt"]), "kept": kept}
            for name, total, kept in zip(TURN_COLUMNS, texts[::2], texts[1::2], strict=True)
            if kept < total
        ],
    }


def comparison_lines(found: dict) -> Iterator[str]:
    """What [`compare_answers`] found, as lines for people."""
    yield f"{'':18}{'A':>8}{'B':>8}{'tie':>8}"
    for order, title in (("ab", "A shown first"), ("ba", "B shown first"), ("mean", "mean")):
        yield f"{title:18}" + "".join(f"{found[order][name]:8.3f}" for name in PROBABILITIES)
    yield from verdict_lines(found)


def verdict_lines(found: dict) -> Iterator[str]:
    """The verdict of [`compare_answers`] in words, and what was not read."""
    probability = found["mean"][f"winner_{found['verdict']}"]
    flips = "The two orders have different verdicts." if found["flips"] else "Both orders have this verdict."
    yield f"Verdict: {VERDICTS[found['verdict']]} ({probability:.1%}). {flips}"
    if found["turns_dropped"]:
        yield f"Turns that were not read, since the conversation is too long: the first {found['turns_dropped']}."
    for text in found["truncated"]:
        yield f"Of {NAMES[text['name']]} in turn {text['turn']} only the first {text['kept']} tokens were read."
