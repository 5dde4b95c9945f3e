"""The words of the prompt. A change of any word is a new version, since judges are trained on the exact tokens."""

from .battle import replace_surrogates

PROMPT_VERSION = "lmsys-38th-v1"  # the prompt of the 38th place in LMSYS - Chatbot Arena Human Preference Predictions

INSTRUCTION = (
    "Here are two question-answering dialogues. Compare two models' performance on answering questions, determine "
    "which is better.\n"
)
OPTIONS = "###options\nA. Model A\nB. Model B\nC. Tie"
LETTERS = {"model_a": "A", "model_b": "B", "tie": "C"}


def round_scaffold(k: int) -> tuple[str, str, str, str]:
    """The four pieces around the prompt, the answer of A and the answer of B in round `k` (from 1)."""
    return f"#Prompt{k}\n", "\n#Response\n##Model A\n", "\n##Model B\n", "\n\n"


def turn_text(turn: str | None) -> str:
    """What stands for a turn: a null or an empty one is written `None`."""
    return replace_surrogates(turn)[0] if turn else "None"
