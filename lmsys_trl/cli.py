"""
The command `lmsys-trl`: runs a recipe as a script, through `accelerate launch` where it trains or predicts.

Options are checked before anything heavy is imported.
"""

import inspect
import os
import platform
import runpy
import shutil
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from .artifacts import PACKAGES
from .config import accelerate_configs, bundled_folder, find_accelerate_config, read_config, shipped_yaml
from .errors import UserError
from .help import recipe_docstring, render_help
from .redaction import without_secrets
from .terminal import aligned

# Run by `accelerate launch`.
LAUNCHED = ("sft", "predict", "out_of_fold", "pseudo_label", "ensemble", "validate", "benchmark")
GPU_DEVICES = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")


def main() -> None:
    """The entry point."""
    verb, *words = sys.argv[1:] or ["--help"]
    if verb in ("-h", "--help", "help") and words:  # lmsys-trl help sft
        verb, words = words[0], ["--help", *words[1:]]
    try:
        if verb in ("-h", "--help", "help"):
            print(overview(), flush=True)
        elif verb == "--version":
            print(version("lmsys-trl"))
        elif verb in COMMANDS:
            print(_run_command(COMMANDS[verb], words), flush=True)
        else:
            run_verb(verb, words)
    except UserError as error:
        sys.exit(f"lmsys-trl {verb}: {without_secrets(str(error))}")
    except BrokenPipeError:  # lmsys-trl recipes | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def recipe_scripts() -> dict[str, Path]:
    """The recipes by their verbs."""
    return {path.stem: path for path in sorted(bundled_folder("recipes").glob("*.py"))}


def overview() -> str:
    """All verbs with what they do."""
    rows = {verb: recipe_docstring(path).splitlines()[0] for verb, path in recipe_scripts().items()}
    rows |= {name: _summary(command) for name, command in COMMANDS.items()}
    lines = ["usage: lmsys-trl VERB [FILE.yaml] [--key value ...]", "", "Verbs:"]
    lines += [f"  {verb:12} {text}" for verb, text in rows.items()]
    lines += ["", "lmsys-trl VERB --help lists the keys of a verb.",
              f"{', '.join(LAUNCHED)} are run by accelerate: --accelerate_config NAME takes one of "
              f"{', '.join(accelerate_configs())}, or a path."]  # fmt: skip
    return "\n".join(lines)


def run_verb(verb: str, words: list[str]) -> None:
    """Replace this process by the recipe's."""
    scripts = recipe_scripts()
    if verb not in scripts:
        nearest = get_close_matches(verb, [*scripts, *COMMANDS], n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else "lmsys-trl --help lists the verbs"
        raise UserError(f"there is no such verb. {hint}")
    script = scripts[verb]
    launcher: list[str] = []
    if verb in LAUNCHED:
        config, words = _pop_option(words, "accelerate_config")
        # quiet: a recipe has said what is wrong, and accelerate's traceback would hide it.
        launcher = ["-m", "lmsys_trl.launch", "--quiet", "--config_file", str(accelerate_config(config))]
    classes = runpy.run_path(str(script), run_name="recipe")["CONFIGS"]
    if "--help" in words or "-h" in words:
        print(render_help(script, classes, everything="all" in words))
        if launcher:
            print(f"\n--accelerate_config NAME: one of {', '.join(accelerate_configs())}, or a path.")
        return
    if launcher and read_config(*classes, argv=words, load=False, script=script).problems:
        launcher = []  # accelerate takes seconds to start, and the recipe alone reports its problems
    os.execv(sys.executable, [sys.executable, *launcher, str(script), *words])


def accelerate_config(name: str | None) -> Path:
    """The path of an accelerate config. Default: one GPU where there is one, else the CPU."""
    if name is None:
        has_gpu = sys.platform == "darwin" or any(map(os.path.exists, GPU_DEVICES))
        name = "single_gpu" if has_gpu else "cpu"
    return find_accelerate_config(name)


def recipes() -> str:
    """List the shipped YAMLs: base model, method and what they need."""
    folder, rows = bundled_folder("recipes"), []
    for path in sorted(folder.glob("*/*.yaml")):
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        comments = [line.removeprefix("#").strip() for line in text.partition("\n\n")[0].splitlines()]
        needs = next((line.partition(":")[2].strip() for line in comments if line.lower().startswith("needs:")), "")
        if path.parent.name == "sft":
            base = values.get("base_model_id") or values["model_name_or_path"]
            bits = "4-bit " if values.get("load_in_4bit") else ""
            method = f"{bits}LoRA r {values['lora_r']}, {values['max_length']} tokens"
        else:
            base, method = "", f"for lmsys-trl {path.parent.name}"
        rows.append((path.name, base, method, needs))
    rows.insert(0, ("recipe", "base model", "method", "needs"))
    return "\n".join(aligned(rows))


def copy(name: str, target: str) -> str:
    """Copy a shipped YAML to change it: lmsys-trl copy gemma.yaml mine.yaml"""
    source = Path(name) if Path(name).is_file() else shipped_yaml(name, bundled_folder("recipes"))
    path = Path(target)
    if path.exists():
        raise UserError(f"{target} exists already. Choose another name")
    try:
        shutil.copyfile(source, path)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from error
    return f"{source.name} is copied to {target}. Use it in its place: lmsys-trl {source.parent.name} {target}"


def env() -> str:
    """Print the versions for a bug report."""
    lines = [f"python {platform.python_version()}", f"platform {platform.platform()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} is not installed")
    return "\n".join(lines)


COMMANDS: dict[str, Callable[..., str]] = {"recipes": recipes, "copy": copy, "env": env}


def _run_command(command: Callable[..., str], words: list[str]) -> str:
    """The output of one of the commands, or its help if it is asked for or the number of words is wrong."""
    parameters = list(inspect.signature(command).parameters)
    usage = f"{_summary(command)}\nusage: lmsys-trl {command.__name__} {' '.join(map(str.upper, parameters))}".rstrip()
    if {"-h", "--help"} & set(words):
        return usage
    if len(words) != len(parameters):
        raise UserError(f"expected {len(parameters)} names, found {len(words)}. {usage}")
    return command(*words)


def _summary(command: Callable) -> str:
    return (command.__doc__ or "").strip().splitlines()[0]


def _pop_option(words: list[str], name: str) -> tuple[str | None, list[str]]:
    """The value of `--name value` or `--name=value`, and the other words."""
    for i, word in enumerate(words):
        if word == f"--{name}":
            if i + 1 == len(words) or words[i + 1].startswith("--"):
                raise UserError(f"{name}: missing its value")
            return words[i + 1], words[:i] + words[i + 2 :]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2], words[:i] + words[i + 1 :]
    return None, words


if __name__ == "__main__":
    main()
