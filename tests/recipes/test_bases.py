"""The recipes for base models of today: small models of their architectures, with the chat templates that trl has."""

import json
from pathlib import Path

import pandas as pd
import pytest
import trl
import yaml
from helpers.markdown_blocks import blocks
from helpers.models import build_tokenizer
from helpers.run import REPOSITORY, recipe
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config

CONFIGS = REPOSITORY / "lmsys_trl" / "preflight" / "model_configs"
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
SMALL = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"],
    "max_window_layers": 2,
}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
QUICK = ["--dataset_name", "data", "--max_steps", "1", "--battles_per_step", "4", "--pad_token", "<|endoftext|>"]


@pytest.fixture(scope="module")
def project(tmp_path_factory, votes):
    folder = tmp_path_factory.mktemp("bases")
    recipe("prepare.py", "--sources", votes, "--validation_fraction", "0.2", "--output_dir", "data", cwd=folder)
    return folder


def build_small(config, template: str, folder: Path) -> None:
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    tokenizer.save_pretrained(folder)


def train_and_predict(project, name: str, *options) -> dict:
    """Train by a recipe on the model of its name, and predict. Returns the judge's settings."""
    base = ["--model_name_or_path", f"models/{name}"]
    recipe("sft.py", *options, *base, *QUICK, "--output_dir", f"runs/{name}", cwd=project)
    votes = ["--dataset_name", "data", "--output_file", f"{name}.csv"]
    recipe("predict.py", "--adapter", f"runs/{name}", *votes, cwd=project)
    table = pd.read_csv(project / f"{name}.csv")
    assert len(table) == 8 and (table.iloc[:, 1:].sum(axis=1) - 1).abs().max() < 1e-3
    return json.loads((project / "runs" / name / "judge.json").read_text())


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("qwen3-8b", "qwen3"),
        ("t4", "qwen3"),
        ("qwen2.5-0.5b", "qwen2_5"),
        ("gemma-3-270m", "gemma3"),
        ("llama-3.2-3b", "llama3_2"),
    ],
)
def test_a_recipe(project, name, template):
    values = yaml.safe_load((REPOSITORY / "recipes" / "sft" / f"{name}.yaml").read_text())
    bundled = json.loads((CONFIGS / f"{values['model_name_or_path'].replace('/', '--')}.json").read_text())
    small = {key: value for key, value in SMALL.items() if key in bundled or key == "head_dim"}
    settings = {**bundled, **small, "vocab_size": len(build_tokenizer()), "eos_token_id": 2, "bos_token_id": 1}
    build_small(AutoConfig.for_model(**settings), template, project / "models" / name)
    judge = train_and_predict(project, name, f"{name}.yaml", "--base_model_id", values["model_name_or_path"])
    assert judge["head"] == "new" and judge["precision"]["dtype"] == values["dtype"]
    assert bool(judge["precision"]["quantization"]) == values.get("load_in_4bit", False)
    if name == "t4":
        assert judge["precision"]["quantization"]["bnb_4bit_compute_dtype"] == "float16"
        assert not judge["precision"]["autocast"]  # which would be bfloat16


def test_a_model_that_sees(project):
    """The YAML of docs/bases.md, on a Gemma 3 with a vision tower: the adapter is on its language model alone."""
    (block,) = [block for block in blocks(REPOSITORY / "docs" / "bases.md") if block.language == "yaml"]
    (project / block.file_name).write_text(block.text)
    size = len(build_tokenizer())
    config = Gemma3Config(
        text_config={**SMALL, "vocab_size": size + 3, "max_position_embeddings": 4096},
        vision_config={**VISION, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4, image_token_index=size, boi_token_index=size + 1, eoi_token_index=size + 2,
    )  # fmt: skip
    build_small(config, "gemma3", project / "models" / "gemma-3-4b")
    output = recipe("check.py", block.file_name, "--model_name_or_path", "models/gemma-3-4b", "--pad_token",
                    "<|endoftext|>", "--accelerate_config", "multi_gpu", cwd=project)  # fmt: skip
    assert "no problems" in output and "in 14 modules" in output  # seven in each of two layers
    train_and_predict(project, "gemma-3-4b", block.file_name)
    adapted = json.loads((project / "runs" / "gemma-3-4b" / "adapter_config.json").read_text())
    assert "language_model" in adapted["target_modules"]
