"""The blocks of README and docs, run as a reader would, on tiny stand-ins of the base models and a loopback Hub."""

import shutil

import pandas as pd
import pytest
from helpers.hub_server import LoopbackHub
from helpers.pages import build_base, link_recipes, publish, run_page
from helpers.recipe_server import RecipeServer
from helpers.run import REPOSITORY
from helpers.votes import write_votes
from transformers import Gemma3TextConfig, LlamaConfig, Qwen2Config

from lmsys_trl.battle import winner_of
from lmsys_trl.data.columns import TURN_COLUMNS
from lmsys_trl.data.synthetic import make_battles

SLOW = ("training", "teachers")  # with several trainings each
ELSEWHERE = ("winners",)  # in test_winners.py
PAGES = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else [])
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    if page.stem not in ELSEWHERE
]
# The real names and architectures, small; (configuration, start of a turn, end token, pad token).
BASES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (LlamaConfig, 2, "<|im_start|>", "<|im_end|>", "<|endoftext|>"),
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
        link_recipes(start)
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
    run_page(page, server, folder)
