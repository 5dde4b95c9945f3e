"""The words of the prompt. A change of any word is a new version, since judges are trained on the exact tokens."""

from ..battle import replace_surrogates

PROMPT_VERSION = "lmsys-38th-v1"  # the prompt of the reference solution

INSTRUCTION = (
    "Here are two question-answering dialogues. Compare two models' performance on answering questions, determine "
    "which is better.\n"
)
OPTIONS = "###options\nA. Model A\nB. Model B\nC. Tie"
LETTERS = {"model_a": "A", "model_b": "B", "tie": "C"}  # the answer token by winner


def turn_headers(k: int) -> tuple[str, str, str, str]:
    """What is written before the prompt, before the two answers, and after them, in turn `k` (counted from 1)."""
    return f"#Prompt{k}\n", "\n#Response\n##Model A\n", "\n##Model B\n", "\n\n"


def turn_text(text: str | None) -> str:
    """A text of a turn as it is written in the prompt: `None` if it is null or empty."""
    return replace_surrogates(text)[0] if text else "None"
