"""
Battles in, a judge out: trains a LoRA adapter whose answer letter forecasts the vote.

    accelerate launch recipes/sft.py gemma.yaml --dataset_name data/battles --output_dir runs/judge

Interrupted and started again with the same command it goes on from its last checkpoint.
"""

import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from peft import LoraConfig, PeftConfig, PeftModel
from transformers import PreTrainedModel
from trl import ModelConfig, get_peft_config

from lmsys_trl.adapters import JUDGE_FILE, adapter_folder, read_judge_file
from lmsys_trl.base_models import base_folder, load_base, weights_fingerprint
from lmsys_trl.baselines import save_features
from lmsys_trl.checkpoints import CheckpointCallback, last_complete_checkpoint
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.judge import describe_judge
from lmsys_trl.prepared import data_fingerprint, dataset_facts, encode, load_battles
from lmsys_trl.provenance import file_fingerprint, provenance, write_json
from lmsys_trl.push_callback import PushCallback
from lmsys_trl.rows import load_tokenizer
from lmsys_trl.teachers import join_teachers, without_fold
from lmsys_trl.trainer import JudgeTrainer, TrainingConfig


@dataclass
class JudgeConfig:
    """What the judge learns from, and how it is used afterwards."""

    dataset_name: str = field(
        metadata={"help": "A data set of recipes/prepare.py: its folder, or its name on the Hub."}
    )
    swap: Literal["none", "all", "paired"] = field(
        default="none",
        metadata={"help": "Training battles in both orders of their answers, anywhere (`all`) or in the same step."},
    )
    fold: int | None = field(
        default=None, metadata={"help": "Train on all folds of the data set but this one, for recipes/out_of_fold.py."}
    )
    teacher_files: list[str] | None = field(
        default=None, metadata={"help": "Predictions of other judges to learn from, joined by id."}
    )
    allow_unmatched: bool = field(
        default=False, metadata={"help": "Go on where battles and teacher_files do not have the same ids."}
    )
    adapter_name_or_path: str | None = field(
        default=None, metadata={"help": "An earlier judge of the same base model to start from."}
    )
    pad_token: str | None = field(
        default=None, metadata={"help": "The token to pad with, where the tokenizer's own is its end token."}
    )
    base_model_id: str | None = field(
        default=None, metadata={"help": "The base model's name on the Hub, where model_name_or_path is a folder."}
    )
    lora_layers_to_transform: list[int] | None = field(
        default=None, metadata={"help": "Adapt these layers only; those below the first need no backward pass."}
    )
    inference_max_length: int | None = field(
        default=None, metadata={"help": "Tokens in a row at prediction (max_length unless told)."}
    )
    temperature: float = field(default=1.03, metadata={"help": "What the letters' logits are divided by."})


def main():
    judge_config, model_config, training, given = parse_config(JudgeConfig, ModelConfig, TrainingConfig)
    model_config.use_peft = True  # a judge is an adapter
    output_dir = Path(training.output_dir)
    if (output_dir / JUDGE_FILE).exists():
        print(f"{output_dir} holds a finished judge. To train another one choose another --output_dir.")
        return
    if judge_config.adapter_name_or_path:
        judge_config.adapter_name_or_path = str(adapter_folder(judge_config.adapter_name_or_path))
    base = base_folder(model_config.model_name_or_path, model_config.model_revision)
    tokenizer = load_tokenizer(str(base), judge_config.pad_token)
    battles = load_battles(judge_config.dataset_name)
    fingerprints = {name: data_fingerprint(split) for name, split in battles.items()}
    battles = what_to_learn(battles, judge_config)
    with PartialState().main_process_first():  # the others find the rows in the cache
        rows = {
            name: encode(split, tokenizer, training.max_length, judge_config.swap if name == "train" else "none")
            for name, split in battles.items()
        }
    settings = run_depends_on(judge_config, model_config, training, base, fingerprints)
    checkpoint = last_complete_checkpoint(output_dir, settings)
    description = describe(judge_config, model_config, training, base, tokenizer)
    pushes = [PushCallback(training, description["base_model"]["id"])] if training.push_to_hub else []
    training.push_to_hub = False  # `pushes` are in the place of the Trainer's own
    if PartialState().is_main_process:
        announce(given, rows, training.world_size)

    model, peft_config = load_model(judge_config, model_config, base, description)
    trainer = JudgeTrainer(
        model=model,
        args=training,
        train_dataset=rows["train"].shuffle(seed=training.seed),  # batch_rebalance has a seed of its own
        eval_dataset=rows.get("validation") if training.eval_strategy != "no" else None,
        processing_class=tokenizer,
        peft_config=peft_config,
        callbacks=[CheckpointCallback(settings), *pushes],
    )
    trainer.model.print_trainable_parameters()
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.state.global_step < trainer.state.max_steps:
        print("Stopped by SIGTERM after a whole step, which is saved. The same command goes on from there.")
        sys.exit(128 + signal.SIGTERM)

    trainer.save_model()
    if PartialState().is_main_process:
        tidy_adapter(trainer.model.peft_config["default"], output_dir, description["base_model"]["id"])
        save_features((row for row in battles["train"] if row["winner"] is not None), output_dir)
        description |= {"dataset": fingerprints, "votes": dataset_facts(judge_config.dataset_name)}
        description |= {"fold": judge_config.fold, **provenance(given)}
        write_json(output_dir / JUDGE_FILE, description)
        print(f"The judge is in {output_dir}")
        for push in pushes:
            push.finish(output_dir)


