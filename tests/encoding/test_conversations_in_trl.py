"""What plain trl makes of our conversations with real tokenizers, beside our own examples: as docs/data.md says."""

import pytest
from datasets import Dataset
from helpers.run import REPOSITORY
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.examples import IGNORED, battles_to_conversations, encode_battle
from lmsys_trl.encoding.tokenizer import load_tokenizer

SCORED = {  # by trl after the letter, and by us
    "gemma2": (["<end_of_turn>", "\n"], ["<eos>"]),
    "llama3.1": (["<|eot_id|>"], ["<|eot_id|>"]),
    "smollm2": (["<|im_end|>", "\n"], ["<|im_end|>"]),
}


@pytest.fixture(scope="module", params=SCORED)
def named_tokenizer(request, assets):
    if request.param == "smollm2":
        folder, pad_token = REPOSITORY / "models" / "SmolLM2-135M-Instruct", "<|endoftext|>"
        if not folder.is_dir():
            pytest.skip("lmsys-trl fetch has not made it")
    else:
        folder = assets / "tokenizers" / request.param
        pad_token = "<|finetune_right_pad_id|>" if request.param == "llama3.1" else None
    return request.param, load_tokenizer(str(folder), pad_token)


def trl_trainer(tokenizer, folder, rows):
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    return SFTTrainer(
        LlamaForCausalLM(config),
        args=SFTConfig(str(folder), max_length=None, use_cpu=True, bf16=False, max_steps=1, report_to="none"),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def test_what_trl_scores(named_tokenizer, tmp_path):
    name, tokenizer = named_tokenizer
    battles = make_battles(8)
    conversations = [each[-1] for each in battles_to_conversations(battles, tokenizer, 1500)]
    trainer = trl_trainer(
        tokenizer, tmp_path, [{key: row[key] for key in ("prompt", "completion")} for row in conversations]
    )
    after_trl, after_ours = SCORED[name]
    for battle, row in zip(battles, trainer.train_dataset, strict=True):
        ours = encode_battle(battle, tokenizer, 1500)[-1]["input_ids"]
        scored = [token for token in row["labels"] if token != IGNORED]
        letter, *rest = tokenizer.convert_ids_to_tokens(scored)
        assert [tokenizer.convert_tokens_to_string([token]) for token in rest] == after_trl
        assert tokenizer.convert_ids_to_tokens(ours[-2:]) == [letter, *after_ours]
        prompt = row["input_ids"][: -len(scored)]
        # Gemma's prompts are the same tokens. Llama's template writes another date there, and on Llama and SmolLM2 the
        # seams between texts and headings are tokenized together.
        assert (prompt == ours[:-2]) == (name == "gemma2")
        as_text = tokenizer.decode(prompt).split("Here are two")[1]
        assert as_text == tokenizer.decode(ours[:-2]).split("Here are two")[1]


def test_encoded_examples_are_the_same_in_trl(named_tokenizer, tmp_path):
    _, tokenizer = named_tokenizer
    rows = [encode_battle(battle, tokenizer, 1500)[-1] for battle in make_battles(8)]
    trainer = trl_trainer(tokenizer, tmp_path, rows)
    batch = next(iter(trainer.get_train_dataloader()))
    assert sorted(map(str, trainer.train_dataset[:]["input_ids"])) == sorted(str(row["input_ids"]) for row in rows)
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        kept = mask.bool()
        row = {"input_ids": ids[kept].tolist(), "labels": labels[kept].tolist()}
        assert row in rows and (labels != IGNORED).sum() == 2
