"""One pair of answers -> what the page in the browser shows of it."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ..battle import replace_surrogates
from ..errors import UserError, raise_problems
from ..predictions.table import PROBABILITIES
from .compare import NAMES, verdict_lines

if TYPE_CHECKING:
    from .judge import Judge

MAX_CHARACTERS = 100_000  # of a text
ORDERS = {"mean": "Mean of both orders", "ab": "A shown first", "ba": "B shown first"}


def compared_html(judge: "Judge", turns: Sequence[Sequence[str]]) -> str:
    """
    Compare two answers, or say why they cannot be compared.

    Args:
        judge (`Judge`): Who compares.
        turns (`Sequence[Sequence[str]]`): Prompt, answer A and answer B of each turn.

    Returns:
        `str`: HTML. Of texts nothing is in it but what an error quotes, escaped; each bar's title is the exact value.
    """
    cleaned = [[replace_surrogates(text or "")[0] for text in turn] for turn in turns]
    try:
        raise_problems(_check_texts(cleaned))
        found = judge.compare(*([turn[k] for turn in cleaned] for k in range(3)))
    except UserError as error:
        return _section("".join(f"<p class='problem'>{as_text(problem)}</p>" for problem in error.problems))
    verdict, *remarks = map(as_text, verdict_lines(found))
    orders = "".join(f"<div><h3>{title}</h3>{_bars(found[order])}</div>" for order, title in ORDERS.items())
    remarks_html = "".join(f"<p>{remark}</p>" for remark in remarks)
    return _section(f"<p class='verdict'>{verdict}</p><div class='orders'>{orders}</div><div>{remarks_html}</div>")


def _check_texts(turns: list[list[str]]) -> list[str]:
    problems = []
    for number, texts in enumerate(turns, 1):
        for name, text in zip(NAMES.values(), texts, strict=True):
            where = f"{name[0].upper()}{name[1:]}" + (f" in turn {number}" if len(turns) > 1 else "")
            if not text.strip():
                problems.append(f"{where} is empty.")
            elif len(text) > MAX_CHARACTERS:
                problems.append(f"{where} has {len(text):,} characters. {MAX_CHARACTERS:,} are the most.")
    return problems


def _bars(probabilities: dict[str, float]) -> str:
    return "".join(
        f"<div class='bar' title='{probability!r}'><span>{label}</span>"
        f"<span class='track'><span class='fill {label.lower()}' style='width: {probability:.2%}'></span></span>"
        f"<span class='value'>{probability:.1%}</span></div>"
        for label, probability in zip(("A", "B", "tie"), (probabilities[name] for name in PROBABILITIES), strict=True)
    )


def _section(content: str) -> str:
    return f"<div class='compared' role='status'>{content}</div>"


def as_text(text: str) -> str:
    """Text for Gradio's HTML, which is a template too."""
    return escape(text).replace("{", "&#123;").replace("$", "&#36;")
