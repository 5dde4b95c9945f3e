"""The blocks of README and docs, run as a reader would, on tiny stand-ins of the base models and a loopback Hub."""

import json
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from helpers.hub_server import Blob, LoopbackHub, Repo
from helpers.markdown_blocks import REASONS, blocks
from helpers.recipe_server import RecipeServer
from helpers.run import REPOSITORY
from helpers.votes import write_votes
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from lmsys_trl.battle import winner_of
from lmsys_trl.data.columns import TURN_COLUMNS
from lmsys_trl.data.synthetic import make_battles

SLOW = ("training", "teachers")  # with several trainings each
PAGES = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else [])
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
]
SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
CHAT = (
    "{{% for m in messages %}}{{{{ '{start}' + m['role'] + '\n' + m['content'] + '{end}\n' }}}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ '{start}assistant\n' }}}}{{% endif %}}"
)
# The real names and architectures, small; (configuration, start of a turn, end token, pad token).
BASES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (LlamaConfig, 30, "<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    "Qwen/Qwen2.5-0.5B-Instruct": (Qwen2Config, 2, "<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    "google/gemma-3-270m-it": (Gemma3TextConfig, 2, "<start_of_turn>", "<eos>", "<pad>"),
    "meta-llama/Llama-3.2-1B-Instruct": (LlamaConfig, 2, "<|header|>", "<|eot_id|>", "<|finetune_right_pad_id|>"),
}
SET_UP = """
lmsys-trl prepare --sources votes.csv --validation_fraction 0.1 --num_folds 3 --output_dir data/battles
for judge in judge judge-b; do
    lmsys-trl sft smollm2.yaml --max_steps 2 --seed ${#judge} --output_dir runs/$judge
done
lmsys-trl predict --adapter runs/judge --test_file labelled.csv --tta swap --output_file predictions.parquet
"""


def build_base(folder: Path, texts: list[str], config_class, layers: int, start: str, end: str, pad: str) -> None:
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
    config = config_class(vocab_size=len(tokenizer), num_hidden_layers=layers, max_position_embeddings=4096, **SHAPE)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def publish(hub: LoopbackHub, name: str, folder: Path) -> None:
    """Put a folder's files on the Hub."""
    paths = [path for path in folder.iterdir() if path.is_file()]
    blobs = {path.name: Blob(path.read_bytes(), lfs=path.suffix == ".safetensors") for path in paths}
    hub.objects |= {blob.sha256: blob for blob in blobs.values() if blob.lfs}
    hub.repos[name] = Repo(name, private=False)
    hub.repos[name].add(blobs, "First")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A server and the folder in which each page begins: votes, a base model, a data set, two judges, predictions."""
    folder = tmp_path_factory.mktemp("docs")
    start = folder / "start"
    start.mkdir()
    battles = make_battles(112, seed="docs")
    write_votes(start / "votes.csv", battles[:80])
    write_votes(start / "labelled.csv", battles[80:104])
    own = [
        {"question": battle["prompt"][0], "answer_1": battle["response_a"][0], "answer_2": battle["response_b"][0],
         "preferred": {"model_a": "left", "model_b": "right", "tie": "same"}[winner_of(battle["vote"])],
         "annotator": f"annotator {number % 3}", "timestamp": 1700000000 + number}
        for number, battle in enumerate(battles[:80])
    ]  # fmt: skip
    pd.DataFrame(own).to_csv(start / "own.csv", index=False)
    write_votes(start / "test.csv", battles[104:])
    pd.read_csv(start / "test.csv")[["id", *TURN_COLUMNS]].to_csv(start / "test.csv", index=False)
    texts = [text for battle in battles for column in TURN_COLUMNS for text in battle[column]]
    with LoopbackHub() as hub:
        for name, facts in BASES.items():
            base = folder / "bases" / name
            build_base(base, texts, *facts)
            publish(hub, name, base)
        (start / "models").mkdir()
        (start / "models" / "SmolLM2-135M-Instruct").symlink_to(folder / "bases/HuggingFaceTB/SmolLM2-135M-Instruct")
        for name in ("recipes", "accelerate_configs", "lmsys_trl"):
            (start / name).symlink_to(REPOSITORY / name)
        with RecipeServer(folder, **hub.environment(folder / "home"), WANDB_MODE="offline") as server:
            status, output = server.run(SET_UP, start)
            assert status == 0, output
            publish(hub, "owner/judge", start / "runs" / "judge")
            yield server, start


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, workplace, tmp_path):
    server, start = workplace
    folder = tmp_path / "page"
    shutil.copytree(start, folder, symlinks=True)
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
