"""What `--help` prints: the keys that people set most first, all of them with `--help all`."""

import ast
import shutil
import textwrap
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

from .keys import REQUIRED, Key, keys_of
from .limits import is_hidden

# Of a recipe that inherits the keys of trl and transformers: these first, in this order.
COMMON_KEYS = (
    "dataset_name", "model_name_or_path", "output_dir", "max_length", "learning_rate", "num_train_epochs", "max_steps",
    "battles_per_step", "per_device_train_batch_size", "lora_r", "lora_alpha", "lora_target_modules", "load_in_4bit",
    "dtype", "attn_implementation", "bf16", "swap", "teacher_files", "save_steps", "eval_strategy", "report_to",
    "push_to_hub",
)  # fmt: skip
INDENT = 6


def render_help(script: Path, classes: Iterable[type | str], everything: bool = False) -> str:
    """
    Args:
        script (`Path`): A recipe: its docstring opens the help.
        classes (`Iterable[type | str]`): Its classes, as for [`parse_config`].
        everything (`bool`): All keys, even where there are hundreds.
    """
    keys = {name: key for name, key in keys_of(classes).items() if not is_hidden(name)}
    width = min(shutil.get_terminal_size((100, 0)).columns, 119)
    command = f"lmsys-trl {script.stem}" if script.resolve().parent.name == "recipes" else f"python {script}"
    lines = [*filter(None, [recipe_docstring(script)]), "", f"usage: {command} [FILE.yaml] [--key value ...]", ""]
    inherited = any(isinstance(key.owner, str) for key in keys.values())
    if inherited and not everything:
        first = [key for key in keys.values() if key.default is REQUIRED or _is_of_the_recipe(key)]
        shown = [*first, *(keys[name] for name in COMMON_KEYS if name in keys and keys[name] not in first)]
        lines += ["The keys that are set most, in a YAML or on the command line:", *_render(shown, width, brief=True)]
        lines += ["", f"--help all lists all {len(keys)} keys."]
        return "\n".join(lines)
    for owner in dict.fromkeys(key.owner for key in keys.values()):
        name = owner.rpartition(".")[2] if isinstance(owner, str) else owner.__name__
        lines += [f"{name}:", *_render([key for key in keys.values() if key.owner is owner], width), ""]
    return "\n".join(lines).rstrip()


def recipe_docstring(script: Path) -> str:
    """A recipe's docstring, without running it."""
    if not script.is_file():  # such as `python -c`
        return ""
    return (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").strip()


def _is_of_the_recipe(key: Key) -> bool:
    """Whether a recipe defines the key itself, besides those that it shares with others."""
    if isinstance(key.owner, str) or key.owner.__module__.startswith("lmsys_trl."):
        return False
    return key.name in key.owner.__annotations__


def _render(keys: Iterable[Key], width: int, brief: bool = False) -> list[str]:
    lines = []
    for key in keys:
        lines.append(f"  --{key.name} {type_name(key)}")
        text = key.help.split(". ")[0].rstrip(".") + "." if brief else key.help
        # The help of trl's keys names their default too.
        if key.default is REQUIRED:
            text += " (required)"
        elif key.default not in (None, "", []) and "default" not in text.lower():
            text += f" (default: {format_value(key.default)})"
        lines += textwrap.wrap(text.strip(), width, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT)
    return lines


def format_value(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def type_name(key: Key) -> str:
    """What a user types after the option: its choices, or the kind of value."""
    choices = key.choices or _literals(key.type)
    if choices:
        return "{" + ",".join(format_value(choice) for choice in choices if choice is not None) + "}"
    names = list(dict.fromkeys(_kinds(key.type)))
    return " | ".join(name for name in names if name != "NONE") or "VALUE"


def _literals(annotation) -> list:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return list(args)
    if origin in (Union, types.UnionType):
        rest = [part for part in args if part is not type(None)]
        return _literals(rest[0]) if len(rest) == 1 else []
    return []


def _kinds(annotation) -> Iterable[str]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _kinds(args[0])
    elif origin in (Union, types.UnionType):
        for part in args:
            yield from _kinds(part)
    elif origin is list:
        literals = _literals(args[0])
        entry = "{" + ",".join(map(str, literals)) + "}" if literals else next(iter(_kinds(args[0])))
        yield f"{entry} ..."
    elif origin is Literal:
        yield "{" + ",".join(map(str, args)) + "}"
    else:
        name = "NONE" if annotation is type(None) else getattr(annotation, "__name__", "VALUE")
        yield {"str": "TEXT", "int": "INT", "float": "NUMBER", "bool": "{true,false}", "dict": "JSON"}.get(name, name)
