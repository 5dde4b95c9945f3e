"""Options that several recipes share. Nothing heavy is imported here, so that `--help` is fast."""

from dataclasses import dataclass, field
from typing import Literal

# Classes whose keys are known without importing them, see keys.py.
MODEL_CONFIG = "trl.ModelConfig"
TRAINING_CONFIG = "lmsys_trl.training.config.TrainingConfig"

# Of transformers. Others, such as the kernels of a repository on the Hub, would run code of others.
Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"]
# How the names begin of those that keep packed examples apart. They need a GPU: flex has no backward pass on a CPU.
UNPADDED_ATTENTION = ("flash", "flex")

Head = Literal["lm_head", "letters", "new"]  # of models/head.py

PromptVersion = Literal[
    "lmsys-trl-v1", "lmsys-38th-v1", "lmsys-38th-code", "lmsys-trl-short-v1"
]  # of encoding/template.py


@dataclass
class JudgeConfig:
    """What the judge learns from, and how it predicts afterwards."""

    dataset_name: str = field(metadata={"help": "A data set made by prepare: its folder, or its name on the Hub."})
    prompt_version: PromptVersion = field(
        default="lmsys-trl-v1",
        metadata={
            "help": "The prompt: of the reference solution, with escaped headings or without; that of its code; or "
            "the turns alone, which is shorter."
        },
    )
    head: Head = field(
        default="lm_head",
        metadata={
            "help": "What the letters' logits come from: the base model's head; or three rows that are trained with "
            "the adapter, from those of the letters (letters) or from zeros (new). These need loss: letters."
        },
    )
    swap: Literal["none", "all", "paired"] = field(
        default="none",
        metadata={"help": "Train on both orders of the answers: anywhere (all), or in the same step (paired)."},
    )
    fold: int | None = field(
        default=None, metadata={"help": "Train on all folds of the data set except this one, for out_of_fold."}
    )
    teacher_files: list[str] | None = field(
        default=None, metadata={"help": "Predictions of other judges to learn from, joined by id."}
    )
    allow_unmatched: bool = field(
        default=False, metadata={"help": "Continue where battles and teacher_files do not have the same ids."}
    )
    adapter_name_or_path: str | None = field(
        default=None, metadata={"help": "An earlier judge of the same base model to start from."}
    )
    pad_token: str | None = field(
        default=None, metadata={"help": "The token to pad with, if the tokenizer's own is its end token."}
    )
    base_model_id: str | None = field(
        default=None, metadata={"help": "The base model's name on the Hub, if model_name_or_path is a folder."}
    )
    lora_layers_to_transform: list[int] | None = field(
        default=None, metadata={"help": "Adapt these layers only; those below the first need no backward pass."}
    )
    inference_max_length: int | None = field(
        default=None, metadata={"help": "Maximum tokens in an example at prediction (default: max_length)."}
    )
    temperature: float = field(default=1.03, metadata={"help": "What the letters' logits are divided by."})


@dataclass
class BaseModelConfig:
    """Which base model."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "The base model (default: the folder in models/ with the same weights, else the Hub)."},
    )


@dataclass
class InferenceConfig:
    """How the base model is loaded and run, where it differs from training."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = field(
        default=None, metadata={"help": "Data type of the weights and of the computation (default: as in training)."}
    )
    load_in_4bit: bool | None = field(default=None, metadata={"help": "Load in nf4; false: weights as they are."})
    load_in_8bit: bool | None = field(default=None, metadata={"help": "Load in 8 bits; false: weights as they are."})
    attn_implementation: Attention | None = field(
        default=None,
        metadata={
            "help": "How attention is computed (default: as in training, or instead of eager the model's own choice)."
        },
    )
    max_tokens_per_batch: int | None = field(
        default=None, metadata={"help": "Tokens in a forward pass, with padding (default: 512 on a CPU, else 4096)."}
    )


@dataclass
class EngineConfig:
    """What runs the base model in prediction."""

    engine: Literal["transformers", "vllm", "server"] = field(
        default="transformers",
        metadata={"help": "transformers, here; vllm, in an environment of its own; or a server with its interface."},
    )
    engine_python: str | None = field(
        default=None, metadata={"help": "With vllm: the Python of an environment in which vLLM is installed."}
    )
    engine_options: list[str] = field(
        default_factory=list,
        metadata={"help": "With vllm: arguments of vllm.LLM, such as tensor_parallel_size=2."},
    )
    merged_model: str | None = field(
        default=None,
        metadata={"help": "The judge as merge exports it, instead of base and adapter; for judges with a head."},
    )
    base_url: str | None = field(
        default=None, metadata={"help": "With server: its address, such as http://localhost:8000/v1."}
    )
    served_model: str | None = field(
        default=None, metadata={"help": "With server: its name for the adapter, or for the merged model."}
    )
    engine_tolerance: float = field(
        default=0.05,
        metadata={"help": "How far a probability may be from training's, on the probes that a judge comes with."},
    )
