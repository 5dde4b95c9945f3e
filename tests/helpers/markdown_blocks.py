"""Fenced blocks of a Markdown page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REASONS = ("needs a GPU", "needs the Hub", "needs FastAPI", "needs Gradio", "needs a tracker", "takes minutes")
MARK = "# not run in tests: "
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass
class Block:
    """A block, with the line of the page at which it begins."""

    language: str
    text: str
    line: int

    @property
    def mark(self) -> str | None:
        """Why the block is not run, if it says so."""
        return self.text.splitlines()[0].removeprefix(MARK) if self.text.startswith(MARK) else None

    @property
    def file_name(self) -> str | None:
        """The name of the file that a YAML block shows, from its first line."""
        match = re.match(r"# (\S+\.yaml)$", self.text.partition("\n")[0])
        return match[1] if match else None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        indent = match["indent"]
        body = "".join(line.removeprefix(indent) for line in match["text"].splitlines(keepends=True))
        yield Block(match["language"], body, text.count("\n", 0, match.start()) + 1)
