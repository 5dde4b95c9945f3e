"""Trained heads: three rows that are trained, saved, loaded and exported with the adapter."""

import dataclasses
import json
import math
from shutil import copytree

import pytest
import torch
from datasets import Dataset
from helpers.models import NF4, build_base, build_judge, make_trainer
from helpers.run import recipe
from helpers.votes import write_votes
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, LlamaConfig

from lmsys_trl import Judge
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.template import PROMPT_VERSION
from lmsys_trl.encoding.tokenizer import load_tokenizer
from lmsys_trl.errors import UserError
from lmsys_trl.models.base import load_base
from lmsys_trl.models.head import install_head, letter_columns
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.models.merge import average_adapters, merge_into_base

ROWS = "base_model.model.lm_head.weight"
STEPS = {"loss": "letters", "max_steps": 4, "learning_rate": 0.1, "per_device_train_batch_size": 4}


def train_judge(base, folder, head, quantization=None, **options):
    """A judge with a trained head, and the probabilities that its trainer computed."""
    trainer = make_trainer(base, folder, head=head, quantization=quantization, **STEPS | options)
    trainer.train()
    trainer.save_model()
    tokenizer = load_tokenizer(str(base))
    precision = {"dtype": "float32", "autocast": False, "attn_implementation": "eager", "quantization": quantization}
    JudgeFile.describe(tokenizer, base, "owner/tiny", PROMPT_VERSION, 600, 600, 1.0, precision, head).save(folder)
    logits = trainer.predict(trainer.eval_dataset).predictions
    return folder, torch.tensor(logits).double().softmax(-1).numpy()


def probabilities(judge, num_battles=8):
    table = judge.predict_dataset(Dataset.from_list(make_battles(num_battles)))
    return table[["winner_model_a", "winner_model_b", "winner_tie"]].to_numpy()


def build_gemma(folder):
    """A tiny Gemma-2, which caps the logits after its head and ties that to its embeddings."""
    build_base(folder)
    sizes = json.loads((folder / "config.json").read_text())
    shared = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "eos_token_id", "bos_token_id", "pad_token_id")  # fmt: skip
    torch.manual_seed(0)
    config = Gemma2Config(**{key: sizes[key] for key in shared}, head_dim=8, final_logit_softcapping=2.0)
    Gemma2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["letters", "new"])
@pytest.mark.parametrize("build", [build_base, build_gemma])
@pytest.mark.parametrize("quantization", [None, NF4])
def test_a_judge_computes_what_its_trainer_did(tmp_path, kind, build, quantization):
    if quantization and build is build_gemma:
        pytest.skip("one model in four bits is enough")
    base = build(tmp_path / "base")
    folder, expected = train_judge(base, tmp_path / "judge", kind, quantization)
    rows = load_file(folder / "adapter_model.safetensors")[ROWS]
    assert rows.shape == (3, 32) and rows.dtype == torch.float32
    judge = Judge.from_pretrained(folder, str(base))
    assert probabilities(judge) == pytest.approx(expected, abs=1e-4 if quantization else 1e-6)
    assert letter_columns(judge.model, judge.settings.token_ids) == [0, 1, 2]


def test_trained_rows_begin_where_the_frozen_head_is_or_with_a_uniform_guess(base, tmp_path):
    losses = {}
    for head in ("lm_head", "letters", "new"):
        trainer = make_trainer(base, tmp_path / head, head=head, **STEPS)
        losses[head] = trainer.evaluate()["eval_loss"]
        names = [name for name, p in trainer.model.named_parameters() if p.requires_grad and "lm_head" in name]
        assert len(names) == (head != "lm_head")
    assert losses["letters"] == pytest.approx(losses["lm_head"], abs=1e-6)
    assert losses["new"] == pytest.approx(math.log(3)) != pytest.approx(losses["lm_head"], abs=1e-3)


def test_training_moves_the_rows_and_a_resumed_run_ends_with_the_same(base, tmp_path):
    once = make_trainer(base, tmp_path / "once", head="new", **STEPS)
    (rows,) = (p for name, p in once.model.named_parameters() if p.requires_grad and "lm_head" in name)
    before = rows.detach().clone()
    once.train()
    assert (rows - before).abs().max() > 1e-4
    first = make_trainer(base, tmp_path / "twice", head="new", save_steps=2, **STEPS)
    first.train()
    again = make_trainer(base, tmp_path / "twice", head="new", **STEPS)
    again.train(resume_from_checkpoint=str(tmp_path / "twice" / "checkpoint-2"))
    resumed = {name: p for name, p in again.model.named_parameters() if p.requires_grad}
    assert all(torch.equal(resumed[name], p) for name, p in once.model.named_parameters() if p.requires_grad)


def test_an_exported_judge_reads_the_letters_from_a_complete_head(tmp_path):
    base = build_base(tmp_path / "base", tie_word_embeddings=True)
    folder, expected = train_judge(base, tmp_path / "judge", "new")
    (tmp_path / "merged").mkdir()
    copytree(base, tmp_path / "judge", dirs_exist_ok=True, ignore=lambda *_: ["config.json", "model.safetensors"])
    merge_into_base(folder, str(base), tmp_path / "merged")
    merged, original = AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), load_base(base, "float32")
    letters = JudgeFile.load(folder).token_ids
    assert torch.equal(merged.get_input_embeddings().weight, original.get_input_embeddings().weight)
    rows = load_file(folder / "adapter_model.safetensors")[ROWS]
    assert torch.equal(merged.get_output_embeddings().weight[letters], rows)
    settings = dataclasses.replace(JudgeFile.load(folder), head="lm_head")
    assert probabilities(Judge(merged, load_tokenizer(str(base)), settings)) == pytest.approx(expected, abs=1e-6)


