"""What a battle is, and what exchanging its two answers means."""

import re

from datasets import Features, List, Value

WINNERS = ("model_a", "model_b", "tie")  # the order of every triple of probabilities in this project

BATTLE_FEATURES = Features(
    {
        "id": Value("string"),  # as it stands in the file
        "source": Value("string"),  # the name of the source it came from
        "language": Value("string"),  # as the source names it
        "model_a": Value("string"),
        "model_b": Value("string"),
        "prompt": List(Value("string")),  # one entry a turn; None where the file has null
        "response_a": List(Value("string")),
        "response_b": List(Value("string")),
        "winner": Value("string"),  # one of WINNERS, or None where there is no vote or no single winner
        "soft_label": List(Value("float64")),  # the shares of WINNERS where the vote is not one of them alone, or None
    }
)
PREPARED_FEATURES = Features(
    {
        **BATTLE_FEATURES,
        "group": Value("string"),  # battles of one group stand on one side of every split
        "fold": Value("int32"),  # None in validation, or where no folds were asked for
        "swapped_from": Value("string"),  # the id of the battle that this is with A and B exchanged, or None
    }
)


def swap_battle(battle: dict) -> dict:
    """
    The same battle with the answers' places exchanged, models and vote with them.

    Args:
        battle (`dict`): A row of [`BATTLE_FEATURES`]; the models, the vote and what teachers forecast may be missing.

    Returns:
        `dict`: A new row under the same id. Swapping twice gives the battle back.
    """
    swapped = dict(battle)
    for one, other in (("response_a", "response_b"), ("model_a", "model_b")):
        if one in battle:
            swapped[one], swapped[other] = battle[other], battle[one]
    if battle.get("soft_label"):
        a, b, tie = battle["soft_label"]
        swapped["soft_label"] = [b, a, tie]
    if battle.get("teachers"):
        swapped["teachers"] = [[b, a, tie] for a, b, tie in battle["teachers"]]
    if "winner" in battle:
        swapped["winner"] = {"model_a": "model_b", "model_b": "model_a"}.get(battle["winner"], battle["winner"])
    return swapped


def replace_surrogates(text: str) -> tuple[str, int]:
    """The text with each lone surrogate, which no tokenizer or file takes, as U+FFFD, and how many there were."""
    if text.isascii():
        return text, 0
    return re.subn("[\ud800-\udfff]", "\ufffd", text)


def first_prompt(battle: dict) -> str:
    """
    The first user turn with white space normalised: battles in which it is equal belong together, so that a
    conversation and its continuation never stand on different sides of a split.
    """
    return " ".join((battle["prompt"][0] or "").split()) if battle["prompt"] else ""
