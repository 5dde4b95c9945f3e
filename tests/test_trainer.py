import json

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from torch.nn.functional import cross_entropy

from lmsys_trl.base_models import load_base
from lmsys_trl.batching import pad_left, token_batches
from lmsys_trl.rows import encode_battle, load_tokenizer
from lmsys_trl.synthetic import make_battles
from lmsys_trl.trainer import JudgeTrainer, TrainingConfig, last_complete_checkpoint


def make_trainer(base, output_dir, num_rows=8, **options):
    tokenizer = load_tokenizer(str(base))
    rows = [encode_battle(battle, tokenizer, 600)[-1] for battle in make_battles(num_rows)]
    options = {"max_steps": 1, "bf16": False, "use_cpu": True, "optim": "sgd", "learning_rate": 1.0} | options
    return JudgeTrainer(
        model=load_base(base, "float32", "eager"),
        args=TrainingConfig(output_dir=str(output_dir), max_grad_norm=0, **options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )


def adapter(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def plain_loss(trainer):
    """Cross-entropy of the answers in plain torch: a row at a time, no padding, all logits."""
    losses = []
    for row in trainer.train_dataset:
        logits = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        losses.append(cross_entropy(logits, torch.tensor(row["labels"][1:]), reduction="mean"))
    return torch.stack(losses).mean()


def test_the_loss_is_that_of_plain_torch(base, tmp_path):
    trainer = make_trainer(base, tmp_path, per_device_train_batch_size=8)
    trainer.model.eval()
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(16))
        alone = trainer.compute_loss(trainer.model, dict(batch))
        assert loss.item() == pytest.approx(plain_loss(trainer).item(), rel=1e-5)
        assert alone.item() == pytest.approx(loss.item(), rel=1e-6)


def test_the_step_is_the_same_in_any_shape(base, tmp_path):
    """The step of SGD with learning rate 1 is the gradient."""
    trainer = make_trainer(base, tmp_path / "plain")
    before = adapter(trainer)
    trainer.model.train()
    plain_loss(trainer).backward()
    expected = {name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad}
    for rows, batches in ((8, 1), (1, 8), (3, 3)):
        trainer = make_trainer(
            base, tmp_path / f"{rows}x{batches}", per_device_train_batch_size=rows, gradient_accumulation_steps=batches
        )
        trainer.train()
        for name, gradient in expected.items():
            step = before[name] - adapter(trainer)[name]
            assert (step - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_adapters_move_and_the_base_does_not(base, tmp_path):
    trainer = make_trainer(base, tmp_path, max_steps=3, optim="adamw_torch", learning_rate=1e-2)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == ("lora_" in name), name
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert all(loss > 0 for loss in losses)


def test_half_written_checkpoints_are_passed_over(tmp_path, capsys):
    assert last_complete_checkpoint(tmp_path) is None
    assert last_complete_checkpoint(tmp_path / "none") is None
    for step, state in ((2, json.dumps({"global_step": 2})), (9, None), (10, '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert capsys.readouterr().out.count("passed over") == 2


def test_padding():
    batch = pad_left(
        [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [-100]}], pad_token_id=0
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [-100, -100, -100]]


@given(lengths=st.lists(st.integers(1, 50)), max_tokens=st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths, max_tokens):
    batches = token_batches(lengths, max_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens
