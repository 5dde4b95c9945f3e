"""The steps of a training run, in the order in which recipes/sft.py takes them."""

import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, trainer_utils
from trl import ModelConfig, get_peft_config

from ..artifacts import file_fingerprint, provenance, strip_local_paths
from ..data.dataset import dataset_info, removed_ids
from ..data.ledger import REMOVED_FILE
from ..data.synthetic import make_battles
from ..encoding.dataset import encode_dataset
from ..errors import UserError, raise_problems
from ..models.adapter import lora_differences
from ..models.adapter_weights import attach_adapter, read_lora_config
from ..models.base import hub_id, load_base, remember_base, weights_fingerprint
from ..models.head import FROZEN, MODULE, install_head
from ..models.judge_file import JudgeFile
from ..models.precision import attention_in_training, quantization_of
from ..models.probes import NUM_PROBES, Probes, save_probes
from ..options import JudgeConfig
from ..predictions.features import save_features
from ..terminal import logger
from .checkpoints import WITHOUT_TRACE, changed_settings
from .config import TrainingConfig
from .teachers import exclude_fold, join_teachers
from .trainer import JudgeTrainer


def select_training_data(splits: DatasetDict, config: JudgeConfig) -> dict[str, Dataset]:
    """The training battles with their teachers' predictions, and the validation battles with a vote."""
    selected = dict(splits)
    if config.fold is not None:
        selected["train"] = exclude_fold(selected["train"], config.fold)
    if config.teacher_files:
        elsewhere = {name: set(split["id"][:]) for name, split in splits.items() if name != "train"}
        elsewhere[f"fold {config.fold}"] = set(splits["train"]["id"][:]) - set(selected["train"]["id"][:])
        elsewhere[REMOVED_FILE] = removed_ids(config.dataset_name)
        selected["train"] = join_teachers(selected["train"], config.teacher_files, config.allow_unmatched, elsewhere)
    if "validation" in selected:
        has_vote = [vote is not None for vote in selected["validation"]["vote"][:]]
        selected["validation"] = selected["validation"].select(np.flatnonzero(has_vote))
    return selected


def encode_splits(
    splits: dict[str, Dataset], tokenizer: PreTrainedTokenizerBase, judge_config: JudgeConfig, training: TrainingConfig
) -> dict[str, Dataset]:
    """
    The examples of each split that has any. Only training battles are swapped.

    Raises:
        UserError: If there are no training examples, or none to evaluate where that is asked for.
    """
    with PartialState().main_process_first():  # the others find the examples in the cache
        examples = {
            name: encode_dataset(
                split,
                tokenizer,
                training.max_length,
                judge_config.swap if name == "train" else "none",
                judge_config.prompt_version,
            )
            for name, split in splits.items()
        }
    examples = {name: split for name, split in examples.items() if len(split)}
    if "train" not in examples:
        raise UserError(f"dataset_name: none of its {len(splits['train'])} training battles has a vote or teachers")
    if training.eval_strategy != "no" and "validation" not in examples:
        raise UserError("eval_strategy: the data set has no validation battles with a vote. Use no")
    return examples


def warn_of_other_base(judge_config: JudgeConfig, model_config: ModelConfig, on_command_line: set[str]) -> None:
    """Say so where a command line names another base model than the YAML, which goes on naming its own on the Hub."""
    named = {"model_name_or_path", "base_model_id"} & on_command_line
    if judge_config.base_model_id and named == {"model_name_or_path"}:
        logger.warning(
            "judge.json calls %s by the YAML's base_model_id, %s. If that is another model, set base_model_id too",
            model_config.model_name_or_path, judge_config.base_model_id,
        )  # fmt: skip


def describe(
    judge_config: JudgeConfig,
    model_config: ModelConfig,
    training: TrainingConfig,
    base: Path,
    tokenizer: PreTrainedTokenizerBase,
) -> JudgeFile:
    """What `judge.json` will say of the judge."""
    return JudgeFile.describe(
        tokenizer,
        base,
        judge_config.base_model_id or hub_id(model_config.model_name_or_path),
        prompt_version=judge_config.prompt_version,
        max_length=training.max_length,
        inference_max_length=judge_config.inference_max_length or training.max_length,
        temperature=judge_config.temperature,
        precision={
            "dtype": model_config.dtype,
            "autocast": training.bf16,
            "attn_implementation": model_config.attn_implementation,
            "quantization": quantization_of(model_config),
        },
        head=judge_config.head,
    )


def lora_config(judge_config: JudgeConfig, model_config: ModelConfig) -> LoraConfig:
    """The adapter that is trained."""
    model_config.use_peft = True  # a judge is an adapter
    config = get_peft_config(model_config)
    config.layers_to_transform = judge_config.lora_layers_to_transform
    if judge_config.head != FROZEN:
        config.modules_to_save = [*(config.modules_to_save or ()), MODULE]
    return config


def check_earlier_adapter(adapter: Path, judge_file: JudgeFile, lora: LoraConfig) -> None:
    """
    Check that a run can start from an earlier judge.

    Args:
        adapter (`Path`): The earlier judge.
        judge_file (`JudgeFile`), lora (`LoraConfig`): What is to be trained.

    Raises:
        UserError: If it has another base, tokenizer, prompt or LoRA.
    """
    problems = judge_file.differences(JudgeFile.load(adapter))
    problems += lora_differences(lora, read_lora_config(adapter))
    raise_problems(problems, f"adapter_name_or_path: {adapter} does not fit this recipe:")


