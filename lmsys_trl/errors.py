"""The one exception for what a user can fix, and what those of libraries say."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

NUM_SHOWN = 5  # of many problems of the same kind


class UserError(ValueError):
    """
    A mistake of the user: what is wrong, why, and the fix. Recipes print it without a traceback and exit with 1.

    Args:
        problems (`str` or `Sequence[str]`): What is wrong, all of it at once.
        title (`str`, *optional*): What the problems have in common, as the first line of the message.
    """

    def __init__(self, problems: str | Sequence[str], title: str | None = None):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        if title is None and len(self.problems) > 1:
            title = f"{len(self.problems)} problems:"
        super().__init__("\n  ".join(self.problems if title is None else [title, *self.problems]))


def first_line(error: BaseException) -> str:
    """What an exception of a library says, without what it adds below."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def raise_problems(problems: Sequence[str], title: str | None = None) -> None:
    """Raise a [`UserError`] if there are any problems."""
    if problems:
        raise UserError(problems, title)


def first_problems(problems: list[str]) -> list[str]:
    """The first of many problems of the same kind, and how many others there are."""
    num_more = len(problems) - NUM_SHOWN
    return problems if num_more <= 0 else [*problems[:NUM_SHOWN], f"and {num_more} more"]


@contextmanager
def collect_problems(problems: list[str]) -> Iterator[None]:
    """Add the problems of a [`UserError`] to a list, so that what is independent of them is still looked at."""
    try:
        yield
    except UserError as error:
        problems += error.problems
