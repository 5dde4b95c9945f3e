"""What a person at a terminal sees of a recipe: its messages, its errors, and the next command to type."""

import ctypes
import errno
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .errors import UserError
from .redaction import without_secrets

logger = logging.getLogger("lmsys_trl")

PR_SET_PDEATHSIG = 1  # of Linux
RESUME = "Whatever was finished is saved, and the same command goes on from there."
REFUSALS = {
    errno.ENOSPC: "Free some space, and start again with the same command: what was finished before is kept.",
    errno.EDQUOT: "Free some space, and start again with the same command: what was finished before is kept.",
    errno.EFBIG: "Files may not become so large here: raise the limit (ulimit -f), or choose another disk.",
    errno.EROFS: "Choose a place that can be written to.",
    errno.EACCES: "Choose another place, or change its permissions.",
    errno.EPERM: "Choose another place, or change its permissions.",
    errno.ENOTDIR: "A file is where a folder is needed: choose another name, or move the file.",
    errno.EEXIST: "A file is where a folder is needed: choose another name, or move the file.",
    errno.EISDIR: "A folder is where a file is needed: choose another name, or move the folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EMFILE: "Allow more open files (ulimit -n).",
    errno.ENOENT: "Check the name.",
}


# Of a text from elsewhere what would act on a terminal, or turn its lines around. Our colours are left.
CONTROLS = re.compile(r"\x1b(?!\[[\d;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class TerminalHandler(logging.Handler):
    """Messages go to standard output as they are, warnings and errors to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # needed only once there is a message

        # Looked up now: tests and progress bars replace the streams.
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        with tqdm.external_write_mode(file=stream):  # a message of any thread goes above the progress bars
            print(_for_terminal(self.format(record)), file=stream, flush=True)


def _for_terminal(text: str) -> str:
    """A text without secrets, with control characters as they are written in Python."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), without_secrets(text))


def set_up_logging() -> None:
    """Let the main process log to the terminal, and the other processes of `accelerate launch` only errors."""
    is_main = os.environ.get("RANK", "0") == "0"
    logger.handlers = [TerminalHandler()]
    logger.setLevel(logging.INFO if is_main else logging.ERROR)
    logger.propagate = False
    # peft reads an attribute of transformers by its deprecated name; nobody can act on it here.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


@contextmanager
def reserve_stdout() -> Iterator[TextIO]:
    """Standard output for a recipe's result alone: within, whatever else is printed there goes to standard error."""
    sys.stdout.flush()
    place = sys.__stdout__.fileno()  # type: ignore[union-attr]
    with os.fdopen(os.dup(place), "w", encoding="utf-8") as stream:
        os.dup2(2, place)
        try:
            yield stream
        finally:
            sys.stdout.flush()
            os.dup2(stream.fileno(), place)


class Terminated(BaseException):
    """SIGTERM."""


def run_recipe(main: Callable[[], None]) -> None:
    """
    Run a recipe. A [`UserError`], and what a disk or its owner refuses, end in a message and exit code 1, Ctrl-C in
    130 and SIGTERM in 143, any other exception in its traceback.
    """
    set_up_logging()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # training has handlers of its own
        _end_with_launcher()
    name = Path(sys.argv[0]).name
    try:
        main()
    except UserError as error:
        sys.exit(f"{name}: {_for_terminal(str(error))}")
    except KeyboardInterrupt:
        print(f"{name}: interrupted. {RESUME}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Terminated:
        print(f"{name}: stopped by SIGTERM. {RESUME}", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except BrokenPipeError:  # ... | head
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if (problem := _refused_by_system(error)) is None:
            raise
        sys.exit(f"{name}: {_for_terminal(problem)}")


def _terminate(*_) -> None:
    raise Terminated


def _end_with_launcher() -> None:
    """Let SIGTERM to `accelerate launch` reach the recipe: with one process it would end the launcher alone."""
    if any(name.startswith("ACCELERATE_") for name in os.environ):
        _end_with_parent()


def _end_with_parent() -> None:
    """Let this process get SIGTERM when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str] = str.ljust) -> list[str]:
    """The lines of a table: all cells of a column as wide as its widest."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(justify, row, widths)).rstrip() for row in rows]


def run_logged(words: Sequence[str | Path], log: Path) -> int:
    """
    Run another verb as a process of its own, as `lmsys-trl` in a shell does. It gets SIGTERM when this one ends.

    Args:
        words (`Sequence[str | Path]`): The verb and its options.
        log (`Path`): A file, to the end of which goes all that the verb prints, besides to the terminal.

    Returns:
        `int`: Its exit code, or minus the signal that ended it.
    """
    command = [sys.executable, "-m", "lmsys_trl.cli", *map(str, words)]
    with (
        log.open("ab") as file,
        subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,
        ) as process,
    ):
        assert process.stdout is not None
        output = process.stdout

        def pass_on() -> None:
            while chunk := output.read(1 << 16):
                file.write(chunk)
                file.flush()
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()

        try:
            pass_on()
        except BaseException:  # Ctrl-C or SIGTERM: what was finished is saved first
            process.terminate()
            pass_on()
            raise
    return process.returncode


def _refused_by_system(error: Exception) -> str | None:
    """What the operating system refuses, and the fix; None if the exception is another one."""
    if "inline_container" in str(error) and "unexpected pos" in str(error):  # torch does not say why it cannot write
        return f"a checkpoint could not be written. {REFUSALS[errno.ENOSPC]}"
    for cause, fix in REFUSALS.items():
        # Libraries written in Rust or C++ pass on the text alone.
        in_text = cause in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES) and os.strerror(
            cause
        ) in str(error)
        if in_text or (isinstance(error, OSError) and error.errno == cause):
            place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            return f"{place}{os.strerror(cause)}. {fix}"
    return None


def suggest_next(*words: str | Path) -> None:
    """Log the command that a user is likely to need next."""
    logger.info("Next: lmsys-trl %s", " ".join(shlex.quote(str(word)) for word in words))
