"""Writes docs/options.md, the keys of all recipes: `make options`."""

import re
import runpy
from collections.abc import Iterable
from pathlib import Path

from lmsys_trl.cli import LAUNCHED, recipe_scripts
from lmsys_trl.help import COMMON_KEYS, format_value, recipe_docstring, type_name
from lmsys_trl.keys import REQUIRED, Key, keys_of
from lmsys_trl.limits import is_hidden

PAGE = Path(__file__).with_name("options.md")
# Classes whose keys several recipes take, by the heading of their table.
SHARED = {
    "JudgeConfig": ("Judge", "What the judge learns from, and how it predicts afterwards."),
    "BattlesConfig": ("Battles", "Which battles are read."),
    "BaseModelConfig": ("Base model", "Which base model an adapter is put on."),
    "InferenceConfig": ("Inference", "How the base model is loaded and run, where it differs from training."),
    "ModelConfig": ("Model", "The base model and LoRA: the keys of `trl.ModelConfig`."),
    "TrainingConfig": (
        "Training",
        "The keys of `trl.SFTConfig`, and so of `transformers.TrainingArguments`, with this project's additions and "
        "defaults.",
    ),
}
INTRODUCTION = """\
# Options

All keys of all recipes, as `lmsys-trl VERB --help all` prints them. A key stands in a YAML (`key: value`) or on the
command line (`--key value`), which wins. `...` after a type means one value or several.

{launched} also take `--accelerate_config NAME` on the command line.
"""


def render() -> str:
    """The page."""
    pages: dict[str, dict[str, list[Key]]] = {}  # the keys of each recipe by the class that defines them
    for verb, script in recipe_scripts().items():
        classes = runpy.run_path(str(script), run_name="recipe")["CONFIGS"]
        pages[verb] = {}
        for key in keys_of(classes).values():
            if not is_hidden(key.name):
                pages[verb].setdefault(home(key), []).append(key)
    parts = [INTRODUCTION.format(launched=", ".join(f"`{verb}`" for verb in LAUNCHED))]
    for verb, groups in pages.items():
        own = [key for name, keys in groups.items() if name not in SHARED for key in keys]
        links = [f"[{SHARED[name][0]}](#{anchor(SHARED[name][0])})" for name in groups if name in SHARED]
        parts.append(f"## {verb}\n\n{recipe_docstring(recipe_scripts()[verb]).splitlines()[0]}\n")
        parts += [table(own)] if own else []
        parts += [f"{'Also takes' if own else 'Takes'} the keys of {', '.join(links)}.\n"] if links else []
    for name, (title, text) in SHARED.items():
        keys = {key.name: key for groups in pages.values() for key in groups.get(name, [])}
        parts.append(f"## {title}\n\n{text}\n\n{table(sorted(keys.values(), key=rank))}")
    return "\n".join(parts)


def home(key: Key) -> str:
    """The name of the class that defines a key: its owner, or one that the owner inherits it from."""
    if isinstance(key.owner, str):
        return key.owner.rpartition(".")[2]
    return next(cls.__name__ for cls in key.owner.__mro__ if key.name in cls.__dict__.get("__annotations__", {}))


def anchor(title: str) -> str:
    """The anchor of a heading, on GitHub and in mkdocs."""
    return title.lower().replace(" ", "-")


def rank(key: Key) -> int:
    """Of the many keys of trl and transformers those that are set most come first, as in `--help`."""
    is_first = isinstance(key.owner, str) and key.name in COMMON_KEYS
    return COMMON_KEYS.index(key.name) if is_first else len(COMMON_KEYS)


def table(keys: Iterable[Key]) -> str:
    """A table of keys."""
    rows = [f"| `{key.name}` | {type_of(key)} | {default_of(key)} | {escape(key.help)} |" for key in keys]
    return "\n".join(["| key | type | default | what it is |", "|---|---|---|---|", *rows, ""])


def type_of(key: Key) -> str:
    """The type as `--help` names it: the choices, or the kinds of value."""
    kinds = re.sub(r"\{(.*?)\}", lambda match: ", ".join(f"`{word}`" for word in match[1].split(",")), type_name(key))
    return kinds.replace(" | ", " or ")


def default_of(key: Key) -> str:
    """The default, or nothing where the help says what an absent value means."""
    if key.default is REQUIRED:
        return "required"
    return "" if key.default in (None, "", []) else f"`{format_value(key.default)}`"


def escape(text: str) -> str:
    """Text for a cell, in which only code spans keep their meaning."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([*|\\])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(part.replace("|", r"\|") if part.startswith("`") else part for part in parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
