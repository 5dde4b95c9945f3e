"""
Estimate memory, time and cost of a recipe before a GPU is rented, without weights.

    lmsys-trl plan gemma.yaml --dataset_name data/mine --tokenizer DIR
    lmsys-trl plan gemma.yaml --num_battles 57000 --mean_length 800 --num_predicted 25000 --price_per_hour A100-80=1.5
    lmsys-trl plan smollm2.yaml --measure

The second takes lengths as stated. The third trains a few steps on this machine's device and compares.
It takes the same YAML and keys as sft.
"""

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.config import keys_on_command_line, parse_config
from lmsys_trl.data.config import BattlesConfig
from lmsys_trl.errors import UserError, collect_problems, raise_problems
from lmsys_trl.options import MODEL_CONFIG, TRAINING_CONFIG, JudgeConfig
from lmsys_trl.preflight.gpus import HEADROOM, UTILISATION, find_gpus
from lmsys_trl.terminal import logger, reserve_stdout, run_recipe


@dataclass
class PlanConfig(JudgeConfig, BattlesConfig):
    """What is planned, and the keys of sft."""

    dataset_name: str | None = field(  # type: ignore[assignment]  # sft needs one
        default=None, metadata={"help": "A data set made by prepare, whose lengths are counted, if it is there."}
    )
    test_file: str | None = field(
        default=None, metadata={"help": "Instead of dataset_name: a file of battles in any format that prepare reads."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "The tokenizer's folder (default: that of the base model)."}
    )
    num_battles: int | None = field(
        default=None, metadata={"help": "Instead of data: battles to train on (default: 1000)."}
    )
    mean_length: int | None = field(
        default=None, metadata={"help": "Instead of data: tokens in an example on average (default: max_length)."}
    )
    accelerate_config: str | None = field(
        default=None, metadata={"help": "An accelerate config, by name or path (default: one device)."}
    )
    gpus: list[str] | None = field(
        default=None, metadata={"help": "Names of GPUs, such as L4 A100-80 (default: all known)."}
    )
    utilisation: float = field(
        default=UTILISATION, metadata={"help": "The fraction of a GPU's dense peak in 16 bits that is reached."}
    )
    headroom: float = field(default=HEADROOM, metadata={"help": "The fraction of a GPU's memory that is left free."})
    price_per_hour: list[str] | None = field(
        default=None, metadata={"help": "What an hour of a GPU costs: A100-80=1.5 L4=0.7, or a number for all."}
    )
    num_predicted: int | None = field(default=None, metadata={"help": "Battles to predict afterwards."})
    tta: Literal["none", "swap"] = field(
        default="none", metadata={"help": "swap: they are predicted in both orders of their answers."}
    )
    measure: bool = field(default=False, metadata={"help": "Train three steps on this machine's device, and compare."})
    json: bool = field(default=False, metadata={"help": "Print the plan as JSON, in bytes and hours."})


CONFIGS = (PlanConfig, MODEL_CONFIG, TRAINING_CONFIG)


def main():
    config, model, training, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.preflight.launch import check_compatibility, read_accelerate_configs
    from lmsys_trl.preflight.plan import Request, make_plan
    from lmsys_trl.preflight.plan_text import render_plan
    from lmsys_trl.preflight.recipe import check_recipe, find_model_config

    problems: list[str] = []
    gpus: list = []
    prices: dict[str, float] = {}
    with collect_problems(problems):
        gpus = find_gpus(config.gpus)
    with collect_problems(problems):
        prices = read_prices(config.price_per_hour or [], [gpu.name for gpu in gpus or find_gpus()])
    cluster = None
    with collect_problems(problems):
        if config.accelerate_config:
            ((_, cluster, found),) = read_accelerate_configs([config.accelerate_config])
            problems += found
            if cluster:
                problems += check_compatibility(model, training, cluster)
    problems += check_recipe(config, model, training, config.tokenizer)[1]
    raise_problems(problems)
    base, source = find_model_config(model.model_name_or_path, config.base_model_id, model.model_revision)
    lengths = find_lengths(config, model, training, "dataset_name" in keys_on_command_line(sys.argv))
    request = Request(
        gpus,
        config.utilisation,
        config.headroom,
        prices,
        config.num_predicted,
        orders=2 if config.tta == "swap" else 1,
    )
    with reserve_stdout() if config.json else nullcontext() as result:
        plan = make_plan(base, config, model, training, cluster, lengths, request)
        measured = None
        if config.measure:
            import torch

            from lmsys_trl.preflight.measure import measure_steps

            here = request._replace(on_gpu=torch.accelerator.is_available())
            planned = make_plan(base, config, model, training, cluster, lengths, here)
            measured = measure_steps(config, model, training, lengths.training, planned)
        if result:
            content = {"model": model.model_name_or_path, "lengths": lengths.source, **plan.to_dict()}
            content |= {"measured": measured._asdict()} if measured else {}
            result.write(json.dumps(content, indent=1) + "\n")
            return
    logger.info("%s, shapes from %s; %s", model.model_name_or_path, source, lengths.source)
    logger.info("%s", render_plan(plan, config.headroom, config.utilisation))
    if measured:
        logger.info("\n%s", measured.summary())


def read_prices(entries: list[str], names: list[str]) -> dict[str, float]:
    """`A100-80=1.5 L4=0.7`, or one number for all GPUs -> prices by the names of GPUs."""
    prices, problems = {}, []
    known = {name.lower(): name for name in names}
    for entry in entries:
        name, equals, number = entry.rpartition("=")
        try:
            price = float(number)
            if not price > 0 or price == float("inf"):
                raise ValueError
        except ValueError:
            problems.append(f"price_per_hour: expected a number above 0, or NAME=NUMBER, found {entry!r}")
            continue
        if equals and name.lower() not in known:
            problems.append(f"price_per_hour: {name} is none of the GPUs {', '.join(names)}")
        for gpu in [known.get(name.lower(), name)] if equals else names:
            prices[gpu] = price
    raise_problems(problems)
    return prices


def find_lengths(config: PlanConfig, model, training, is_named: bool):
    """The lengths of the examples: as stated, or counted; where there is neither, 1,000 of the maximum length."""
    from lmsys_trl.preflight.lengths import count_lengths, stated_lengths

    lengths = (training.max_length, config.inference_max_length or training.max_length)
    stated = config.num_battles is not None or config.mean_length is not None
    if stated and (config.test_file or is_named):
        raise UserError("num_battles, mean_length: give these or data, not both")
    if config.test_file and is_named:
        raise UserError("test_file, dataset_name: give one of the two")
    has_data = config.test_file or is_named or (config.dataset_name and Path(config.dataset_name).is_dir())
    if stated or not has_data:
        return stated_lengths(config.num_battles, config.mean_length, *lengths, config.swap != "none")
    return count_lengths(config, config, model.model_name_or_path, model.model_revision, config.tokenizer, lengths)


if __name__ == "__main__":
    run_recipe(main)
