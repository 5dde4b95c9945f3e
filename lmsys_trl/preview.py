"""What the rows of battles look like, token by token, and what those of a data set come to."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from .rows import COLUMNS, IGNORED, Part, encode_battle, rows_in_parts

STYLES = {"frame": "2", "prompt": "36", "response_a": "33", "response_b": "35", "answer": "1;32"}  # of ANSI terminals
QUANTILES = {0: "the shortest", 10: "10%", 50: "50%", 90: "90%", 99: "99%", 100: "the longest"}


def visible(text: str) -> str:
    """The text with spaces shown, and with all that a terminal would act on, or not show, as its escape sequence."""
    shown = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return "".join(shown).replace(" ", "␣")


def render_battle(
    battle: dict, tokenizer: PreTrainedTokenizerBase, max_length: int, width: int = 119, color: bool = False
) -> str:
    """
    The row that a battle is trained with, each token as `text/id`, or `text/id=label` where it is scored, and what of
    the battle is not in it.

    Args:
        battle (`dict`), tokenizer (`PreTrainedTokenizerBase`), max_length (`int`): As for [`encode_battle`].
        width (`int`): Characters in a line.
        color (`bool`): Whether parts are told apart by the colours of a terminal too.
    """
    row = encode_battle(battle, tokenizer, max_length)[-1]
    (rows,) = rows_in_parts([battle], tokenizer, max_length)
    lines = [
        f"battle {visible(str(battle.get('id')))}: {len(row['input_ids'])} of {max_length} tokens, label {IGNORED} "
        "unless another is shown"
    ]
    for part in (part for parts in rows[:-1] for part in parts if part.name in COLUMNS):
        lines.append(f"  {_title(part)} left out: {part.whole} tokens")
    start = 0
    for part in rows[-1]:
        ids, labels = (row[key][start : start + part.kept] for key in ("input_ids", "labels"))
        texts = map(visible, tokenizer.batch_decode([[i] for i in ids]))
        tokens = [
            f"{text}/{i}" + (f"={label}" if label != IGNORED else "")
            for text, i, label in zip(texts, ids, labels, strict=True)
        ]
        for number, line in enumerate(_wrap(tokens, width - 16)):
            line = f"\033[{STYLES[part.name]}m{line}\033[0m" if color else line
            lines.append(f"  {'' if number else _title(part):14}{line}")
        if part.kept < part.whole:
            lines.append(f"  {'':14}[the other {part.whole - part.kept} of {part.whole} tokens are cut]")
        start += part.kept
    return "\n".join(lines)


def _title(part: Part) -> str:
    return f"{part.name} {part.round}" if part.name in COLUMNS else part.name


def _wrap(tokens: list[str], width: int) -> list[str]:
    lines = [""]
    for token in tokens:
        if lines[-1] and len(lines[-1]) + 1 + len(token) > width:
            lines.append("")
        lines[-1] += " " * bool(lines[-1]) + token
    return lines


@dataclass
class Tally:
    """Counts over the rows that battles are trained with."""

    lengths: list[int] = field(default_factory=list)
    kept: Counter = field(default_factory=Counter)  # name of a part -> tokens in the rows
    lost: Counter = field(default_factory=Counter)  # name of a part -> tokens left out or cut
    num_shortened: int = 0  # battles with earlier rounds left out
    num_cut: int = 0  # battles with a text cut

    def add(self, battles: Iterable[dict], tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        for *earlier, last in rows_in_parts(list(battles), tokenizer, max_length):
            self.lengths.append(sum(part.kept for part in last))
            for part in last:
                self.kept[part.name] += part.kept
                self.lost[part.name] += part.whole - part.kept
            for part in (part for parts in earlier for part in parts if part.name in COLUMNS):
                self.lost[part.name] += part.whole
            self.num_shortened += bool(earlier)
            self.num_cut += any(part.kept < part.whole for part in last)

    def told(self) -> str:
        """The counts in words."""
        count, total = len(self.lengths), sum(self.lengths)
        quantiles = zip(QUANTILES.values(), np.percentile(self.lengths, list(QUANTILES)), strict=True)
        lines = [
            f"{count:,} rows, {total:,} tokens",
            f"tokens of a row: {', '.join(f'{name} {value:,.0f}' for name, value in quantiles)}",
            f"rounds left out: {self.num_shortened / count:.1%} of the battles, texts cut: {self.num_cut / count:.1%}",
            f"{'':12}{'in the rows':>14}{'share':>8}{'left out or cut':>18}",
        ]
        for name in STYLES:
            lost = f"{self.lost[name]:,}" if name in COLUMNS else ""
            lines.append(f"{name:12}{self.kept[name]:>14,}{self.kept[name] / total:>8.1%}{lost:>18}".rstrip())
        return "\n  ".join(lines)

    def told_of_a_step(self, num_rows: int, copies: int) -> str:
        """The tokens of an optimizer step of some rows, where each battle is taken that often, in words."""
        lengths = sorted(self.lengths * copies)
        return (
            f"a step of {num_rows} rows: {num_rows * sum(lengths) / len(lengths):,.0f} tokens on average, "
            f"{sum(lengths[-num_rows:]):,} at most; {-(-len(lengths) // num_rows):,} steps an epoch"
        )
