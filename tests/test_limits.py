"""Every key of trl and transformers is in one of three classes: ours, passed through, or refused with what to use."""

import dataclasses
import runpy

import pytest
from helpers.models import make_trainer
from trl import ModelConfig, SFTConfig

from lmsys_trl.cli import recipe_scripts
from lmsys_trl.config import read_config
from lmsys_trl.keys import keys_of
from lmsys_trl.limits import RANGES, SECRETS, WITHOUT_EFFECT, refuse_value
from lmsys_trl.options import MODEL_CONFIG, TRAINING_CONFIG, JudgeConfig

CONFIGS = (JudgeConfig, MODEL_CONFIG, TRAINING_CONFIG)
# With a default, a meaning or a check of this project. The tests of each: training, models, preflight, publish.
OURS = set(
    "model_name_or_path model_revision dtype attn_implementation lora_r lora_alpha lora_dropout lora_target_modules "
    "load_in_4bit load_in_8bit bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage output_dir max_length "
    "train_sampling_strategy use_cpu gradient_checkpointing logging_nan_inf_filter save_total_limit hub_private_repo "
    "hub_model_id hub_always_push push_to_hub pad_token resume_from_checkpoint eval_strategy report_to seed bf16 "
    "metric_for_best_model greater_is_better gradient_accumulation_steps per_device_train_batch_size".split()
)
# With a value that is not the default; None: this machine has not what it needs, so it is only read.
PASSED = {
    "num_train_epochs": 2.0, "max_steps": 2, "learning_rate": 1e-4, "lr_scheduler_type": "cosine",
    "lr_scheduler_kwargs": {"num_cycles": 0.5}, "warmup_steps": 0.5, "optim": "adamw_torch",
    "optim_args": "weight_decay=0", "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6,
    "optim_target_modules": "q_proj", "average_tokens_across_devices": False, "max_grad_norm": 0.5,
    "bf16_full_eval": True, "activation_checkpointing": True, "activation_checkpointing_kwargs": {},
    "gradient_checkpointing_kwargs": {}, "neftune_noise_alpha": 5.0, "torch_empty_cache_steps": 1,
    "logging_strategy": "epoch", "logging_steps": 1.0, "logging_first_step": True, "log_on_each_node": False,
    "include_num_input_tokens_seen": "all", "log_level": "error", "log_level_replica": "error",
    "disable_tqdm": True, "run_name": "a", "project": "a", "trackio_space_id": "a/b", "trackio_bucket_id": "a",
    "trackio_static_space_id": "a/b", "eval_steps": 1.0, "eval_delay": 1.0, "per_device_eval_batch_size": 2,
    "eval_on_start": True, "eval_use_gather_object": True, "eval_accumulation_steps": 1, "save_strategy": "no",
    "save_steps": 1.0, "restore_callback_states_from_checkpoint": True, "full_determinism": False, "data_seed": 1,
    "dataloader_drop_last": True, "dataloader_num_workers": 1, "dataloader_pin_memory": False,
    "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 1, "dataloader_in_order": False,
    "ddp_find_unused_parameters": True, "ddp_bucket_cap_mb": 1, "ddp_broadcast_buffers": True,
    "ddp_static_graph": True, "ddp_timeout": 60, "debug": "underflow_overflow",
    "skip_memory_metrics": False, "do_train": True, "activation_offloading": False, "use_rslora": True,
    "use_dora": True, "lora_target_parameters": ["a"], "lora_modules_to_save": ["a"], "load_best_model_at_end": False,
}  # fmt: skip
NEEDS_MORE = {
    "ddp_backend": "gloo",
    "fp16": True, "fp16_full_eval": True, "tf32": True, "torch_compile": True, "torch_compile_backend": "inductor",
    "torch_compile_mode": "default",
}  # fmt: skip
TOGETHER = {  # what a value needs besides
    "lr_scheduler_kwargs": {"lr_scheduler_type": "cosine"},
    "dataloader_persistent_workers": {"dataloader_num_workers": 1},
    "dataloader_prefetch_factor": {"dataloader_num_workers": 1},
    "activation_checkpointing_kwargs": {"activation_checkpointing": True},
    "gradient_checkpointing_kwargs": {"gradient_checkpointing": True},
}


