"""A base model's configuration and an adapter's -> the sizes that memory and time depend on, from the meta device."""

import re
from dataclasses import dataclass, replace

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedConfig
from trl import ModelConfig

from ..battle import WINNERS
from ..errors import UserError
from ..models.base import build_without_weights
from ..models.head import FROZEN, install_head
from ..options import JudgeConfig
from ..training.run import lora_config

LAYER = re.compile(r"\.layers\.(\d+)\.")
SIBLINGS = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}  # which read the same input


@dataclass(frozen=True)
class Matrix:
    """A linear layer: `rank` is that of its adapter, 0 without one; `reads` names who reads the same input."""

    inputs: int
    outputs: int
    rank: int
    reads: str


@dataclass(frozen=True)
class Layer:
    """A decoder layer: its matrices, and the widths of its norms together."""

    matrices: tuple[Matrix, ...]
    norm_width: int

    @property
    def num_weights(self) -> int:
        return sum(matrix.inputs * matrix.outputs for matrix in self.matrices)


@dataclass(frozen=True)
class Shape:
    """
    What memory and time depend on.

    Args:
        layers (`tuple[Layer, ...]`): From the embeddings up.
        hidden, intermediate, heads, key_value_heads, head_dim, vocabulary (`int`): As in `config.json`.
        window (`int`, *optional*): How far back some layers look.
        softcap (`bool`): Whether attention caps its scores.
        num_frozen (`int`): Parameters that are not trained and not in `layers`' matrices: embeddings, norms, the head.
        num_trained (`int`): Of adapter and head.
        head_rows (`int`): The logits of a position.
        attention (`str`): How attention is computed, as transformers names it.
    """

    layers: tuple[Layer, ...]
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    window: int | None
    softcap: bool
    num_frozen: int
    num_trained: int
    head_rows: int
    attention: str

    @property
    def num_matrix_weights(self) -> int:
        return sum(layer.num_weights for layer in self.layers)

    @property
    def first_trained(self) -> int:
        """The lowest layer with an adapter: those below need no backward pass."""
        return next(
            (i for i, layer in enumerate(self.layers) if any(m.rank for m in layer.matrices)), len(self.layers)
        )


def shape_of_recipe(config: PreTrainedConfig, judge: JudgeConfig, model: ModelConfig) -> Shape:
    """The sizes of the judge that a recipe trains."""
    return measure_shape(config, lora_config(judge, replace(model)), judge.head, model.attn_implementation)


def measure_shape(
    config: PreTrainedConfig, lora: LoraConfig, head: str = FROZEN, attention: str | None = None
) -> Shape:
    """
    Build a judge on the meta device and read its sizes.

    Args:
        config (`PreTrainedConfig`): Of the base model.
        lora (`LoraConfig`): The adapter.
        head (`str`): As for [`install_head`].
        attention (`str`, *optional*): Default: what the model chooses itself.

    Raises:
        UserError: If the model is not a dense decoder, for which the formulas are not made.
    """
    text = config.get_text_config()
    built = build_without_weights(config, None if attention is None or "flash" in attention else attention)
    install_head(built, head, list(range(len(WINNERS))))
    rows = built.get_output_embeddings().weight.shape[0]
    adapted = get_peft_model(built, lora, low_cpu_mem_usage=True)
    found: dict[int, dict] = {}
    inside = 0
    for name, module in adapted.named_modules():
        place = LAYER.search(name)
        if not place:
            continue
        layer = found.setdefault(int(place[1]), {"matrices": [], "norm": 0})
        last = name.rpartition(".")[2]
        if isinstance(module, LoraLayer | torch.nn.Linear) and "lora_" not in name and last != "base_layer":
            base = module.get_base_layer() if isinstance(module, LoraLayer) else module
            rank = max(module.r.values()) if isinstance(module, LoraLayer) else 0
            layer["matrices"].append(Matrix(base.in_features, base.out_features, rank, SIBLINGS.get(last, last)))
            inside += base.weight.numel()
        elif "norm" in type(module).__name__.lower():
            width = next(module.parameters()).shape[-1]
            repeats = {"q_norm": text.num_attention_heads, "k_norm": text.num_key_value_heads}  # of each head
            layer["norm"] += width * (repeats.get(last, 1) if width < text.hidden_size else 1)
    if not found or any("expert" in name for name, _ in adapted.named_modules()):
        raise UserError(
            f"model_name_or_path: {config.model_type} is not a dense decoder, and plan has no formulas for it"
        )
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in adapted.parameters())
    return Shape(
        layers=tuple(Layer(tuple(found[i]["matrices"]), found[i]["norm"]) for i in sorted(found)),
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=text.num_attention_heads,
        key_value_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        window=getattr(text, "sliding_window", None),
        softcap=bool(getattr(text, "attn_logit_softcapping", None)),
        num_frozen=total - trained - inside,
        num_trained=trained,
        head_rows=rows,
        attention=attention or built.config._attn_implementation,
    )
