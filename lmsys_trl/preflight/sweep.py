"""A grid of settings -> the runs of a sweep, all checked before the first one starts."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..artifacts import atomic_write
from ..config import keys_on_command_line, read_config
from ..errors import UserError, collect_problems, raise_problems
from ..help import format_value
from ..yaml_file import read_yaml

RECIPE = "recipe.yaml"  # in the folder of a run: all that sft is given
MAX_RUNS = 1000
MAX_NAME = 200  # bytes; file systems take 255, and a lock's name is longer
# Why a key has the same value in all runs.
NOT_SWEPT = {
    "dataset_name": "log losses on other battles can't be compared. Start a sweep for each data set",
    "output_dir": "each run has its own folder in output_dir. Remove it",
}
NOT_GIVEN = {
    "push_to_hub": "every run would push to the same repository. Push the one that you choose",
    "resume_from_checkpoint": "every run resumes from its own checkpoints. Remove it",
}


class Run(NamedTuple):
    """A point of the grid: one run of sft."""

    name: str  # of its folder: what the grid sets
    settings: dict[str, Any]  # the same, by key
    given: dict[str, Any]  # all that sft is given


def read_runs(classes: Sequence[type | str], argv: list[str], grid_file: Path, common: type) -> list[Run]:
    """
    Read a grid: a YAML with a list of values for each key.

    Args:
        classes (`Sequence[type | str]`): The classes of the recipe, as for [`read_config`].
        argv (`list[str]`): Its command line.
        grid_file (`Path`): The YAML.
        common (`type`): The class whose keys are not sft's, so that all runs have them in common.

    Returns:
        `list[Run]`: One for each combination of values, those of the last key changing fastest.

    Raises:
        UserError: With all problems of the YAML, of the command line and of the recipe's YAML.
    """
    ours = set(common.__dataclass_fields__)  # type: ignore[attr-defined]
    problems: list[str] = []
    grid = {}
    with collect_problems(problems):
        grid = _read_grid(grid_file, ours, argv)
    runs = []
    for values in product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        parsed = read_config(*classes, argv=argv, load=False, overrides=(grid_file, settings))
        problems += parsed.problems
        if not parsed.problems:
            checked = {key: parsed.given[key] for key in grid}
            given = {key: value for key, value in parsed.given.items() if key not in ours}
            runs.append(Run(run_name(checked), checked, given))
    given_to_all = {key for run in runs for key in NOT_GIVEN if run.given.get(key)}
    problems += [f"{key}: {NOT_GIVEN[key]}" for key in sorted(given_to_all)]
    names = Counter(run.name for run in runs)
    problems += [f"{grid_file}: {count} runs would be called {name}" for name, count in names.items() if count > 1]
    problems += [
        f"{grid_file}: the name of a run would be too long for a folder, {name[:50]}... Sweep fewer keys at once"
        for name in names
        if len(name.encode()) > MAX_NAME
    ]
    raise_problems(list(dict.fromkeys(problems)))
    return runs


def _read_grid(path: Path, ours: set[str], argv: list[str]) -> dict[str, list]:
    grid = read_yaml(path)
    on_command_line = keys_on_command_line(argv)
    problems = [] if grid else [f"sweep: {path} is empty. Write a list of values for each key: lora_r: [8, 16]"]
    for key, values in grid.items():
        if key in NOT_SWEPT:
            problems.append(f"{key}: not in {path}, {NOT_SWEPT[key]}")
        elif key in ours:
            problems.append(f"{key}: not in {path}, it is the same for all runs. Give it on the command line")
        elif not isinstance(values, list) or not values:
            problems.append(f"{key}: expected a list of values in {path}, such as [8, 16], found {values!r}")
        elif key in on_command_line:
            problems.append(f"{key}: is in {path} and on the command line. Give it once")
        elif any(value in values[:place] for place, value in enumerate(values)):
            problems.append(f"{key}: a value is listed twice in {path}")
    num_runs = 1 if problems else prod(map(len, grid.values()))
    if num_runs > MAX_RUNS:
        problems.append(f"sweep: {path} makes {num_runs:,} runs, and {MAX_RUNS:,} are the most. Sweep fewer values")
    raise_problems(problems)
    return grid


def run_name(settings: Mapping[str, Any]) -> str:
    """The name of a run's folder: `learning_rate=0.001,lora_r=8`."""
    texts = {key: re.sub(r"[^\w.+-]+", "_", format_value(value)) for key, value in settings.items()}
    return ",".join(f"{key}={text}" for key, text in texts.items())


