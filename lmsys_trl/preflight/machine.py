"""What a recipe needs that this machine lacks: packages, a GPU."""

from importlib.util import find_spec

import torch
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from trl import ModelConfig

from ..options import UNPADDED_ATTENTION
from ..training.config import TrainingConfig
from .launch import UNDIVIDED, UNEQUAL_BATCHES

FLASH_PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}


def check_machine(model: ModelConfig, training: TrainingConfig) -> list[str]:
    """Problems of a recipe on this machine; on another one it may have none."""
    problems = []
    for name in [training.report_to] if isinstance(training.report_to, str) else training.report_to:
        if name in ("none", "all"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(INTEGRATION_TO_CALLBACK)
            problems.append(f"report_to: transformers knows no {name}. Use one of {known}")
            continue
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError):
            problems.append(f"report_to: the package of {name} is missing. Install it: pip install {name}")
    if training.max_tokens_per_batch and training.distributed_state.distributed_type in UNDIVIDED:
        problems.append(UNEQUAL_BATCHES)
    attention = model.attn_implementation or ""
    if attention.startswith(UNPADDED_ATTENTION):
        package = FLASH_PACKAGES.get(attention)
        if not torch.accelerator.is_available() or training.use_cpu:
            problems.append(f"attn_implementation: {attention} needs a GPU. Use eager or sdpa on a CPU")
        elif package and find_spec(package) is None:
            problems.append(f"attn_implementation: {attention} needs the package {package}. Install it, or use eager")
    return problems
