"""
The tables of docs/results.md. A benchmark with `--record` writes its section, which is whatever stands between

    <!-- training: written by benchmarks/training.py -->
    <!-- /training -->
"""

import re
import shlex
import subprocess
import sys
import textwrap
from datetime import date
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from lmsys_trl.artifacts import PACKAGES, atomic_write
from lmsys_trl.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
WIDTH = 119
# A path that is absolute, in a home or above the working directory, up to the next `key=` of the same word.
PATH = re.compile(r"(?:^|(?<=[\s=]))(?:/|~|\.\.(?=/|$)).*?(?=\s\w+=|$)")


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Rows of cells as a table of markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def record(section: str, *blocks: str, day: date | None = None) -> None:
    """
    Replace a section of the page by blocks of markdown, below what they were measured with and the command.

    Args:
        section (`str`): Its name, in the comment that names the running script too.
        blocks (`str`): Tables and paragraphs.
        day (`date`, *optional*): When the figures were measured. Default: today.

    Raises:
        UserError: If the page has no such section.
    """
    opening, closing = f"<!-- {section}: written by benchmarks/{Path(sys.argv[0]).name} -->", f"<!-- /{section} -->"
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(opening)
    _, ended, after = rest.partition(closing)
    if not found or not ended:
        raise UserError(
            f"docs/{PAGE.name}: has no section {section!r}. Add these two lines where its table belongs:\n"
            f"{opening}\n{closing}"
        )
    wrapped = [block if block.startswith(("|", "```")) else _wrap(block) for block in blocks]
    content = "\n\n".join([opening, _measured(day or date.today()), _command(), *wrapped, closing])
    with atomic_write(PAGE) as draft:
        draft.write_text(before + content + after, encoding="utf-8")
    print(f"\nRecorded as section {section!r} of docs/{PAGE.name}")


def hide_paths(word: str) -> str:
    """A word of a command in which files and folders outside the repository are DIR/name and DIR."""

    def shown(match: re.Match) -> str:
        path = Path(match[0]).expanduser().resolve()
        if path.is_relative_to(ROOT):
            return str(path.relative_to(ROOT))
        return f"DIR/{path.name}" if path.is_file() else "DIR"

    return PATH.sub(shown, word)


def _measured(day: date) -> str:
    """When, on which machine and with which versions; nothing that tells whose machine it is."""
    from devices import machine_name  # it imports torch, which data.py must not do before it measures memory

    versions = [f"python {python_version()}", *(f"{package} {version(package)}" for package in PACKAGES)]
    return _wrap(f"Measured {day} on {machine_name()}. {_commit()}{', '.join(versions)}.")


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _commit() -> str:
    """The commit of a checkout, and whether code was changed since; nothing without a checkout."""
    if not (ROOT / ".git").exists():
        return ""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return f"Commit {git('rev-parse', '--short', 'HEAD')}{' with changes' * bool(changed)}, "


def _command() -> str:
    """The running command as a block."""
    line = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(hide_paths, sys.argv[1:])])
    if len(line) > WIDTH:
        line = re.sub(r" (?=--\w)", " \\\\\n    ", line)
    return f"```bash\n# not run in tests: takes minutes\n{line}\n```"
