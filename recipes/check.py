"""
What is wrong with recipes, before weights are loaded or a GPU is rented. Exits with 1 if anything is.

    python recipes/check.py
    python recipes/check.py gemma.yaml --accelerate_config accelerate_configs/multi_gpu.yaml --tokenizer DIR

The first checks all recipes for sft.py with all of accelerate_configs/. The second takes every key of sft.py as well.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from sft import JudgeConfig, quantization_of
from trl import ModelConfig, get_peft_config

from lmsys_trl.checks import (
    check_attention,
    check_lengths,
    check_lora,
    check_quantization,
    check_rows,
    find_config,
    find_tokenizer,
    parse_what_can_be,
)
from lmsys_trl.config import run_recipe
from lmsys_trl.launches import check_fit, read_launch
from lmsys_trl.trainer import TrainingConfig

RECIPES = Path(__file__).parent
ACCELERATE_CONFIGS = RECIPES.parent / "accelerate_configs"


@dataclass
class CheckConfig(JudgeConfig):
    """What a recipe is checked with, and the keys of recipes/sft.py."""

    dataset_name: str | None = field(default=None, metadata={"help": "Not looked at."})
    accelerate_config: str | None = field(
        default=None, metadata={"help": "The configuration of accelerate (all in accelerate_configs/ unless told)."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "The tokenizer's folder (the base model's, if on this machine, unless told)."}
    )


def main():
    recipes, options = recipes_to_check(sys.argv[1:])
    parsed = {
        path: parse_what_can_be(CheckConfig, ModelConfig, TrainingConfig, argv=[str(path), *options])
        for path in recipes
    }
    asked = {configs[0].accelerate_config for configs, _ in parsed.values() if configs} - {None}
    launches = {path: read_launch(path) for path in asked or sorted(map(str, ACCELERATE_CONFIGS.glob("*.yaml")))}
    num_problems, used = 0, set()
    for path, (configs, problems) in parsed.items():
        print(path.name)
        if configs is not None:
            config, model, training, _ = configs
            problems += check_recipe(config, model, training)
            fits, misfits = fit(model, training, launches)
            used.update(fits)
            problems += misfits if asked or not fits else []
        num_problems += tell(problems)
    for path, (_, problems) in launches.items():
        if not problems and path not in used and len(recipes) > 1:
            problems.append("no recipe can be started with it. See what is said of it above")
        if problems:
            print(Path(path).name)
        num_problems += tell(problems)
    if num_problems:
        sys.exit(f"{num_problems} problem{'s' * (num_problems > 1)}")
    print("no problems")


def recipes_to_check(argv: list[str]) -> tuple[list[Path], list[str]]:
    """The recipe that is named, or all that are for sft.py; and the options after it."""
    if argv and argv[0].endswith((".yaml", ".yml")):
        return [Path(argv[0]) if Path(argv[0]).is_file() else RECIPES / argv[0]], argv[1:]
    if any(word.startswith(("--tokenizer", "--config")) for word in argv):
        raise ValueError("name the recipe first, as in recipes/check.py gemma.yaml --tokenizer DIR")
    recipes = sorted(RECIPES.glob("*.yaml"))
    return [path for path in recipes if "recipes/sft.py" in path.read_text(encoding="utf-8").partition("\n")[0]], argv


def check_recipe(config: CheckConfig, model: ModelConfig, training: TrainingConfig) -> list[str]:
    """Say what the recipe comes to. Returns the problems that it has by itself."""
    if model.model_name_or_path is None:
        return ["model_name_or_path: missing. A folder with a base model, or its name on the Hub"]
    try:
        base, where = find_config(model.model_name_or_path, config.base_model_id, model.model_revision)
    except (ValueError, OSError) as error:
        return [f"model_name_or_path: its configuration is not at hand: {error}"]
    print(f"  model: {model.model_name_or_path}, built without weights from {where}")
    lengths = {"max_length": training.max_length, "inference_max_length": config.inference_max_length}
    lengths = {key: length for key, length in lengths.items() if length is not None}
    in_16_bits = model.dtype != "float32" or training.bf16 or training.fp16
    problems = check_attention(base, model.attn_implementation, in_16_bits) + check_lengths(base, lengths)
    problems += check_quantization(quantization_of(model))

    model.use_peft = True
    peft_config = get_peft_config(model)
    peft_config.layers_to_transform = config.lora_layers_to_transform
    trained, more = check_lora(base, peft_config)
    print(f"  LoRA trains {trained or 'nothing'}")
    problems += more

    tokenizer = config.tokenizer or find_tokenizer(model.model_name_or_path, model.model_revision)
    if tokenizer is None:
        print("  rows: not checked, there is no tokenizer on this machine. Name its folder with --tokenizer")
        return problems
    row, more = check_rows(tokenizer, config.pad_token, base, lengths)
    print(f"  rows: {row or 'none'}")
    return problems + more


def fit(model: ModelConfig, training: TrainingConfig, launches: dict) -> tuple[list[str], list[str]]:
    """Say with which configurations of accelerate the recipe can be started. Returns these, and what keeps others."""
    fits, misfits = [], []
    for path, (launch, problems) in launches.items():
        wrong = [] if launch is None else check_fit(model, training, launch)
        misfits += [f"with {Path(path).name}, {problem}" for problem in wrong]
        if not wrong and not problems:
            fits.append(path)
    print(f"  can be started with {', '.join(Path(path).name for path in fits) or 'none'}")
    for misfit in misfits if fits else ():
        print(f"  not {misfit}")
    return fits, misfits


def tell(problems: list[str]) -> int:
    for problem in problems:
        print(f"  PROBLEM {problem}")
    return len(problems)


if __name__ == "__main__":
    run_recipe(main)
