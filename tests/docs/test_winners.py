"""docs/winners.md from its first command to its last, with tiny models under the names of the real ones."""

import json

import pandas as pd
import pytest
from datasets import Dataset
from helpers.hub_server import LoopbackHub
from helpers.pages import build_base, link_recipes, publish, run_page
from helpers.recipe_server import RecipeServer
from helpers.run import REPOSITORY
from helpers.votes import write_votes
from transformers import Gemma2Config, LlamaConfig, Qwen2Config

from lmsys_trl.battle import winner_of
from lmsys_trl.data.columns import TURN_COLUMNS
from lmsys_trl.data.synthetic import make_battles

PAGE = REPOSITORY / "docs" / "winners.md"
# Wide enough for blocks of 64 weights in 4 bits.
WIDE = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 8192}  # fmt: skip
LLAMA, QWEN = (LlamaConfig, 2, "<|header|>", "<|eot_id|>"), (Qwen2Config, 2, "<|im_start|>", "<|im_end|>")
BASES = {
    "google/gemma-2-9b-it": (Gemma2Config, 2, "<start_of_turn>", "<eos>", "<pad>"),
    "meta-llama/Llama-3.1-8B-Instruct": (*LLAMA, "<|finetune_right_pad_id|>"),
    "meta-llama/Meta-Llama-3-70B-Instruct": (*LLAMA, "<|reserved_special_token_0|>"),
    "Qwen/Qwen2-72B-Instruct": (*QWEN, "<|endoftext|>"),
    "Qwen/Qwen2.5-72B-Instruct": (*QWEN, "<|endoftext|>"),
    "Qwen/Qwen2.5-14B-Instruct": (*QWEN, "<|endoftext|>"),
}


def to_parquet(path, rows: list[dict]) -> None:
    Dataset.from_list(rows).to_parquet(path)


def write_data(folder) -> None:
    """What the page downloads: votes of both competitions, the 33k, UltraFeedback and battles without votes."""
    battles = make_battles(60, seed="winners")
    write_votes(folder / "train.csv", battles[:14])
    write_votes(folder / "33k.csv", battles[14:18])
    to_parquet(folder / "33k.parquet", pd.read_csv(folder / "33k.csv").to_dict("records"))
    texts = {"model_a": 0, "model_b": 1}
    wsdm = [
        {"id": battle["id"], "prompt": battle["prompt"][0], "response_a": battle["response_a"][0],
         "response_b": battle["response_b"][0], "winner": winner_of(battle["vote"])}
        for battle in battles[18:38] if winner_of(battle["vote"]) in texts
    ]  # fmt: skip
    to_parquet(folder / "wsdm.parquet", wsdm)
    to_parquet(folder / "wsdm-test.parquet", [{key: row[key] for key in row if key != "winner"} for row in wsdm[:8]])
    pairs = [
        {"prompt": battle["prompt"][0], "chosen": battle["response_a"][0], "rejected": battle["response_b"][0]}
        for battle in battles[38:43]
    ]
    to_parquet(folder / "ultrafeedback.parquet", pairs)
    unlabelled = [{key: battle[key] for key in ("id", *TURN_COLUMNS)} for battle in battles[43:51]]
    (folder / "pool.jsonl").write_text("".join(json.dumps(battle) + "\n" for battle in unlabelled))
    pd.DataFrame(unlabelled[:8]).map(lambda cell: json.dumps(cell) if isinstance(cell, list) else cell).to_csv(
        folder / "test.csv", index=False
    )


@pytest.mark.slow
def test_the_winners(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    write_data(folder)
    link_recipes(folder)
    texts = [text for battle in make_battles(40, seed="texts") for column in TURN_COLUMNS for text in battle[column]]
    with LoopbackHub() as hub:
        for name, facts in BASES.items():
            build_base(tmp_path / name, texts, *facts, **WIDE)
            publish(hub, name, tmp_path / name)
        with RecipeServer(tmp_path, **hub.environment(tmp_path / "home")) as server:
            run_page(PAGE, server, folder)

    for name in ("lmsys-1", "lmsys-2", "lmsys-4", "wsdm-3"):
        table = pd.read_csv(folder / f"{name}.csv")
        assert len(table) == 8 and (table.iloc[:, 1:4].sum(axis=1) - 1).abs().max() < 1e-3
    assert set(pd.read_csv(folder / "wsdm-1.csv")["winner"]) <= {"model_a", "model_b"}

    def judge(name: str) -> dict:
        return json.loads((folder / "runs" / name / "judge.json").read_text())

    assert len(judge("lmsys-1/judge")["merged"]) == 5 and len(judge("wsdm-1/judge")["merged"]) == 2
    assert [judge(f"lmsys-1/gemma-{fold}")["fold"] for fold in range(5)] == list(range(5))
    assert judge("lmsys-1/llama-0")["precision"]["quantization"]["load_in_4bit"]
    assert judge("lmsys-1/gemma-0")["precision"]["quantization"] is None
    assert judge("lmsys-4/judge")["inference_max_length"] == 3072
    assert judge("wsdm-3/judge")["head"] == "lm_head" and judge("lmsys-4/judge")["head"] == "new"
    teachers = pd.read_parquet(folder / "runs" / "wsdm-1" / "teachers.parquet")
    assert set(teachers["order"]) == {"ab", "ba", "mean"}
    orders = pd.read_csv(folder / "runs" / "wsdm-1" / "test.csv")
    assert len(orders) == 8
