"""The reference solution at a small size: its models with few layers, its real tokenizers and recipes, in 4 bits, from
votes to both submissions and the Hub."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.reference_solution import reference_submission
from helpers.run import REPOSITORY, recipe
from transformers import AutoConfig, AutoModelForCausalLM

from lmsys_trl import Judge

CONFIGS = REPOSITORY / "lmsys_trl" / "preflight" / "model_configs"
SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
MODELS = {  # recipe -> its base model, its tokenizer, and where its judge goes
    "gemma": ("google/gemma-2-9b-it", "gemma2", "gemma-2-9b"),
    "llama": ("meta-llama/Llama-3.1-8B-Instruct", "llama3.1", "llama-3.1-8b"),
    "gemma-2-2b": ("google/gemma-2-2b-it", "gemma2", "gemma-2-2b"),
}


def build_small(model_id: str, tokenizer: Path, folder: Path) -> None:
    config = json.loads((CONFIGS / f"{model_id.replace('/', '--')}.json").read_text())
    small = {key: value for key, value in SMALL.items() if key in config}
    if "query_pre_attn_scalar" in config:
        small["query_pre_attn_scalar"] = SMALL["head_dim"]
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**config | small)).save_pretrained(folder)
    for path in tokenizer.iterdir():
        shutil.copyfile(path, folder / path.name)


@pytest.mark.slow
def test_from_votes_to_submissions(assets, tmp_path, hub):
    arena = assets / "data" / "arena_first100.csv"
    split = ["--validation_fraction", "0.2"]
    recipe("prepare.py", "--sources", arena, *split, "--output_dir", "data/battles", cwd=tmp_path)
    for name, (model_id, tokenizer, judge) in MODELS.items():
        build_small(model_id, assets / "tokenizers" / tokenizer, tmp_path / "models" / judge)
        output = recipe(
            "sft.py", f"{name}.yaml", "--model_name_or_path", f"models/{judge}", "--base_model_id", model_id,
            cwd=tmp_path,
        )  # fmt: skip
        assert f"The judge is in runs/{judge}" in output
        settings = json.loads((tmp_path / "runs" / judge / "judge.json").read_text())
        assert settings["precision"]["quantization"]["bnb_4bit_quant_type"] == "nf4"
        assert settings["temperature"] == 1.03
        lora = json.loads((tmp_path / "runs" / judge / "adapter_config.json").read_text())
        assert lora["r"] == 32 and set(lora["target_modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    lengths = {"gemma-2-9b": (2200, 1900), "llama-3.1-8b": (2048, 2400), "gemma-2-2b": (2048, 2200)}
    for judge, (training, prediction) in lengths.items():
        settings = json.loads((tmp_path / "runs" / judge / "judge.json").read_text())
        assert (settings["max_length"], settings["inference_max_length"]) == (training, prediction)
    gemma = Judge.from_pretrained(tmp_path / "runs" / "gemma-2-9b", str(tmp_path / "models" / "gemma-2-9b"))
    assert gemma.model.config._attn_implementation == "eager" and gemma.model.get_base_model().is_loaded_in_4bit

    test = assets / "data" / "arena_test3.csv"
    predictions = {}
    for judge in lengths:
        output_file = f"{judge}.parquet"
        recipe(
            "predict.py", "--adapter", f"runs/{judge}", "--test_file", test, "--tta", "swap", "--output_file",
            output_file, cwd=tmp_path,
        )  # fmt: skip
        table = pd.read_parquet(tmp_path / output_file)
        predictions[judge] = {order: rows.iloc[:, 2:5].to_numpy() for order, rows in table.groupby("order")}
    ids = pd.read_csv(test, dtype={"id": str})["id"].tolist()
    p = {(judge, order): values for judge, orders in predictions.items() for order, values in orders.items()}
    lengths = pd.read_parquet(tmp_path / "gemma-2-9b.parquet").query("order == 'ab'")["num_tokens"].to_numpy()
    for number in (1, 2):
        recipe(
            "ensemble.py", f"submission-{number}.yaml", "--test_file", test, "--output_file", f"{number}.csv",
            cwd=tmp_path,
        )  # fmt: skip
        table = pd.read_csv(tmp_path / f"{number}.csv", dtype={"id": str})
        assert table["id"].tolist() == ids
        assert np.allclose(table.iloc[:, 1:], reference_submission(number, p, lengths, ids), atol=1e-4)

    recipe(
        "validate.py", "--adapter", "runs/gemma-2-9b", "--dataset_name", "data/battles", "--output_dir", "report",
        cwd=tmp_path,
    )  # fmt: skip
    output = recipe(
        "push.py", "--adapter", "runs/gemma-2-9b", "--hub_model_id", "owner/gemma", "--report", "report",
        cwd=tmp_path, **hub.environment(tmp_path / "home"),
    )  # fmt: skip
    assert "Pushed: http" in output and hub.repos["owner/gemma"].private
    recipe(
        "predict.py", "--adapter", "owner/gemma", "--test_file", test, "--tta", "swap", "--output_file",
        "pulled.parquet", "--model_name_or_path", "models/gemma-2-9b", cwd=tmp_path,
        **hub.environment(tmp_path / "other"),
    )  # fmt: skip
    pulled = pd.read_parquet(tmp_path / "pulled.parquet")
    assert pulled.equals(pd.read_parquet(tmp_path / "gemma-2-9b.parquet"))