def write_recipe(run: Run, output_dir: Path) -> Path:
    """Write the YAML that sft is started with. Returns its path, in the folder of the run."""
    path = output_dir / run.name / RECIPE
    with atomic_write(path) as draft:
        draft.write_text(yaml.safe_dump(_given(run, output_dir), sort_keys=False, allow_unicode=True), "utf-8")
    return path


def _given(run: Run, output_dir: Path) -> dict[str, Any]:
    return run.given | {"output_dir": str(output_dir / run.name)}


def check_runs(
    runs: Sequence[Run],
    classes: Sequence[type | str],
    grid_file: Path,
    output_dir: Path,
    accelerate_config: str | None,
) -> set[str]:
    """
    Check what base model, data set and machine show of all runs, in a process of its own: the configuration of a
    training takes memory of the GPU.

    Args:
        runs (`Sequence[Run]`): As from [`read_runs`].
        classes (`Sequence[type | str]`): The classes of sft, as for [`read_config`].
        grid_file (`Path`): For the messages.
        output_dir (`Path`): The folder in which each run has its folder.
        accelerate_config (`str`, *optional*): The accelerate config that they are started with, by name or path.

    Returns:
        `set[str]`: The names of the runs that are finished.

    Raises:
        UserError: With all problems.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        finished, problems = pool.submit(_check_runs, runs, classes, grid_file, output_dir, accelerate_config).result()
    raise_problems(problems)
    return finished


def _check_runs(runs, classes, grid_file, output_dir, accelerate_config) -> tuple[set[str], list[str]]:
    """The names of the finished runs, and the problems of all."""
    from ..data.dataset import data_fingerprint, load_battles
    from ..models.adapter import JUDGE_FILE, resolve_adapter
    from ..models.base import resolve_base
    from ..training.checkpoints import IGNORED_SETTINGS, changed_settings
    from ..training.run import check_finished_judge, select_training_data
    from .launch import find_compatible, read_accelerate_configs
    from .machine import check_machine
    from .recipe import check_recipe

    finished: set[str] = set()
    problems: list[str] = []
    of_runs: dict[str, list[str]] = {}  # which runs have a problem
    splits, fingerprints = None, {}
    with collect_problems(problems):
        splits = load_battles(runs[0].given["dataset_name"])
        fingerprints = {name: data_fingerprint(split) for name, split in splits.items()}
        if "validation" not in splits or not any(vote is not None for vote in splits["validation"]["vote"][:]):
            problems.append(
                f"dataset_name: {runs[0].given['dataset_name']} has no validation battles with a vote, by which runs "
                "are compared. Prepare it with validation_fraction above 0"
            )
    launchers = []
    if accelerate_config:
        with collect_problems(problems):
            launchers = read_accelerate_configs([accelerate_config])
            problems += [f"{config.path.name}: {text}" for config in launchers for text in config.problems]
    for run in runs:
        given = _given(run, output_dir)
        parsed = read_config(*classes, argv=[], overrides=(grid_file, given))
        found = parsed.problems
        if parsed.configs:
            judge, model, training = parsed.configs
            found += check_recipe(judge, model, training)[1] + check_machine(model, training)
            found += find_compatible(model, training, launchers)[1]
            with collect_problems(found):
                if judge.adapter_name_or_path:
                    resolve_adapter(judge.adapter_name_or_path)
            with collect_problems(found):
                if splits:
                    select_training_data(splits, judge)
        folder = output_dir / run.name
        if (folder / JUDGE_FILE).exists() and splits and not found:
            finished.add(run.name)
            try:
                base = resolve_base(model.model_name_or_path, model.model_revision)
                check_finished_judge(folder, given, base, fingerprints)
            except UserError as error:
                found.append(" ".join(str(error).split()))
        elif (folder / RECIPE).exists():
            changed = changed_settings(read_yaml(folder / RECIPE), given, IGNORED_SETTINGS)
            if changed:
                found.append(f"output_dir: {folder} holds a run with other settings ({'; '.join(changed)})")
        for problem in dict.fromkeys(found):
            of_runs.setdefault(problem, []).append(run.name)
    for problem, names in of_runs.items():
        where = "" if len(names) == len(runs) else f" (in {len(names)} of {len(runs)} runs, such as {names[0]})"
        problems.append(f"{problem}{where}")
    return finished, problems
