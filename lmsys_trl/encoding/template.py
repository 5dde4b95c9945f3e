"""The words of the prompt. A change of any word is a new version, since judges are trained on the exact tokens."""

from typing import NamedTuple

from ..battle import replace_surrogates

PROMPT_VERSION = "lmsys-38th-v1"  # as the reference solution describes its prompt: the default
CODE_VERSION = "lmsys-38th-code"  # as its code writes it, which is what its published adapters have learned
LETTERS = {"model_a": "A", "model_b": "B", "tie": "C"}  # the answer token by winner


class Template(NamedTuple):
    """The words of one version."""

    instruction: str
    headers: tuple[str, str, str, str]  # before the prompt, before the two answers, and after them; {k} is the turn
    options: str

    def turn_headers(self, k: int) -> list[str]:
        """The headers of turn `k`, counted from 1."""
        return [header.format(k=k) for header in self.headers]


TEMPLATES = {
    PROMPT_VERSION: Template(
        "Here are two question-answering dialogues. Compare two models' performance on answering questions, determine "
        "which is better.\n",
        ("#Prompt{k}\n", "\n#Response\n##Model A\n", "\n##Model B\n", "\n\n"),
        "###options\nA. Model A\nB. Model B\nC. Tie",
    ),
    CODE_VERSION: Template(
        "Here are two question-answering dialogues. Compare two model performance on answering question, determine "
        "which is better.\n\n",
        ("#Prompt\n", "\n\n#Response\n##Model A\n", "\n\n##Model B\n", "\n\n"),
        "\n###options\nA. Model A\nB. Model B\nC. Tie\n",
    ),
}


def turn_text(text: str | None) -> str:
    """A text of a turn as it is written in the prompt: `None` if it is null or empty."""
    return replace_surrogates(text)[0] if text else "None"