def read(**values) -> tuple:
    argv = ["--dataset_name", "d", "--output_dir", "runs/x", "--model_name_or_path", "m"]
    for key, value in values.items():
        argv += [f"--{key}", *([str(v) for v in value] if isinstance(value, list) else [str(value)])]
    parsed = read_config(*CONFIGS, argv=argv, load=False)
    return parsed.given, parsed.problems


def test_each_key_is_in_one_class():
    inherited = {field.name for cls in (SFTConfig, ModelConfig) for field in dataclasses.fields(cls)}
    classes = [OURS, set(PASSED) | set(NEEDS_MORE), set(WITHOUT_EFFECT) | (set(SECRETS) & inherited)]
    assert set().union(*classes) == inherited
    assert sum(map(len, classes)) == len(inherited)


@pytest.mark.parametrize("name", sorted(WITHOUT_EFFECT))
def test_what_would_have_no_effect_is_refused(name):
    key = keys_of(CONFIGS)[name]
    accepted, reason = WITHOUT_EFFECT[name]
    other = {bool: not accepted[0], int: 7, float: 0.5}.get(type(accepted[0]), "other")
    if key.choices:
        other = next(choice for choice in key.choices if choice not in accepted)
    assert refuse_value(name, other) == f"has no effect here: {reason}"
    assert (
        name in ("use_peft", "remove_unused_columns") or key.default is None or refuse_value(name, key.default) is None
    )
    if isinstance(other, str) and not key.choices:
        other = {"dict": "{}"}.get(str(key.type), other)
    _, problems = read(**{name: other})
    assert len(problems) == 1 and problems[0].startswith(f"{name}: ")


@pytest.mark.parametrize("name", [*PASSED, *NEEDS_MORE])
def test_other_keys_are_accepted(name):
    value = {**PASSED, **NEEDS_MORE}[name]
    if not isinstance(value, dict):
        given, problems = read(**{name: value})
        assert problems == [] and given[name] == value


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(PASSED) & {field.name for field in dataclasses.fields(SFTConfig)}))
def test_other_keys_reach_the_trainer_and_it_trains(name, base, tmp_path):
    value = PASSED[name]
    options = {"max_steps": 1, "learning_rate": 1e-3, "per_device_train_batch_size": 4}
    trainer = make_trainer(base, tmp_path, **options | TOGETHER.get(name, {}) | {name: value})
    found = getattr(trainer.args, name)
    assert found == value or getattr(found[0] if name == "debug" else found, "value", None) == value
    trainer.train()
    assert trainer.state.global_step >= 1


def test_each_number_has_a_range():
    unbounded = {"local_rank", "pad_to_multiple_of", "dataset_num_proc", "router_aux_loss_coef",
                 "label_smoothing_factor", "dtype", "logging_steps"}  # fmt: skip
    for verb, script in recipe_scripts().items():
        keys = keys_of(runpy.run_path(str(script), run_name="recipe")["CONFIGS"])
        numbers = {name for name, key in keys.items() if "int" in str(key.type) or "float" in str(key.type)}
        assert numbers - unbounded <= RANGES.keys(), verb


@pytest.mark.parametrize(
    "name, value, problem",
    [
        ("learning_rate", "-1", "input should be a number above 0"),
        ("learning_rate", "nan", "input should be a finite number"),
        ("learning_rate", "inf", "input should be a finite number"),
        ("num_train_epochs", "-2", "a number above 0"),
        ("max_steps", "0", "1 or more, or -1 for whole epochs"),
        ("temperature", "0", "a number above 0"),
        ("label_smoothing", "3", "0 or more and below 1"),
        ("kl_weight", "-0.5", "0 or more"),
        ("per_device_train_batch_size", "0", "1 or more"),
        ("lora_r", "0", "1 or more"),
        ("lora_dropout", "1.5", "0 or more and below 1"),
        ("save_steps", "-3", "a number above 0"),
        ("lora_layers_to_transform", ["1", "-2"], "0 or more"),
    ],
)
def test_values_out_of_range(name, value, problem):
    _, problems = read(**{name: value})
    assert len(problems) == 1 and problems[0].startswith(f"{name}: ") and problem in problems[0]


def test_what_the_key_ranges_say_of_booleans_and_texts():
    assert refuse_value("seed", True) is None and refuse_value("output_dir", "x") is None
    assert refuse_value("weights", [0.5, -1.0]) == "input should be 0 or more"