def test_a_head_and_what_judge_json_says_of_it_belong_together(base, tmp_path):
    folder, _ = train_judge(base, tmp_path / "judge", "new")
    without = copytree(folder, tmp_path / "without")
    weights = load_file(folder / "adapter_model.safetensors")
    del weights[ROWS]
    save_file(weights, without / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 tensors are missing in it: .*lm_head.weight"):
        Judge.from_pretrained(without, str(base))
    said = copytree(folder, tmp_path / "said")
    content = json.loads((said / "judge.json").read_text())
    (said / "judge.json").write_text(json.dumps(content | {"head": "lm_head"}))
    with pytest.raises(UserError, match="1 of its tensors have another shape: .*lm_head.weight"):
        Judge.from_pretrained(said, str(base))
    plain = build_judge(base, tmp_path / "plain")
    content = json.loads((plain / "judge.json").read_text())
    (plain / "judge.json").write_text(json.dumps(content | {"head": "new"}))
    with pytest.raises(UserError, match="its head was trained .new., and its adapter has none"):
        Judge.from_pretrained(plain, str(base))
    (said / "judge.json").write_text(json.dumps(content | {"head": "large"}))
    with pytest.raises(UserError, match="has a bad head"):
        Judge.from_pretrained(said, str(base))
    judge = Judge.from_pretrained(folder, str(base))
    with pytest.raises(UserError, match="a judge with a trained head shares no base model"):
        Judge.from_pretrained(folder, str(base), share_base_with=judge)


def test_weights_that_are_no_numbers_are_refused(base, tmp_path):
    folder, _ = train_judge(base, tmp_path / "judge", "new")
    other = copytree(folder, tmp_path / "other")
    weights = load_file(folder / "adapter_model.safetensors")
    weights[ROWS][1, 1] = float("nan")
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 of its tensors hold values that are no numbers: .*lm_head.weight"):
        Judge.from_pretrained(folder, str(base))
    with pytest.raises(UserError, match="judge: its weights hold values that are no numbers"):
        average_adapters([folder, other], "mean")


def test_an_adapter_with_a_trained_head_is_imported_as_such(base, tmp_path):
    folder, expected = train_judge(base, tmp_path / "judge", "letters")
    (folder / "judge.json").unlink()
    recipe(
        "import.py", "--adapter", folder, "--model_name_or_path", base, "--prompt_version", PROMPT_VERSION,
        "--letters", "A", "B", "C", "--max_length", "600", "--dtype", "float32", "--temperature", "1",
        "--attn_implementation", "eager", "--output_dir", "imported", cwd=tmp_path,
    )  # fmt: skip
    judge = Judge.from_pretrained(tmp_path / "imported", str(base))
    assert judge.settings.head == "new" and probabilities(judge) == pytest.approx(expected, abs=1e-6)


def test_heads_through_the_command_line(tmp_path):
    """An ensemble of two, the average, and what a recipe refuses."""
    build_base(tmp_path / "models" / "tiny")
    write_votes(tmp_path / "votes.csv", make_battles(30))
    recipe("prepare.py", "--sources", "votes.csv", "--output_dir", "data", cwd=tmp_path)
    options = ["smollm2.yaml", "--model_name_or_path", "models/tiny", "--base_model_id", "owner/tiny", "--max_length",
               "700", "--lora_layers_to_transform", "1", "--dataset_name", "data", "--head", "new"]  # fmt: skip
    output = recipe("sft.py", *options, "--loss", "answer", "--output_dir", "runs/x", cwd=tmp_path, fails=True)
    assert "head: new has rows for the letters only. Set loss: letters" in output
    words = ["--loss", "letters", "--consistency_weight", "1", "--output_dir", "runs/x"]
    output = recipe("sft.py", *options, *words, cwd=tmp_path, fails=True)
    assert "consistency_weight: compares both orders of the answers. Set swap: paired" in output
    for seed in ("1", "2"):
        recipe("sft.py", *options, "--loss", "letters", "--seed", seed, "--output_dir", f"runs/{seed}", cwd=tmp_path)
    votes = ["--test_file", "votes.csv"]
    members = ["--adapter", "runs/1", "runs/2", "--weights", "0.5", "0.5"]
    recipe("ensemble.py", *members, *votes, "--output_file", "both.csv", cwd=tmp_path)
    output = recipe("merge.py", "--adapter", "runs/1", "runs/2", "--output_dir", "mean", *votes, cwd=tmp_path)
    assert "mean of their predictions" in output
    first, second, mean = (
        load_file(tmp_path / name / "adapter_model.safetensors")[ROWS] for name in ("runs/1", "runs/2", "mean")
    )
    assert not torch.equal(first, second) and torch.allclose(mean, (first + second) / 2)


def test_a_head_that_is_divided_over_processes_is_refused():
    """As ZeRO-3 leaves it: without a row."""
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=9, hidden_size=8, num_attention_heads=1))
    model.get_output_embeddings().weight.data = torch.empty(0)
    with pytest.raises(UserError, match="head: ZeRO-3 divides the base model's head. Use zero2.yaml"):
        install_head(model, "new", [1, 2, 3])
