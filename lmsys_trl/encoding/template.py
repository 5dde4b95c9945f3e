"""The words of the prompt. A change of any word is a new version, since judges are trained on the exact tokens."""

import re
from typing import NamedTuple

from ..battle import replace_surrogates

PROMPT_VERSION = "lmsys-trl-v1"  # the words of README_VERSION, in which no text can pass for a heading: the default
README_VERSION = "lmsys-38th-v1"  # as the reference solution describes its prompt
CODE_VERSION = "lmsys-38th-code"  # as its code writes it, which is what its published adapters have learned
SHORT_VERSION = "lmsys-trl-short-v1"  # the turns alone: training teaches what is asked
LETTERS = {"model_a": "A", "model_b": "B", "tie": "C"}  # the answer token by winner

# What would read as a heading: at the start of a line, perhaps indented, perhaps escaped already.
_HEADING = re.compile(
    r"(?:^|(?<=[\r\v\f\x1c-\x1e\x85\u2028\u2029]))([ \t]*)(?=\\*(?:#prompt|#response|##model [ab]|###options))",
    re.MULTILINE | re.IGNORECASE,
)
_MISSING = re.compile(r"\\*None")


class Template(NamedTuple):
    """The words of one version."""

    instruction: str
    headers: tuple[str, str, str, str]  # before the prompt, before the two answers, and after them; {k} is the turn
    options: str
    escapes: bool  # whether headings in texts are escaped

    def turn_headers(self, k: int) -> list[str]:
        """The headers of turn `k`, counted from 1."""
        return [header.format(k=k) for header in self.headers]

    def turn_text(self, text: str | None) -> str:
        """
        A text of a turn as it is written in the prompt. A missing one is `None`.

        With `escapes` a backslash is put before what would read as a heading or as a missing text, so that different
        battles are never the same prompt; elsewhere an empty text is `None` too.
        """
        if not self.escapes:
            return replace_surrogates(text)[0] if text else "None"
        if text is None:
            return "None"
        text = replace_surrogates(text)[0]
        if _MISSING.fullmatch(text):
            return "\\" + text
        return _HEADING.sub(lambda indent: indent[1] + "\\", text) if "#" in text else text


_README = Template(
    "Here are two question-answering dialogues. Compare two models' performance on answering questions, determine "
    "which is better.\n",
    ("#Prompt{k}\n", "\n#Response\n##Model A\n", "\n##Model B\n", "\n\n"),
    "###options\nA. Model A\nB. Model B\nC. Tie",
    escapes=False,
)
TEMPLATES = {
    PROMPT_VERSION: _README._replace(escapes=True),
    README_VERSION: _README,
    CODE_VERSION: Template(
        "Here are two question-answering dialogues. Compare two model performance on answering question, determine "
        "which is better.\n\n",
        ("#Prompt\n", "\n\n#Response\n##Model A\n", "\n\n##Model B\n", "\n\n"),
        "\n###options\nA. Model A\nB. Model B\nC. Tie\n",
        escapes=False,
    ),
    SHORT_VERSION: Template("", ("#Prompt{k}\n", "\n##Model A\n", "\n##Model B\n", "\n"), "", escapes=True),
}