def what_to_learn(battles: DatasetDict, config: JudgeConfig) -> dict[str, Dataset]:
    """The training battles with what their teachers say of them, and validation battles with a vote."""
    splits = dict(battles)
    if config.fold is not None:
        splits["train"] = without_fold(splits["train"], config.fold)
    if config.teacher_files:
        splits["train"] = join_teachers(splits["train"], config.teacher_files, config.allow_unmatched)
    if "validation" in splits:
        votes = [winner is not None for winner in splits["validation"]["winner"][:]]
        splits["validation"] = splits["validation"].select(np.flatnonzero(votes))
    return splits


def run_depends_on(
    judge_config: JudgeConfig, model_config: ModelConfig, training: TrainingConfig, base: Path, data: dict[str, str]
) -> dict:
    """All that another run with the same result has in common; files by their content."""
    earlier = judge_config.adapter_name_or_path
    return {
        **asdict(judge_config),
        **asdict(model_config),
        **training.to_dict(),
        "processes": training.world_size,
        "weights": weights_fingerprint(base),
        **{f"data, {name}": value for name, value in data.items()},
        "teachers": [file_fingerprint(file) for file in judge_config.teacher_files or ()],
        "earlier adapter": weights_fingerprint(Path(earlier)) if earlier else None,
    }


def describe(
    judge_config: JudgeConfig, model_config: ModelConfig, training: TrainingConfig, base: Path, tokenizer
) -> dict:
    """What judge.json will say of the judge."""
    base_model_id = judge_config.base_model_id
    if base_model_id is None and not Path(model_config.model_name_or_path).exists():
        base_model_id = model_config.model_name_or_path
    return describe_judge(
        tokenizer,
        base,
        base_model_id,
        max_length=training.max_length,
        inference_max_length=judge_config.inference_max_length or training.max_length,
        temperature=judge_config.temperature,
        precision={
            "dtype": model_config.dtype,
            "autocast": training.bf16,
            "attn_implementation": model_config.attn_implementation,
            "quantization": quantization_of(model_config),
        },
    )


def load_model(
    judge_config: JudgeConfig, model_config: ModelConfig, base: Path, description: dict
) -> tuple[PreTrainedModel, LoraConfig | None]:
    """The base model and the adapter that it is to get, or the base model with an earlier judge's adapter."""
    peft_config = get_peft_config(model_config)
    peft_config.layers_to_transform = judge_config.lora_layers_to_transform
    adapter = judge_config.adapter_name_or_path
    if adapter:
        refuse_other_adapter(Path(adapter), peft_config, description)
    model = load_base(
        base, model_config.dtype, model_config.attn_implementation, description["precision"]["quantization"]
    )
    if adapter:
        return PeftModel.from_pretrained(model, adapter, is_trainable=True), None
    return model, peft_config


def refuse_other_adapter(adapter: Path, wanted: LoraConfig, description: dict) -> None:
    """An earlier judge must have the base, tokenizer, prompt and LoRA of this one."""
    earlier, lora = read_judge_file(adapter), LoraConfig.from_pretrained(adapter)
    problems = [
        f"{key}: it was trained with another one"
        for key in ("prompt_version", "letters", "tokenizer")
        if earlier[key] != description[key]
    ]
    if earlier["base_model"]["fingerprint"] != description["base_model"]["fingerprint"]:
        problems.append(f"base model: it was trained on other weights, those of {earlier['base_model']['id']}")
    for key in ("r", "lora_alpha", "target_modules", "layers_to_transform", "use_rslora", "use_dora"):
        found, asked = getattr(lora, key), getattr(wanted, key)
        if found != asked:
            problems.append(f"{key}: {found} in the adapter, {asked} in the recipe")
    if problems:
        raise ValueError("\n  ".join([f"adapter_name_or_path: {adapter} does not fit:", *problems]))


def quantization_of(model_config: ModelConfig) -> dict | None:
    """The arguments of `BitsAndBytesConfig`, as they stand in judge.json too."""
    if model_config.load_in_8bit:
        return {"load_in_8bit": True}
    if model_config.load_in_4bit:
        return {
            "load_in_4bit": True,
            "bnb_4bit_compute_dtype": model_config.dtype,
            "bnb_4bit_quant_type": model_config.bnb_4bit_quant_type,
            "bnb_4bit_use_double_quant": model_config.use_bnb_nested_quant,
            "bnb_4bit_quant_storage": model_config.bnb_4bit_quant_storage,
        }
    return None


def announce(given: dict, rows: dict[str, Dataset], num_processes: int) -> None:
    for key, value in given.items():
        print(f"  {key}: {value}")
    print(f"processes: {num_processes}")
    for name, split in rows.items():
        lengths = [len(ids) for ids in split["input_ids"]]
        print(f"{name}: {len(lengths)} rows, {sum(lengths)} tokens, the longest {max(lengths)}")


def tidy_adapter(peft_config: PeftConfig, folder: Path, base_model_id: str | None) -> None:
    """Name the base model as others know it, and drop what does not belong in an adapter."""
    peft_config.base_model_name_or_path = base_model_id
    peft_config.save_pretrained(folder)
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle
    (folder / "README.md").unlink(missing_ok=True)  # a generic card, with the path of this machine's base model


if __name__ == "__main__":
    run_recipe(main)
