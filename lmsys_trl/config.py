"""One YAML and the command line -> checked dataclasses. All problems are reported at once."""

import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from .errors import UserError, raise_problems
from .help import render_help
from .keys import REQUIRED, Key, keys_of, load_class
from .limits import RENAMED, SECRETS, refuse_value
from .redaction import without_secrets
from .yaml_file import read_yaml


class Parsed(NamedTuple):
    """What was made of a YAML and a command line."""

    configs: tuple  # an instance of each class; empty if one could not be made
    given: dict  # all valid values that were given
    problems: list[str]


def parse_config(*classes: type | str, argv: list[str] | None = None, problems: list[str] | None = None) -> tuple:
    """
    Read `recipe.py [recipe.yaml] [--key value ...]` into dataclasses. The command line overrides the YAML.

    A first argument that ends in `.yaml` (or `--config FILE`) is looked up as a path, then in the folders beside the
    script. A key belongs to the first class that has it. Types are those of the fields, read as pydantic reads them,
    so that `1e-4` is a number in YAML too.

    Args:
        classes (`type` or `str`): Dataclasses. One that takes seconds to import is given by its dotted name: keys
            are checked against [`inherited_keys`] first, and once more after the import.
        argv (`list[str]`, *optional*): In place of the command line.
        problems (`list[str]`, *optional*): Where problems are put instead of being raised, for a recipe that looks
            for more of them. Keys with problems keep their defaults, or are None.

    Returns:
        `tuple`: An instance of each class, and last the `dict` of all values that were given.

    Raises:
        UserError: With one line for each unknown key (and the nearest valid one), wrong type and missing value.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--help" in argv or "-h" in argv:
        print(render_help(Path(sys.argv[0]), classes, everything="all" in argv))
        sys.exit(0)
    if problems is None:
        raise_problems(read_config(*classes, argv=argv, load=False).problems)  # before classes by name are imported
    parsed = read_config(*classes, argv=argv)
    if problems is None or not parsed.configs:
        raise_problems(parsed.problems)
    else:
        problems += parsed.problems
    return *parsed.configs, parsed.given


def read_config(
    *classes: type | str,
    argv: list[str],
    load: bool = True,
    script: Path | None = None,
    overrides: tuple[Path | None, dict] = (None, {}),
) -> Parsed:
    """
    As [`parse_config`], but problems are returned. Keys with problems keep their defaults, or are None.

    Args:
        classes (`type` or `str`), argv (`list[str]`): As for [`parse_config`].
        load (`bool`): Import the classes that are given by name. Without it no instances are made.
        script (`Path`, *optional*): The recipe, beside which YAMLs are looked for. Default: the running script.
        overrides (`tuple[Path, dict]`): Values that win over both, and the file that they are from.

    Raises:
        UserError: If the YAML cannot be read.
    """
    problems: list[str] = []
    config_file, options = _split_argv(list(argv), script or Path(sys.argv[0]), problems)
    given = _check_all(keys_of(classes), config_file, options, overrides, problems)
    if not load:
        return Parsed((), given, problems)
    loaded = [load_class(cls) if isinstance(cls, str) else cls for cls in classes]
    if loaded != list(classes) and not problems:  # what an import has changed
        given = _check_all(keys_of(loaded), config_file, options, overrides, problems)
    keys = keys_of(loaded)
    values = {name: None for name, key in keys.items() if key.default is REQUIRED} | given
    configs = []
    for cls in loaded:
        configs += _build(cls, {name: values[name] for name in values if keys[name].owner is cls}, problems)
    return Parsed(tuple(configs) if len(configs) == len(loaded) else (), given, problems)


def bundled_folder(name: str) -> Path:
    """A folder that is shipped with the package: inside it in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / name if (package / name).is_dir() else package.parent / name


def find_model_folder(name_or_path: str) -> Path | None:
    """The local folder that a base model's name means, or None if it is a name on the Hub."""
    path = Path(name_or_path)
    if path.is_dir():
        return path
    # A relative path such as models/SmolLM2-135M-Instruct means a checkout's folder in any working directory.
    beside_package = bundled_folder("recipes").parent / path
    return beside_package if (beside_package / "config.json").is_file() else None


def accelerate_configs() -> list[str]:
    """The names of the accelerate configs that are shipped."""
    return sorted(path.stem for path in bundled_folder("accelerate_configs").glob("*.yaml"))


