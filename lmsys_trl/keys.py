"""
The keys of configuration classes: what each is called, what it takes, and what it is for.

Those of trl's and transformers' classes, with this project's defaults, are kept in a file, so that `--help` and a typo
are answered without seconds of imports. `python -m lmsys_trl.keys` writes it from the installed libraries.
"""

import dataclasses
import enum
import importlib
import json
import types
from collections.abc import Iterable, Iterator
from functools import reduce
from importlib.metadata import version
from operator import or_
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

REQUIRED: Any = object()  # the default of a key that must be given
FILE = Path(__file__).with_name("inherited_keys.json")
CLASSES = ("trl.ModelConfig", "lmsys_trl.training.config.TrainingConfig")
TYPES = {
    "bool": bool, "int": int, "float": float, "str": str, "dict": dict, "list": list, "list[str]": list[str],
    "list[int]": list[int], "list[float]": list[float], "None": type(None), "any": Any,
}  # fmt: skip


class Key(NamedTuple):
    """A key of a YAML, or option of a command line."""

    name: str
    type: Any  # an annotation that pydantic can check
    default: Any
    help: str
    choices: list | None
    owner: type | str  # the class that has it, or its dotted name


def keys_of(classes: Iterable[type | str]) -> dict[str, Key]:
    """
    The keys of dataclasses by name. A key that several have is that of the first.

    Args:
        classes (`Iterable[type | str]`): Dataclasses, or the dotted names of [`CLASSES`], which are not imported
            unless the installed libraries are not those that the file was written from.
    """
    keys: dict[str, Key] = {}
    for cls in classes:
        for key in _fields_of(cls) if isinstance(cls, type) else _inherited_keys(cls):
            keys.setdefault(key.name, key)
    return keys


def load_class(name: str) -> type:
    """A class by its dotted name."""
    module, _, cls = name.rpartition(".")
    return getattr(importlib.import_module(module), cls)


def _fields_of(cls: type, owner: type | str | None = None) -> Iterator[Key]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if field.init:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            elif default is dataclasses.MISSING:
                default = REQUIRED
            help_text, choices = field.metadata.get("help", ""), field.metadata.get("choices")
            yield Key(field.name, hints[field.name], default, help_text, choices, owner or cls)


def _inherited_keys(name: str) -> Iterator[Key]:
    content = json.loads(FILE.read_text(encoding="utf-8"))
    if content["versions"] != _versions():
        yield from _fields_of(load_class(name), name)
        return
    for entry in content["keys"][name]:
        annotation = reduce(or_, (TYPES[part] for part in entry["type"].split(" | ")))
        default = entry.get("default", REQUIRED)
        yield Key(entry["name"], annotation, default, entry["help"], entry.get("choices"), name)


def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("transformers", "trl")}


def describe_keys() -> dict:
    """The content of the file, from the installed libraries."""
    described: dict[str, list[dict]] = {}
    for name in CLASSES:
        cls = load_class(name)
        hints = get_type_hints(cls)
        described[name] = [_describe(field, hints[field.name]) for field in dataclasses.fields(cls) if field.init]
    return {"versions": _versions(), "keys": described}


def _describe(field: dataclasses.Field, hint) -> dict:
    names = list(dict.fromkeys(_type_names(hint)))
    entry: dict[str, Any] = {"name": field.name, "type": " | ".join(names)}
    choices = field.metadata.get("choices") or _choices(hint)
    if choices:
        entry["choices"] = [choice.value if isinstance(choice, enum.Enum) else choice for choice in choices]
    default = field.default
    if isinstance(field.default_factory, type):  # list, dict; a function's result depends on the machine
        default = field.default_factory()
    elif field.default_factory is not dataclasses.MISSING:
        default = None
    if default is not dataclasses.MISSING:
        entry["default"] = default.value if isinstance(default, enum.Enum) else default
    entry["help"] = " ".join(field.metadata.get("help", "").replace("%%", "%").split())
    return entry


def _type_names(hint) -> Iterator[str]:
    """The names in `TYPES` of what an annotation allows."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _type_names(part)
    elif origin is Literal:
        yield from ("None" if value is None else type(value).__name__ for value in get_args(hint))
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield "str"
    elif origin is list and get_args(hint)[0] in (str, int, float):
        yield f"list[{get_args(hint)[0].__name__}]"
    else:
        name = getattr(origin or hint, "__name__", "any")
        yield name if name in TYPES else "None" if hint is type(None) else "any"


def _choices(hint) -> list | None:
    """All values that an annotation allows, if they can be listed."""
    choices: list = []
    for part in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else [hint]:
        if get_origin(part) is Literal:
            choices += get_args(part)
        elif isinstance(part, type) and issubclass(part, enum.Enum):
            choices += [member.value for member in part]
        elif part is type(None):
            choices.append(None)
        else:
            return None
    return choices


if __name__ == "__main__":
    FILE.write_text(json.dumps(describe_keys(), indent=1) + "\n", encoding="utf-8")
