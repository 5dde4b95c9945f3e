"""What a person at a terminal sees of a recipe: its messages, its errors, and the next command to type."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from .errors import UserError

logger = logging.getLogger("lmsys_trl")


class TerminalHandler(logging.Handler):
    """Messages go to standard output as they are, warnings and errors to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # needed only once there is a message

        # Looked up now: tests and progress bars replace the streams.
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        with tqdm.external_write_mode(file=stream):  # a message of any thread goes above the progress bars
            print(self.format(record), file=stream, flush=True)


def set_up_logging() -> None:
    """Let the main process log to the terminal, and the other processes of `accelerate launch` only errors."""
    is_main = os.environ.get("RANK", "0") == "0"
    logger.handlers = [TerminalHandler()]
    logger.setLevel(logging.INFO if is_main else logging.ERROR)
    logger.propagate = False
    # peft reads an attribute of transformers by its deprecated name; nobody can act on it here.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def run_recipe(main: Callable[[], None]) -> None:
    """Run a recipe. A [`UserError`] ends in its message and exit code 1, any other exception in its traceback."""
    set_up_logging()
    try:
        main()
    except UserError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def suggest_next(*words: str | Path) -> None:
    """Log the command that a user is likely to need next."""
    logger.info("Next: lmsys-trl %s", " ".join(shlex.quote(str(word)) for word in words))
