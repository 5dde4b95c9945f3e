"""The command line of `lmsys-trl check`, and its output. Nothing heavy is imported here, so that `--help` is fast."""

from collections.abc import Sequence

from ..config import Parsed, bundled_folder, read_config
from ..errors import UserError
from ..terminal import logger


def recipes_to_check(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """
    Which recipes a command line names, and its options.

    Returns:
        `tuple[list[str], list[str]]`: The YAML that comes first, or else all that are shipped for sft; and the words
        after it.

    Raises:
        UserError: If an option that is for one recipe is given for all.
    """
    if argv and argv[0].endswith((".yaml", ".yml")):
        return [argv[0]], [*argv[1:]]
    if any(word.startswith(("--tokenizer", "--config")) for word in argv):
        raise UserError("name the recipe first, as in lmsys-trl check gemma.yaml --tokenizer DIR")
    return [str(path) for path in sorted((bundled_folder("recipes") / "sft").glob("*.yaml"))], [*argv]


def read_recipe(name: str, options: Sequence[str], classes: Sequence[type | str]) -> Parsed:
    """As [`read_config`], with the problem of a YAML that cannot be read among the others."""
    try:
        return read_config(*classes, argv=[name, *options])
    except UserError as error:
        return Parsed((), {}, error.problems)


def without_option(words: Sequence[str], name: str) -> list[str]:
    """The words of a command line without an option and its value."""
    kept, keep = [], True
    for word in words:
        if word.startswith("--"):
            keep = word.partition("=")[0] != f"--{name}"
        if keep:
            kept.append(word)
    return kept


def log_findings(name: str, notes: Sequence[str], problems: Sequence[str]) -> int:
    """Log what was found about a file. Returns the number of problems."""
    logger.info("%s", name)
    for line in [*notes, *(f"PROBLEM {problem}" for problem in problems)]:
        logger.info("  %s", line)
    return len(problems)
