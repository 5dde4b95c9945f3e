"""Pages of docs/, run as a reader would: their blocks, on tiny stand-ins of the base models and a loopback Hub."""

import json
import shlex
from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from .hub_server import Blob, LoopbackHub, Repo
from .markdown_blocks import REASONS, blocks
from .recipe_server import RecipeServer
from .run import REPOSITORY

SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
CHAT = (
    "{{% for m in messages %}}{{{{ '{start}' + m['role'] + '\n' + m['content'] + '{end}\n' }}}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ '{start}assistant\n' }}}}{{% endif %}}"
)


def build_base(
    folder: Path, texts: list[str], config_class, layers: int, start: str, end: str, pad: str, **changes
) -> None:
    """A base model of a few thousand random weights, with a tokenizer trained on the battles."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(dict.fromkeys([start, end, pad]))
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=1000, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=start, eos_token=end, pad_token=pad)
    tokenizer.chat_template = CHAT.format(start=start, end=end)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    settings = {**SHAPE, "max_position_embeddings": 4096, **changes}
    config = config_class(vocab_size=len(tokenizer), num_hidden_layers=layers, **settings)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def publish(hub: LoopbackHub, name: str, folder: Path) -> None:
    """Put a folder's files on the Hub."""
    paths = [path for path in folder.iterdir() if path.is_file()]
    blobs = {path.name: Blob(path.read_bytes(), lfs=path.suffix == ".safetensors") for path in paths}
    hub.objects |= {blob.sha256: blob for blob in blobs.values() if blob.lfs}
    hub.repos[name] = Repo(name, private=False)
    hub.repos[name].add(blobs, "First")


def link_recipes(folder: Path) -> None:
    """Make a folder look like a checkout."""
    for name in ("recipes", "accelerate_configs", "lmsys_trl"):
        (folder / name).symlink_to(REPOSITORY / name)


def run_page(page: Path, server: RecipeServer, folder: Path) -> None:
    """Run the blocks of a page in a folder, in order. YAML blocks that name a file are written there."""
    for block in blocks(page):
        place = f"{page.name}:{block.line}"
        if block.mark:
            assert block.mark in REASONS, f"{place}: not one of the reasons {REASONS}"
        elif block.language in ("bash", "python"):
            script = block.text if block.language == "bash" else f"python -c {shlex.quote(block.text)}"
            status, output = server.run(script, folder)
            assert status == 0, f"{place}:\n{block.text}\nprinted:\n{output}"
        elif block.language == "yaml":
            yaml.safe_load(block.text)
            if block.file_name:
                (folder / block.file_name).write_text(block.text, encoding="utf-8")
        elif block.language == "json":
            json.loads(block.text)
        else:
            assert block.language in ("text", "console", "markdown"), f"{place}: a fence without its language"
