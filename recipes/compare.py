"""
Compare two answers to a prompt: which one would people prefer, in both orders of the answers.

    lmsys-trl compare --adapter runs/judge --prompt "What is 2 + 2?" --a "It is 4." --b "I don't know."
    lmsys-trl compare --adapter runs/judge --prompt question.txt --a answer.txt --b - --json < other.txt

A text is given as it is, as the name of a file, or as - for what comes in on standard input; several are turns. One
that begins with dashes is given as --a=TEXT.
"""

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.errors import UserError, raise_problems
from lmsys_trl.options import BaseModelConfig, InferenceConfig
from lmsys_trl.terminal import logger, run_recipe


@dataclass
class CompareConfig:
    """Which judge compares which answers."""

    adapter: str = field(
        metadata={"help": "A judge: a folder, owner/name[@revision] on the Hub, file.zip, kaggle:..."}
    )
    prompt: list[str] = field(metadata={"help": "What was asked: a text, a file, or -; several are turns."})
    a: list[str] = field(metadata={"help": "The first answer, or one a turn."})
    b: list[str] = field(metadata={"help": "The second answer, or one a turn."})
    json: bool = field(default=False, metadata={"help": "Print JSON."})


CONFIGS = (CompareConfig, BaseModelConfig, InferenceConfig)


def main():
    config, base_model, inference, _ = parse_config(*CONFIGS)
    words = {"prompt": config.prompt, "a": config.a, "b": config.b}
    problems, turns = [], list(map(len, words.values()))
    if sum(given.count("-") for given in words.values()) > 1:
        problems.append("prompt, a, b: standard input (-) can be one of the texts only")
    if len(set(turns)) > 1:
        problems.append(f"prompt, a, b: have {turns[0]}, {turns[1]} and {turns[2]} texts. Give one of each for a turn")
    raise_problems(problems)
    texts = {key: [read_text(key, word) for word in given] for key, given in words.items()}

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.judging.compare import comparison_lines
    from lmsys_trl.judging.judge import Judge
    from lmsys_trl.models.precision import precision_overrides

    judge = Judge.from_pretrained(config.adapter, base_model.model_name_or_path, precision_overrides(inference))
    found = judge.compare(texts["prompt"], texts["a"], texts["b"])
    logger.info("%s", json.dumps(found, indent=2) if config.json else "\n".join(comparison_lines(found)))


def read_text(key: str, word: str) -> str:
    """A text that was given as itself, as a file, or as - for standard input."""
    if word == "-":
        return sys.stdin.read()
    if re.fullmatch(r"[^\s:]+\.(txt|md|json|jsonl|html)", word) and not Path(word).exists():
        raise UserError(f"{key}: there is no file {word}. To compare this word itself, give it on standard input (-)")
    try:
        return Path(word).read_text(encoding="utf-8") if Path(word).is_file() else word
    except (OSError, ValueError) as error:  # such as a text too long for the name of a file
        if isinstance(error, UnicodeDecodeError):
            raise UserError(f"{key}: {word} is not a text file in UTF-8") from error
        return word


if __name__ == "__main__":
    run_recipe(main)
