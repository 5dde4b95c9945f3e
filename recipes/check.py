"""
Check recipes before weights are loaded or a GPU is rented. Exits with 1 if anything is wrong.

    lmsys-trl check
    lmsys-trl check gemma.yaml --accelerate_config multi_gpu --tokenizer DIR

The first checks all shipped recipes for sft with all shipped accelerate configs, and says of which base models it
knows no configuration. The second takes all keys of sft too.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config, read_config
from lmsys_trl.errors import raise_problems
from lmsys_trl.options import MODEL_CONFIG, TRAINING_CONFIG, JudgeConfig
from lmsys_trl.preflight.command import log_findings, read_recipe, recipes_to_check, without_option
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class CheckConfig(JudgeConfig):
    """What a recipe is checked with, and the keys of sft."""

    dataset_name: str | None = field(default=None, metadata={"help": "Not read."})  # type: ignore[assignment]
    accelerate_config: str | None = field(
        default=None, metadata={"help": "An accelerate config, by name or path (default: all that are shipped)."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "The tokenizer's folder (default: the base model's, if on this machine)."}
    )


CONFIGS = (CheckConfig, MODEL_CONFIG, TRAINING_CONFIG)


def main():
    if {"--help", "-h"} & set(sys.argv):
        parse_config(*CONFIGS)
    names, options = recipes_to_check(sys.argv[1:])
    if len(names) > 1:  # a typo on the command line would be a problem of each
        raise_problems(read_config(*CONFIGS, argv=options, load=False).problems)

    # Imported now: what takes seconds must not delay --help.
    from lmsys_trl.preflight.launch import find_compatible, read_accelerate_configs
    from lmsys_trl.preflight.machine import check_machine
    from lmsys_trl.preflight.plan import estimate_memory
    from lmsys_trl.preflight.plan_text import summarize
    from lmsys_trl.preflight.recipe import UNKNOWN_BASE, check_recipe, find_model_config

    recipes = {name: read_recipe(name, options, CONFIGS) for name in names}
    requested = {configs[0].accelerate_config for configs, *_ in recipes.values() if configs} - {None}
    accelerate_configs = read_accelerate_configs(sorted(requested))
    num_problems = 0
    used: set[Path] = set()
    for name, (configs, _, problems) in recipes.items():
        notes: list[str] = []
        if configs:
            judge, model, training = configs
            notes, found = check_recipe(judge, model, training, judge.tokenizer)
            if len(names) > 1 and found and found[0].startswith(UNKNOWN_BASE):  # nobody has asked for this one
                notes, found = [f"NOT CHECKED {found[0]}"], []
            elif not found:
                base, _ = find_model_config(model.model_name_or_path, judge.base_model_id, model.model_revision)
                notes.append(summarize(*estimate_memory(base, judge, model, training)))
            notes += [f"not on this machine: {problem}" for problem in check_machine(model, training)]
            compatible, mismatches = find_compatible(model, training, accelerate_configs)
            used.update(config.path for config in compatible)
            notes.append(f"can be started with {', '.join(config.path.name for config in compatible) or 'none'}")
            if compatible and not requested:
                notes += [f"not {mismatch}" for mismatch in mismatches]
            else:
                found += mismatches
            problems += found
        num_problems += log_findings(Path(name).name, notes, problems)
    for config in accelerate_configs:
        problems = config.problems
        if not problems and config.path not in used and len(names) > 1:
            problems = ["no recipe can be started with it, for the reasons above"]
        if problems:
            num_problems += log_findings(config.path.name, [], problems)
    if num_problems:
        sys.exit(f"{num_problems} problem{'s' * (num_problems > 1)}")
    logger.info("no problems")
    if len(names) == 1:
        suggest_next("sft", names[0], *without_option(options, "tokenizer"))


if __name__ == "__main__":
    run_recipe(main)
