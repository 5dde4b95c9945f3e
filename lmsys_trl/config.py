"""One YAML and the command line -> checked dataclasses. All mistakes are told at once."""

import dataclasses
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

SECRETS = {"hub_token": "HF_TOKEN", "push_to_hub_token": "HF_TOKEN"}


def parse_config(*classes: type, argv: list[str] | None = None) -> tuple:
    """
    Read `recipe.py [recipe.yaml] [--key value ...]` into dataclasses. What stands on the command line wins.

    A first argument that ends in `.yaml` (or `--config FILE`) is looked up as a path, then next to the script. A key
    belongs to the first class that has it. Types are those of the fields, read as pydantic reads them, so that
    `1e-4` is a number in YAML too.

    Args:
        classes (`type`): Dataclasses.
        argv (`list[str]`, *optional*): In place of the command line.

    Returns:
        `tuple`: An instance of each class, and last the `dict` of all values that were given.

    Raises:
        ValueError: With one line for each unknown key (and the nearest valid one), wrong type and missing value.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    fields, hints, owner = {}, {}, {}
    for cls in reversed(classes):
        for field in dataclasses.fields(cls):
            if field.init:
                fields[field.name], owner[field.name] = field, cls
                hints[field.name] = get_type_hints(cls, include_extras=True)[field.name]
    if "--help" in argv or "-h" in argv:
        print(_help(classes, fields, owner))
        sys.exit(0)

    problems = []
    config_file, options = _read_options(argv, problems)
    given = {}
    for where, values in (
        (config_file, _read_yaml(config_file) if config_file else {}),
        ("the command line", options),
    ):
        for key, value in values.items():
            if key in SECRETS:
                problems.append(f"{key}: secrets don't belong in files or commands. Set {SECRETS[key]} instead")
            elif key not in fields:
                nearest = get_close_matches(str(key), fields, n=1)
                hint = f". Did you mean {nearest[0]}?" if nearest else ". --help lists the keys"
                problems.append(f"{key}: unknown key in {where}{hint}")
            else:
                try:
                    given[key] = _check(value, fields[key], hints[key])
                except ValueError as error:
                    problems.append(f"{key}: {error} in {where}, found {value!r}")
    for key, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and key not in options and key not in given and not any(p.startswith(f"{key}:") for p in problems):
            problems.append(f"{key}: missing. {field.metadata.get('help', '')}")
    if problems:
        raise ValueError("\n  ".join([f"{len(problems)} mistake{'s' * (len(problems) > 1)}:", *problems]))
    return *(cls(**{key: given[key] for key in given if owner[key] is cls}) for cls in classes), given


def run_recipe(main: Callable[[], None]) -> None:
    """Run a recipe: mistakes of the user end in their message and exit code 1, all others in their traceback."""
    # One library tells another; nobody can act on it here.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    try:
        main()
    except ValueError as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve().parent
        ours = (Path(__file__).resolve().parent, Path(sys.argv[0]).resolve().parent)
        if any(raised_in.is_relative_to(folder) for folder in ours):
            sys.exit(f"{Path(sys.argv[0]).name}: {error}")
        raise


def _read_options(argv: list[str], problems: list[str]) -> tuple[Path | None, dict]:
    """`x.yaml --key value --list a b --flag --other=value` -> the YAML's path and the options."""
    config_file = argv.pop(0) if argv and argv[0].endswith((".yaml", ".yml")) else None
    options, key = {}, None
    for word in argv:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            if key in options:
                problems.append(f"{key}: given twice on the command line")
            options[key] = [value] if equals else []
        elif key is None:
            problems.append(f"{word}: expected --key before it")
        else:
            options[key].append(word)
    if "config" in options:
        config_file = (options.pop("config") or [""])[0]
    # A flag alone is true; one word is a value, which `_check` makes a list where a list is wanted.
    options = {key: True if not words else words[0] if len(words) == 1 else words for key, words in options.items()}
    return (_find_config(config_file) if config_file is not None else None), options


def _find_config(name: str) -> Path:
    candidates = [Path(name), Path(sys.argv[0]).parent / name]
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError(f"there is no configuration file {name!r}, neither at {candidates[0]} nor at {candidates[1]}")


def _read_yaml(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected lines of `key: value`")
    return values


def _check(value, field: dataclasses.Field, hint):
    """The value as the field's type, or a `ValueError` that says what was expected."""
    adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    checked, error = None, None
    for candidate in (value, [value]) if isinstance(value, str) else (value,):
        try:
            checked = adapter.validate_python(candidate)
            break
        except ValidationError as failure:
            error = error or failure
    else:
        raise ValueError(" or ".join(dict.fromkeys(map(_told, error.errors()))))
    if isinstance(value, bool) and not isinstance(checked, bool):
        raise ValueError("input should not be true or false")
    choices = field.metadata.get("choices")
    if choices and checked not in choices:
        raise ValueError(f"input should be one of {', '.join(map(str, choices))}")
    return checked


def _told(detail: dict) -> str:
    """What pydantic found, with its place where that is an entry of a list."""
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    entry, *key = detail["loc"] or [None]
    return ": ".join([f"entry {entry + 1}", *map(str, key[:1]), message]) if isinstance(entry, int) else message


def _help(classes: tuple, fields: dict, owner: dict) -> str:
    lines = [f"usage: {os.path.basename(sys.argv[0])} [recipe.yaml] [--key value ...]"]
    for cls in classes:
        lines.append(f"\n{cls.__name__}: {(cls.__doc__ or '').strip().splitlines()[0]}")
        for name, field in fields.items():
            if owner[name] is cls and name in cls.__annotations__:
                default = "" if field.default is dataclasses.MISSING else f" (default: {field.default})"
                lines.append(f"  --{name}  {field.metadata.get('help', '')}{default}")
    return "\n".join(lines)
