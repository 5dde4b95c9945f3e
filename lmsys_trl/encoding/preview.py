"""How battles are encoded, token by token, and how many tokens a data set has."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..data.columns import TURN_COLUMNS
from .examples import IGNORED, Span, encode_battle, example_spans
from .template import PROMPT_VERSION

# Of ANSI terminals, by the name of a span.
STYLES = {
    "prefix": "2", "header": "2", "prompt": "36", "response_a": "33", "response_b": "35", "suffix": "2",
    "answer": "1;32",
}  # fmt: skip
QUANTILES = {0: "shortest", 10: "10%", 50: "50%", 90: "90%", 99: "99%", 100: "longest"}
CHUNK_SIZE = 1000  # battles that are encoded at a time
MARGIN = 14  # characters before the tokens of a line


def visible(text: str) -> str:
    """The text with spaces shown, and with all that a terminal would act on, or not show, as its escape sequence."""
    shown = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return "".join(shown).replace(" ", "␣")


def with_votes(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """The splits without the battles that nobody voted on."""
    return {
        name: split.select([i for i, vote in enumerate(split["vote"]) if vote is not None])
        for name, split in splits.items()
    }


def render_battle(
    battle: dict,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    width: int = 119,
    color: bool = False,
    prompt_version: str = PROMPT_VERSION,
) -> str:
    """
    The example that a battle is trained on, each token as `text/id`, or `text/id=label` if it is scored, and what is
    dropped or truncated.

    Args:
        battle (`dict`), tokenizer (`PreTrainedTokenizerBase`), max_length (`int`): As for [`encode_battle`].
        width (`int`): Characters in a line.
        color (`bool`): Whether to colour spans too.
        prompt_version (`str`): As for [`encode_battle`].
    """
    example = encode_battle(battle, tokenizer, max_length, prompt_version)[-1]
    *dropped, spans = example_spans([battle], tokenizer, max_length, prompt_version)[0]
    lines = [
        f"battle {visible(str(battle.get('id')))}: {len(example['input_ids'])} of {max_length} tokens, label "
        f"{IGNORED} unless another is shown"
    ]
    for span in (span for spans in dropped for span in spans if span.name in TURN_COLUMNS):
        lines.append(f"  {_title(span)} dropped: {span.total} tokens")
    start = 0
    for span in spans:
        ids, labels = (example[key][start : start + span.kept] for key in ("input_ids", "labels"))
        texts = map(visible, tokenizer.batch_decode([[i] for i in ids]))
        tokens = [
            f"{text}/{i}" + (f"={label}" if label != IGNORED else "")
            for text, i, label in zip(texts, ids, labels, strict=True)
        ]
        for number, line in enumerate(_wrap(tokens, width - MARGIN - 2)):
            line = f"\033[{STYLES[span.name]}m{line}\033[0m" if color else line
            lines.append(f"  {'' if number else _title(span):{MARGIN}}{line}")
        if span.kept < span.total:
            lines.append(f"  {'':{MARGIN}}[{span.total - span.kept} of {span.total} tokens truncated]")
        start += span.kept
    return "\n".join(lines)


def _title(span: Span) -> str:
    return f"{span.name} {span.turn}" if span.name in TURN_COLUMNS else span.name


def _wrap(tokens: list[str], width: int) -> list[str]:
    lines = [""]
    for token in tokens:
        if lines[-1] and len(lines[-1]) + 1 + len(token) > width:
            lines.append("")
        lines[-1] += " " * bool(lines[-1]) + token
    return lines


@dataclass
class Tally:
    """
    Counts over the examples that battles are trained on.

    Args:
        lengths (`list[int]`): Tokens in each example.
        kept (`Counter`), lost (`Counter`): By the name of a span, tokens in the examples, and tokens that are dropped
            or truncated.
        num_dropped (`int`), num_truncated (`int`): Battles with earlier turns dropped, and with a text truncated.
    """

    lengths: list[int] = field(default_factory=list)
    kept: Counter = field(default_factory=Counter)
    lost: Counter = field(default_factory=Counter)
    num_dropped: int = 0
    num_truncated: int = 0

    def add(
        self,
        battles: Iterable[dict],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        prompt_version: str = PROMPT_VERSION,
    ) -> None:
        """Count battles, a chunk at a time, so that memory does not grow with their number."""
        rest = iter(battles)
        while chunk := list(islice(rest, CHUNK_SIZE)):
            for *earlier, last in example_spans(chunk, tokenizer, max_length, prompt_version):
                self.lengths.append(sum(span.kept for span in last))
                for span in last:
                    self.kept[span.name] += span.kept
                    self.lost[span.name] += span.total - span.kept
                for span in (span for spans in earlier for span in spans if span.name in TURN_COLUMNS):
                    self.lost[span.name] += span.total
                self.num_dropped += bool(earlier)
                self.num_truncated += any(span.kept < span.total for span in last)

    def summary(self) -> str:
        """The counts as text."""
        count, total = len(self.lengths), sum(self.lengths)
        if not count:
            return "no battles"
        quantiles = zip(QUANTILES.values(), np.percentile(self.lengths, list(QUANTILES)), strict=True)
        lines = [
            f"{count:,} examples, {total:,} tokens",
            f"tokens in an example: {', '.join(f'{name} {value:,.0f}' for name, value in quantiles)}",
            f"battles with dropped turns: {self.num_dropped / count:.1%}, with truncated texts: "
            f"{self.num_truncated / count:.1%}",
            f"{'':12}{'tokens kept':>14}{'fraction':>10}{'dropped or truncated':>22}",
        ]
        for name in STYLES:
            lost = f"{self.lost[name]:,}" if name in TURN_COLUMNS else ""
            lines.append(f"{name:12}{self.kept[name]:>14,}{self.kept[name] / total:>10.1%}{lost:>22}".rstrip())
        return "\n  ".join(lines)

    def step_summary(self, num_examples: int, copies: int) -> str:
        """
        The tokens of an optimizer step as text.

        Args:
            num_examples (`int`): Examples in a step.
            copies (`int`): How often each battle is in the data: 2 if it is swapped too.
        """
        lengths = sorted(self.lengths * copies)
        return (
            f"a step of {num_examples} examples: {num_examples * sum(lengths) / len(lengths):,.0f} tokens on average, "
            f"{sum(lengths[-num_examples:]):,} at most; {-(-len(lengths) // num_examples):,} steps per epoch"
        )
