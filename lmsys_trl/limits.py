"""Which keys and values are refused, and what to use instead: checked once, for every recipe that has the key."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

SECRETS = {"hub_token": "HF_TOKEN", "push_to_hub_token": "HF_TOKEN"}
# Earlier names of keys, refused with the new one where a recipe has it.
RENAMED = {
    "adapters": "adapter",
    "battles_per_part": "shard_size",
    "private": "hub_private_repo",
    "rows": "examples",
    "validation_share": "validation_fraction",
}

ENCODED = "examples are encoded by this project"
UNPADDED = "flash and flex attention have no padding anyway, as has a batch of one example"
LAUNCHED = "use --accelerate_config fsdp, zero2, zero3 or a file of your own"
EVALUATED = "evaluation computes the metrics of the letters, over all validation battles"
# Keys of trl and transformers that would have no effect, or one that breaks a run: the values that are accepted, since
# they change nothing, and why others are not.
WITHOUT_EFFECT: dict[str, tuple[tuple, str]] = {
    "use_peft": ((True,), "a judge is a LoRA adapter. Remove the key"),
    "lora_task_type": (("CAUSAL_LM",), "a judge answers with a token. Remove the key"),
    "model_init_kwargs": ((None,), "set dtype, attn_implementation and load_in_4bit"),
    "trust_remote_code": ((False,), "code of a repository is never run. Use a model that transformers knows"),
    "chat_template_path": ((None,), "change the tokenizer of the base model, which a judge is loaded with"),
    "eos_token": ((None,), "the end token is the tokenizer's"),
    "dataset_text_field": (("text",), ENCODED),
    "dataset_kwargs": ((None,), ENCODED),
    "dataset_num_proc": ((None,), ENCODED),
    "shuffle_dataset": ((False,), "examples are shuffled by seed"),
    "truncation_mode": (("keep_start",), "turns are left out from the first one on, see max_length"),
    "packing": ((False,), f"battles would see each other; {UNPADDED}"),
    "packing_strategy": (("bfd",), f"there is no packing; {UNPADDED}"),
    "eval_packing": ((None, False), f"there is no packing; {UNPADDED}"),
    "padding_free": ((False,), UNPADDED),
    "pad_to_multiple_of": (("auto",), UNPADDED),
    "completion_only_loss": ((None, True), "only the answer is scored"),
    "assistant_only_loss": ((False,), "only the answer is scored. Remove the key"),
    "loss_type": (("nll",), "use loss: answer or loss: letters"),
    "label_smoothing_factor": ((0,), "use label_smoothing"),
    "router_aux_loss_coef": ((None,), "there is no auxiliary loss"),
    "use_liger_kernel": ((False,), "logits are computed at the labelled positions only, without it"),
    "liger_kernel_config": ((None,), "logits are computed at the labelled positions only, without it"),
    "use_cache": ((False,), "training needs no cache"),
    "auto_find_batch_size": ((False,), "the battles in a step would change. Set per_device_train_batch_size"),
    "remove_unused_columns": ((False,), ENCODED),
    "label_names": ((None,), ENCODED),
    "length_column_name": (("length",), ENCODED),
    "prediction_loss_only": ((False,), EVALUATED),
    "batch_eval_metrics": ((False,), EVALUATED),
    "include_for_metrics": (([], None), EVALUATED),
    "eval_do_concat_batches": ((True,), EVALUATED),
    "do_eval": ((False,), "use eval_strategy: epoch, or steps with eval_steps"),
    "do_predict": ((False,), "use lmsys-trl predict afterwards"),
    "save_only_model": ((False,), "a run could not be resumed"),
    "save_on_each_node": ((False,), "the first process writes. Use a file system that all machines share"),
    "enable_jit_checkpoint": ((False,), "SIGTERM ends the step and saves, without it"),
    "ignore_data_skip": ((False,), "a resumed run would differ from one that was not interrupted"),
    "hub_strategy": (("every_save", "end"), "use every_save or end"),
    "hub_revision": ((None,), "pushes go to the main branch"),
    "accelerator_config": ((None,), "use --accelerate_config FILE"),
    "parallelism_config": ((None,), LAUNCHED),
    "fsdp": ((None, "", False), LAUNCHED),
    "fsdp_config": ((None,), LAUNCHED),
    "deepspeed": ((None,), LAUNCHED),
    "local_rank": ((-1,), "accelerate launch sets it"),
    "dataloader_multiprocessing_context": ((None, "fork"), "use fork"),
}  # fmt: skip


class Range(NamedTuple):
    """The values of a number that make sense."""

    text: str
    holds: Callable[[float], bool]


POSITIVE = Range("a number above 0", lambda x: x > 0)
NON_NEGATIVE = Range("0 or more", lambda x: x >= 0)
AT_LEAST_ONE = Range("1 or more", lambda x: x >= 1)
AT_LEAST_TWO = Range("2 or more", lambda x: x >= 2)
BELOW_ONE = Range("0 or more and below 1", lambda x: 0 <= x < 1)
# By the keys' names, in whichever recipe; of lists each entry.
RANGES = {
    **dict.fromkeys(
        ("learning_rate", "num_train_epochs", "lora_alpha", "temperature", "teacher_temperature", "adam_epsilon",
         "max_size_gb", "save_steps", "logging_steps", "eval_steps", "neftune_noise_alpha"), POSITIVE,
    ),
    **dict.fromkeys(
        ("weight_decay", "warmup_steps", "max_grad_norm", "hard_weight", "kl_weight", "cosine_weight",
         "consistency_weight", "engine_tolerance", "eval_delay", "dataloader_num_workers", "fold",
         "lora_layers_to_transform", "weights", "weights_longest", "seed", "data_seed"), NON_NEGATIVE,
    ),
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
         "battles_per_step", "lora_r", "max_length", "inference_max_length", "max_tokens_per_batch", "shard_size",
         "num_battles", "max_battles", "num_train", "num_test", "validation_size", "eval_accumulation_steps",
         "dataloader_prefetch_factor", "ddp_bucket_cap_mb", "ddp_timeout", "torch_empty_cache_steps",
         "num_predicted", "mean_length", "loraplus_lr_ratio"), AT_LEAST_ONE,
    ),
    **dict.fromkeys(("num_folds", "save_total_limit"), AT_LEAST_TWO),
    **dict.fromkeys(
        ("label_smoothing", "lora_dropout", "adam_beta1", "adam_beta2", "near_duplicates", "validation_fraction",
         "longest", "headroom"), BELOW_ONE,
    ),
    "min_confidence": Range("from 0 to 1", lambda x: 0 <= x <= 1),
    "utilisation": Range("above 0 and 1 at most", lambda x: 0 < x <= 1),
    "max_nesting": Range("1 to 500", lambda x: 1 <= x <= 500),
    "port": Range("1 to 65535", lambda x: 1 <= x <= 65535),
    "max_steps": Range("1 or more, or -1 for whole epochs", lambda x: x >= 1 or x == -1),
}  # fmt: skip


def refuse_value(name: str, value: Any) -> str | None:
    """What is wrong with a value that has the right type, or None."""
    if name in WITHOUT_EFFECT:
        accepted, reason = WITHOUT_EFFECT[name]
        return None if value in accepted else f"has no effect here: {reason}"
    if isinstance(value, list):
        problems = (refuse_value(name, entry) for entry in value)
        return next((problem for problem in problems if problem), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value):
        return "input should be a finite number"
    allowed = RANGES.get(name)
    return None if allowed is None or allowed.holds(value) else f"input should be {allowed.text}"


def is_hidden(name: str) -> bool:
    """Whether `--help` does not list a key, since no value but the default is accepted."""
    return name in SECRETS or (name in WITHOUT_EFFECT and name != "hub_strategy")
