import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from torch.nn.functional import cross_entropy

from lmsys_trl.base_models import load_base
from lmsys_trl.batching import lay_end_to_end, pad_left, token_batches
from lmsys_trl.prepared import encode
from lmsys_trl.rows import load_tokenizer
from lmsys_trl.synthetic import make_battles
from lmsys_trl.trainer import JudgeTrainer, TrainingConfig


def make_trainer(base, output_dir, num_rows=8, swap="none", **options):
    tokenizer = load_tokenizer(str(base))
    rows = encode(Dataset.from_list(make_battles(num_rows)), tokenizer, 600, swap)
    options = {"max_steps": 1, "bf16": False, "use_cpu": True, "optim": "sgd", "learning_rate": 1.0} | options
    return JudgeTrainer(
        model=load_base(base, "float32", "eager"),
        args=TrainingConfig(output_dir=str(output_dir), max_grad_norm=0, **options),
        train_dataset=rows,
        eval_dataset=rows,
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


def test_rows_laid_end_to_end_do_not_see_each_other(base, tmp_path):
    """As under flash attention, which does not run on a CPU: there a mask does its work."""
    trainer = make_trainer(base, tmp_path)
    trainer.model.eval()
    parameters = [p for p in trainer.model.parameters() if p.requires_grad]

    def gradient(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    votes = torch.tensor(trainer.train_dataset["votes"][:])
    batch = {**lay_end_to_end(list(trainer.train_dataset)), "votes": votes, "ids": trainer.train_dataset["id"]}
    one_text = {**batch, "position_ids": torch.arange(batch["input_ids"].shape[1]).unsqueeze(0)}
    assert batch["input_ids"].shape == (1, sum(trainer.train_dataset["length"]))
    expected = gradient(plain_loss(trainer))
    assert (gradient(trainer.compute_loss(trainer.model, dict(batch))) - expected).norm() <= 1e-5 * expected.norm()
    assert (gradient(trainer.compute_loss(trainer.model, one_text)) - expected).norm() > 1e-2 * expected.norm()


def test_the_step_is_the_same_in_any_shape(base, tmp_path):
    """The step of SGD with learning rate 1 is the gradient."""
    trainer = make_trainer(base, tmp_path / "plain")
    before = adapter(trainer)
    trainer.model.train()
    plain_loss(trainer).backward()
    expected = {name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad}
    for rows, batches, sampling in (
        (8, 1, "random"), (1, 8, "random"), (3, 3, "random"), (8, 1, "batch_rebalance"), (2, 4, "batch_rebalance"),
    ):  # fmt: skip
        trainer = make_trainer(
            base,
            tmp_path / f"{sampling}{rows}x{batches}",
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=batches,
            train_sampling_strategy=sampling,
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


def test_letters_alone_and_smoothing_are_those_of_plain_torch(base, tmp_path):
    for options in ({"loss": "letters"}, {"loss": "letters", "label_smoothing": 0.1}, {"label_smoothing": 0.1}):
        trainer = make_trainer(base, tmp_path, **options)
        trainer.model.eval()
        letters = trainer.letters
        losses = []
        for row in trainer.train_dataset:
            logits = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
            letter, end = row["labels"][-2:]
            smooth = options.get("label_smoothing", 0.0)
            if "loss" in options:
                log_p = logits[-3][letters].log_softmax(-1)
                targets = torch.full((3,), smooth / 3)
                targets[letters.index(letter)] += 1 - smooth
                losses.append(-(targets * log_p).sum())
            else:
                log_p = logits[-3:-1].log_softmax(-1)
                hard = -(log_p[0, letter] + log_p[1, end]) / 2
                losses.append((1 - smooth) * hard - smooth * log_p.mean())
        batch = trainer.data_collator(list(trainer.train_dataset))
        with torch.no_grad():
            loss = trainer.compute_loss(trainer.model, dict(batch))
        assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_both_orders_of_a_battle_are_in_the_same_batch(base, tmp_path):
    trainer = make_trainer(base, tmp_path, swap="paired", per_device_train_batch_size=2)
    single = make_trainer(base, tmp_path, swap="all").train_dataset
    for batch in trainer.get_train_dataloader():
        assert len(batch["ids"]) == 2 and len(batch["input_ids"]) == 4
        for i, battle_id in enumerate(batch["ids"]):
            rows = [row["input_ids"] for row in single if row["id"] == battle_id]
            for ids, mask, expected in zip(
                batch["input_ids"][2 * i :], batch["attention_mask"][2 * i :], rows, strict=False
            ):
                assert ids[mask.bool()].tolist() == expected


def test_evaluation_keeps_the_letters_only(base, tmp_path):
    trainer = make_trainer(base, tmp_path, per_device_eval_batch_size=3)
    metrics = trainer.evaluate()
    losses = []
    for row in trainer.eval_dataset:
        with torch.no_grad():
            logits = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits[0, -3][trainer.letters]
        losses.append(-logits.log_softmax(-1)[trainer.letters.index(row["labels"][-2])])
    assert metrics["eval_log_loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    assert trainer.predict(trainer.eval_dataset).predictions.shape == (8, 3)


def test_speed_is_logged(base, tmp_path):
    trainer = make_trainer(
        base, tmp_path, max_steps=4, logging_steps=2, battles_per_step=4, per_device_train_batch_size=2
    )
    trainer.train()
    log = next(log for log in trainer.state.log_history if "loss" in log)
    assert trainer.args.gradient_accumulation_steps == 2
    assert log["tokens_per_second"] > 0 and log["rows_per_second"] > 0 and 0 <= log["padding"] < 0.5
    assert log["minutes_left"] >= 0


@pytest.mark.parametrize("poison", [float("nan"), 1e6])
def test_a_loss_that_is_no_number_or_explodes_stops_the_run_by_name(base, tmp_path, poison):
    trainer = make_trainer(
        base, tmp_path, max_steps=3, per_device_train_batch_size=2, train_sampling_strategy="sequential"
    )
    ids = trainer.train_dataset["id"]

    def poisoned(module, inputs, output):
        if trainer.state.global_step == 1:
            output *= poison
        return output

    trainer.model.get_output_embeddings().register_forward_hook(poisoned)
    with pytest.raises(ValueError, match=f"step 2: the loss is .* on battles {ids[2]}, {ids[3]}"):
        trainer.train()


def test_mistakes_in_steps_and_checkpoints():
    with pytest.raises(ValueError, match="battles_per_step: 5 is not a multiple of 2"):
        TrainingConfig(battles_per_step=5, per_device_train_batch_size=2, use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match="save_total_limit"):
        TrainingConfig(save_total_limit=1, use_cpu=True, bf16=False)