def run_fingerprint(
    judge_config: JudgeConfig,
    model_config: ModelConfig,
    training: TrainingConfig,
    base: Path,
    data: dict[str, str],
    adapter: Path | None,
) -> dict:
    """
    All that another run with the same result has in common; files by their content.

    Args:
        judge_config (`JudgeConfig`), model_config (`ModelConfig`), training (`TrainingConfig`): The settings.
        base (`Path`): The folder of the base model.
        data (`dict[str, str]`): The fingerprint of each split.
        adapter (`Path`, *optional*): The earlier judge that the run starts from.
    """
    return {
        **asdict(judge_config),
        **asdict(model_config),
        **training.to_dict(),
        "processes": training.world_size,
        "weights": weights_fingerprint(base),
        **{f"data, {name}": value for name, value in data.items()},
        "teachers": [file_fingerprint(file) for file in judge_config.teacher_files or ()],
        "earlier adapter": weights_fingerprint(adapter) if adapter else None,
    }


def check_finished_judge(folder: Path, given: dict, base: Path, data: dict[str, str]) -> None:
    """
    Check that a finished judge is what was asked for.

    Args:
        folder (`Path`): The judge.
        given (`dict`): All values that were given.
        base (`Path`): The folder of the base model.
        data (`dict[str, str]`): The fingerprint of each split.

    Raises:
        UserError: If it is another one. Names what differs.
    """
    judge = JudgeFile.load(folder)
    old = {**judge.configuration, "weights": judge.base_model["fingerprint"], "data": judge.dataset}
    new = {**strip_local_paths(given), "weights": weights_fingerprint(base), "data": data}
    paths = ("dataset_name", "model_name_or_path")  # which count by their content
    raise_problems(
        changed_settings(old, new, (*WITHOUT_TRACE, *paths)),
        f"output_dir: {folder} holds a finished judge with other settings or data. Choose another output_dir:",
    )


def load_model(
    model_config: ModelConfig, training: TrainingConfig, base: Path, judge_file: JudgeFile, adapter: Path | None
) -> PreTrainedModel | PeftModel:
    """The base model with the judge's head, and with the earlier judge's adapter if there is one."""
    attention = attention_in_training(model_config, training.use_cpu)
    model = load_base(base, model_config.dtype, attention, judge_file.precision["quantization"])
    install_head(model, judge_file.head, judge_file.token_ids)
    if adapter is None:
        return model
    return attach_adapter(model, adapter, is_trainable=True)


def align_special_tokens(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the model the tokenizer's special tokens, as the Trainer does with a notice that nobody can act on."""
    notices = logging.getLogger(trainer_utils.__name__)
    level = notices.level
    notices.setLevel(logging.ERROR)
    try:
        trainer_utils.align_special_tokens(model, tokenizer)
    finally:
        notices.setLevel(level)


def log_summary(given: dict, examples: dict[str, Dataset], num_processes: int, model: PeftModel) -> None:
    """Log what was asked for, what there is to learn from, and what is trained."""
    for key, value in given.items():
        logger.info("  %s: %s", key, value)
    for name, split in examples.items():
        lengths = split["length"][:]
        logger.info("%s: %d examples, %d tokens, the longest %d", name, len(lengths), sum(lengths), max(lengths))
    trainable, total = model.get_nb_trainable_parameters()
    logger.info("%s of %s parameters are trained, processes: %d", f"{trainable:,}", f"{total:,}", num_processes)


def exit_if_stopped(trainer: JudgeTrainer) -> None:
    """Exit with 143 if SIGTERM or Ctrl-C has ended the training."""
    if trainer.state.global_step < trainer.state.max_steps:
        logger.info("Stopped after a complete step, which is saved. The same command resumes from there.")
        sys.exit(128 + signal.SIGTERM)


def save_judge(
    trainer: JudgeTrainer,
    base: Path,
    judge_file: JudgeFile,
    config: JudgeConfig,
    battles: Dataset,
    fingerprints: dict[str, str],
    given: dict,
    earlier: Path | None,
) -> None:
    """Write what belongs beside the adapter, and last `judge.json`; remove what does not belong there."""
    folder = Path(trainer.args.output_dir)
    lora = trainer.model.peft_config["default"]
    lora.base_model_name_or_path = judge_file.base_model["id"]  # as others know it
    lora.save_pretrained(folder)
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle
    (folder / "README.md").unlink(missing_ok=True)  # a generic card, with the path of this machine's base model
    remember_base(folder, base)
    save_features((battle for battle in battles if battle["vote"] is not None), folder, earlier)
    if earlier is not None:
        before = JudgeFile.load(earlier)
        judge_file.earlier = [*before.earlier, {"dataset": before.dataset, "fold": before.fold}]
    judge_file.dataset, judge_file.fold = fingerprints, config.fold
    judge_file.votes = dataset_info(config.dataset_name)
    for key, value in provenance(given).items():
        setattr(judge_file, key, value)
    judge_file.save(folder)
    logger.info("The judge is in %s", folder)


def write_probes(trainer: JudgeTrainer, tokenizer: PreTrainedTokenizerBase, judge_file: JudgeFile) -> None:
    """Write what the judge says of a few synthetic battles, so that another engine's values can be compared."""
    battles = Dataset.from_list(make_battles(NUM_PROBES, seed="probes"))
    version = judge_file.prompt_version
    examples = encode_dataset(battles, tokenizer, judge_file.max_length, prompt_version=version)
    trainer.args.per_device_eval_batch_size = 1  # which keeps their order
    # Without `predict`, which would report their scores to trackers.
    found = trainer.evaluation_loop(trainer.get_test_dataloader(examples), "Probes")
    logits = torch.tensor(found.predictions, dtype=torch.float64)
    if PartialState().is_main_process:
        prompts = [ids[:-2] for ids in examples["input_ids"]]  # without letter and end token
        save_probes(Path(trainer.args.output_dir), Probes(prompts, logits.softmax(-1).tolist()))