def find_accelerate_config(name: str) -> Path:
    """
    The path of an accelerate config.

    Args:
        name (`str`): A path, or the name of one that is shipped: `multi_gpu` or `multi_gpu.yaml`.

    Raises:
        UserError: If there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    path = bundled_folder("accelerate_configs") / f"{name.removesuffix('.yaml')}.yaml"
    if Path(name).name != name or not path.is_file():  # of my/fsdp.yaml the folder must not be ignored
        nearest = get_close_matches(name, accelerate_configs(), n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"The shipped ones are {', '.join(accelerate_configs())}"
        raise UserError(f"accelerate_config: there is no file {name!r}. {hint}")
    return path


def _build(cls: type, values: dict, problems: list[str]) -> list:
    """The instance of a class, or nothing; keys that its own checks refuse keep their defaults."""
    while True:
        try:
            return [cls(**values)]
        except ValueError as error:  # of a dataclass that looks at several keys at once
            found = error.problems if isinstance(error, UserError) else [str(error)]
        found = [" ".join(problem.split()) for problem in found]
        problems += found
        kept = {key: value for key, value in values.items() if key not in {text.partition(":")[0] for text in found}}
        if len(kept) == len(values):
            return []
        values = kept


def _check_all(
    keys: dict[str, Key],
    config_file: Path | None,
    options: dict,
    overrides: tuple[Path | None, dict],
    problems: list[str],
) -> dict:
    """The values that are as their keys want them; a line for each that is not, or that is missing."""
    given: dict[str, Any] = {}
    refused = set()
    from_yaml = read_yaml(config_file) if config_file else {}
    for where, values in ((config_file, from_yaml), ("the command line", options), overrides):
        for name, value in values.items():
            problem = _refuse_name(str(name), keys, where)
            if problem is None and repr(without_secrets(value)) != repr(value):  # NaN is not equal to itself
                problem = "holds a secret, which does not belong in files or commands. Set it in the environment"
            if problem is None:
                try:
                    given[name] = _check(value, keys[name])
                except ValueError as error:
                    problem = f"{error} in {where}, found {value!r}"
                    if "no effect" in problem:  # whose reason comes last
                        problem = f"{value} in {where} {error}"
                    if value in (True, "") and where == "the command line":
                        problem = "missing its value on the command line"
            if problem is not None:
                problems.append(f"{name}: {problem}")
                refused |= {name, RENAMED.get(name)}
    for name, key in keys.items():
        if key.default is REQUIRED and name not in given and name not in refused:
            problems.append(f"{name}: missing. {key.help}")
    return given


def _refuse_name(name: str, keys: dict[str, Key], where) -> str | None:
    """What is wrong with the name of a key, or None."""
    if name in SECRETS:
        return f"secrets don't belong in files or commands. Set {SECRETS[name]} instead"
    if name in keys:
        return None
    if RENAMED.get(name) in keys:
        return f"was renamed. Use {RENAMED[name]} in {where}"
    related = [key for key in keys if key.startswith(name.partition("_")[0])]  # lora_rank: lora_r, not local_rank
    nearest = get_close_matches(name, related, n=1) or get_close_matches(name, keys, n=1)
    return f"unknown key in {where}. " + (f"Did you mean {nearest[0]}?" if nearest else "--help lists the keys")


def _check(value, key: Key):
    """The value as the key's type, or a `ValueError` that says what was expected."""
    adapter = TypeAdapter(key.type, config=ConfigDict(arbitrary_types_allowed=True))
    errors = []
    # One word is a list of one where a list is wanted.
    for candidate in (value, [value]) if isinstance(value, str) else (value,):
        try:
            checked = adapter.validate_python(candidate)
            break
        except ValidationError as failure:
            errors.append(failure)
    else:
        if isinstance(value, list) and not {"list", "dict"} & set(re.findall(r"\w+", str(key.type))):
            raise ValueError("takes one value")
        raise ValueError(" or ".join(dict.fromkeys(map(_format_error, errors[0].errors()))))
    if value == "" or (isinstance(value, list) and value and "" in value):
        raise ValueError("input should not be empty")
    if isinstance(value, bool) and not isinstance(checked, bool):
        raise ValueError("input should not be true or false")
    if key.choices and checked not in key.choices:
        raise ValueError(f"input should be one of {', '.join(map(str, key.choices))}")
    if problem := refuse_value(key.name, checked):
        raise ValueError(problem)
    return checked


def _format_error(detail) -> str:
    """What pydantic found, with its place where that is an entry of a list."""
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    entry, *key = detail["loc"] or [None]
    return ": ".join([f"entry {entry + 1}", *map(str, key[:1]), message]) if isinstance(entry, int) else message


def _split_argv(argv: list[str], script: Path, problems: list[str]) -> tuple[Path | None, dict]:
    """`x.yaml --key value --list a b --flag --other=value` -> the YAML's path and the options."""
    config_file = argv.pop(0) if argv and argv[0].endswith((".yaml", ".yml")) else None
    words: dict[str, list[str]] = {}
    key = None
    for word in argv:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            if key in words:
                problems.append(f"{key}: given twice on the command line")
            words[key] = [value] if equals else []
        elif key is None:
            problems.append(f"{word}: expected --key before it")
        else:
            words[key].append(word)
    if "config" in words:
        config_file = (words.pop("config") or [""])[0]
    # A flag alone is true; one word is a value, which `_check` makes a list where a list is wanted.
    options = {key: True if not found else found[0] if len(found) == 1 else found for key, found in words.items()}
    return (find_yaml(config_file, script) if config_file is not None else None), options


def keys_on_command_line(argv: list[str]) -> set[str]:
    """The keys that are given on a command line, and not in a YAML."""
    return {word[2:].partition("=")[0] for word in argv if word.startswith("--")}


def find_yaml(name: str, script: Path) -> Path:
    """
    A YAML by its path, or a shipped one by its name.

    Args:
        name (`str`): A path or a name.
        script (`Path`): The recipe that it is for. Those of sft.py are for all recipes that have none of their own.

    Raises:
        UserError: If there is none, or it is for another recipe.
    """
    if Path(name).is_file():
        return Path(name)
    folder = script.resolve().parent
    path = shipped_yaml(name, folder)
    verb = script.stem if (folder / script.stem).is_dir() else "sft"
    if path.parent.name != verb:
        raise UserError(f"{name} is for lmsys-trl {path.parent.name}")
    return path


def shipped_yaml(name: str, recipes: Path) -> Path:
    """A YAML in the folders beside recipes, by its name."""
    shipped = {path.name: path for path in sorted(recipes.glob("*/*.yaml"))}
    if name not in shipped:
        nearest = get_close_matches(name, shipped, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else "lmsys-trl recipes lists the shipped ones"
        raise UserError(f"there is no configuration file {name!r}. {hint}")
    return shipped[name]
