"""Tiny base models, tokenizers, judges and trainers."""

from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lmsys_trl import Judge
from lmsys_trl.battle import WINNERS
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.dataset import encode_dataset
from lmsys_trl.encoding.examples import letter_ids
from lmsys_trl.encoding.template import PROMPT_VERSION
from lmsys_trl.encoding.tokenizer import load_tokenizer
from lmsys_trl.models.adapter_weights import attach_adapter
from lmsys_trl.models.base import load_base
from lmsys_trl.models.head import install_head
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.training.config import TrainingConfig
from lmsys_trl.training.trainer import JudgeTrainer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(pad_token: str = "<|endoftext|>") -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a token for every byte and ChatML's control tokens."""
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*control, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token=pad_token
    )
    tokenizer.add_special_tokens({"additional_special_tokens": control})
    tokenizer.chat_template = CHATML
    return tokenizer


def build_base(folder: Path, seed: int = 0, **changes) -> Path:
    """A base model folder: a Llama with two small layers and random weights, and the byte-level tokenizer."""
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    LlamaForCausalLM(LlamaConfig(**config | changes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_judge(base, folder, quantization=None, seed=1, target_modules=("q_proj", "v_proj")):
    """An adapter with random weights, large enough that predictions differ between battles."""
    tokenizer = load_tokenizer(str(base))
    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules=[*target_modules], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load_base(base, "float32", "eager"), config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    precision = {"dtype": "float32", "autocast": False, "attn_implementation": "eager", "quantization": quantization}
    JudgeFile.describe(tokenizer, base, "owner/tiny", PROMPT_VERSION, 700, 650, 1.03, precision).save(folder)
    return folder


def all_logits(judge: Judge, token_ids: list[int]) -> torch.Tensor:
    """The logits of the whole vocabulary after an example, from the backbone of a Llama and its complete head."""
    with torch.no_grad():
        hidden = judge.model.get_base_model().model(input_ids=torch.tensor([token_ids])).last_hidden_state[0, -1]
        return judge.model.get_output_embeddings().complete[0](hidden)


NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}


def make_trainer(
    base, output_dir, num_battles=8, swap="none", quantization=None, earlier=None, head="lm_head", **options
):
    """A trainer of random battles, which are its validation data too. It may start from an earlier adapter."""
    model = load_base(base, "float32", "eager", quantization)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    if head != "lm_head":
        letters = letter_ids(load_tokenizer(str(base)))
        install_head(model, head, [letters[winner] for winner in WINNERS])
        lora.modules_to_save = ["lm_head"]
    if earlier is not None:
        model = attach_adapter(model, earlier, is_trainable=True)
    tokenizer = load_tokenizer(str(base))
    examples = encode_dataset(Dataset.from_list(make_battles(num_battles)), tokenizer, 600, swap)
    defaults = {
        "max_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "optim": "sgd",
        "learning_rate": 1.0,
        "max_grad_norm": 0,
        "max_tokens_per_batch": 10**6,
    }
    return JudgeTrainer(
        model=model,
        args=TrainingConfig(output_dir=str(output_dir), **defaults | options),
        train_dataset=examples,
        eval_dataset=examples,
        processing_class=tokenizer,
        peft_config=None if earlier else lora,
    )
