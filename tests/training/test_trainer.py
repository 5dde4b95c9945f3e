import copy
import logging
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, DatasetDict
from helpers.models import NF4, build_judge, build_tokenizer, make_trainer
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import trainer_utils
from trl import ModelConfig

from lmsys_trl.data.schema import BATTLE_SCHEMA
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.batching import pack_padding_free, pad_left, token_batches
from lmsys_trl.errors import UserError
from lmsys_trl.models.base import load_base
from lmsys_trl.options import JudgeConfig
from lmsys_trl.terminal import set_up_logging
from lmsys_trl.training.config import TrainingConfig
from lmsys_trl.training.evaluation import evaluate_at_end, log_validation_loss
from lmsys_trl.training.run import align_special_tokens, encode_splits, load_model, select_training_data


def adapter(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def plain_loss(trainer):
    """Cross-entropy of the answers in plain torch: an example at a time, no padding, all logits."""
    losses = []
    for example in trainer.train_dataset:
        logits = trainer.model(input_ids=torch.tensor([example["input_ids"]])).logits[0, :-1]
        losses.append(cross_entropy(logits, torch.tensor(example["labels"][1:]), reduction="mean"))
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


def test_attention_whose_gradients_can_be_nan_is_off(base, tmp_path):
    """Seen on an H200: after the first step under a mask of padding all weights were NaN. A CPU does not have it."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    make_trainer(base, tmp_path)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_packed_examples_do_not_attend_to_each_other(base, tmp_path):
    """As under flash attention, which does not run on a CPU: there a mask does its work."""
    trainer = make_trainer(base, tmp_path)
    trainer.model.eval()
    parameters = [p for p in trainer.model.parameters() if p.requires_grad]

    def gradient(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    votes = torch.tensor(trainer.train_dataset["votes"][:])
    packed = pack_padding_free(list(trainer.train_dataset))
    answers = (packed["labels"][0] != -100).nonzero().squeeze(1)
    batch = {**packed, "votes": votes, "ids": trainer.train_dataset["id"], "answers": answers, "num_tokens": 0}
    one_text = {**batch, "position_ids": torch.arange(batch["input_ids"].shape[1]).unsqueeze(0)}
    assert batch["input_ids"].shape == (1, sum(trainer.train_dataset["length"]))
    expected = gradient(plain_loss(trainer))
    assert (gradient(trainer.compute_loss(trainer.model, dict(batch))) - expected).norm() <= 1e-5 * expected.norm()
    assert (gradient(trainer.compute_loss(trainer.model, one_text)) - expected).norm() > 1e-2 * expected.norm()


@pytest.mark.slow  # it is compiled
def test_flex_attention_keeps_packed_examples_apart(base, tmp_path):
    """Its forward pass: there is no backward pass on a CPU."""
    examples = list(make_trainer(base, tmp_path).train_dataset)[:3]
    packed = pack_padding_free(examples)
    del packed["labels"]
    with torch.no_grad():
        eager, flex = (load_base(base, "float32", name).eval() for name in ("eager", "flex_attention"))
        alone = [eager(input_ids=torch.tensor([example["input_ids"]])).logits[0] for example in examples]
        together = flex(**packed, use_cache=False).logits[0]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_the_step_is_the_same_in_any_shape(base, tmp_path):
    """The step of SGD with learning rate 1 is the gradient."""
    trainer = make_trainer(base, tmp_path / "plain")
    before = adapter(trainer)
    trainer.model.train()
    plain_loss(trainer).backward()
    expected = {name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad}
    for size, batches, sampling, max_tokens in (
        (8, 1, "random", 10**6), (1, 8, "random", 10**6), (3, 3, "random", 10**6), (8, 1, "batch_rebalance", 10**6),
        (2, 4, "batch_rebalance", 10**6), (8, 1, "batch_rebalance", 900), (4, 2, "random", 1),
    ):  # fmt: skip
        trainer = make_trainer(
            base,
            tmp_path / f"{sampling}{size}x{batches}x{max_tokens}",
            max_tokens_per_batch=max_tokens,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=batches,
            train_sampling_strategy=sampling,
        )
        trainer.train()
        for name, gradient in expected.items():
            step = before[name] - adapter(trainer)[name]
            assert (step - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_consistency_of_both_orders_in_any_shape(base, tmp_path):
    """The step is the gradient of the losses and of the divergence of each battle's two orders."""
    options = {"swap": "paired", "loss": "letters", "consistency_weight": 0.7}
    trainer = make_trainer(base, tmp_path / "plain", **options)
    before = adapter(trainer)
    trainer.model.train()
    total = 0.0
    for example in trainer.train_dataset:
        log_p = [
            trainer.model(input_ids=torch.tensor([example[f"{prefix}input_ids"]])).logits[0, -3][trainer.letters]
            for prefix in ("", "swapped_")
        ]
        p, q = (logits.log_softmax(-1) for logits in log_p)
        total -= torch.tensor(example["votes"]) @ p + torch.tensor(example["swapped_votes"]) @ q
        q = q[[1, 0, 2]]
        kl = torch.nn.functional.kl_div
        total += 0.7 * (kl(p, q, reduction="sum", log_target=True) + kl(q, p, reduction="sum", log_target=True)) / 2
    (total / (2 * len(trainer.train_dataset))).backward()
    expected = {name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad}
    for size, batches, max_tokens in ((8, 1, 10**6), (8, 1, 1500), (2, 4, 10**6), (4, 2, 1)):
        trainer = make_trainer(
            base,
            tmp_path / f"{size}x{batches}x{max_tokens}",
            max_tokens_per_batch=max_tokens,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=batches,
            **options,
        )
        trainer.train()
        for name, gradient in expected.items():
            step = before[name] - adapter(trainer)[name]
            assert (step - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_adapters_move_and_the_base_does_not(base, tmp_path):
    trainer = make_trainer(base, tmp_path, max_steps=3, logging_steps=1, optim="adamw_torch", learning_rate=1e-2)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == ("lora_" in name), name
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert len(losses) == 3 and all(loss > 0 for loss in losses)


def test_lora_plus(base, tmp_path):
    """AdamW's first step is the learning rate, whatever the gradient; A has none before B has moved."""
    steps = []
    for ratio in (1, 4):
        options = {"optim": "adamw_torch", "learning_rate": 1e-3, "weight_decay": 0.0, "loraplus_lr_ratio": ratio}
        trainer = make_trainer(base, tmp_path / str(ratio), head="letters", loss="letters", **options)
        before = adapter(trainer)
        trainer.train()
        steps.append({name: (value - before[name]).abs().median() for name, value in adapter(trainer).items()})
    for name, step in steps[1].items():
        expected = 0 if "lora_A" in name else 4e-3 if "lora_B" in name else 1e-3
        assert step.item() == pytest.approx(expected, rel=1e-2), name
        assert steps[0][name].item() == pytest.approx(min(expected, 1e-3), rel=1e-2), name
    with pytest.raises(UserError, match="loraplus_lr_ratio: not with optim: sgd"):
        TrainingConfig(output_dir="judge", loraplus_lr_ratio=4, optim="sgd")


def test_padding():
    batch = pad_left(
        [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [-100]}], pad_token_id=0
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [-100, -100, -100]]


@given(lengths=st.lists(st.integers(1, 50)), max_tokens=st.integers(1, 200))
def test_batches_hold_every_example_once_within_the_budget(lengths, max_tokens):
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
        for example in trainer.train_dataset:
            logits = trainer.model(input_ids=torch.tensor([example["input_ids"]])).logits[0]
            letter, end = example["labels"][-2:]
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
            orders = [example["input_ids"] for example in single if example["id"] == battle_id]
            assert len(orders) == 2
            for j, expected in enumerate(orders, 2 * i):
                assert batch["input_ids"][j][batch["attention_mask"][j].bool()].tolist() == expected


def test_evaluation_keeps_the_letters_only(base, tmp_path):
    trainer = make_trainer(base, tmp_path, per_device_eval_batch_size=3)
    metrics = trainer.evaluate()
    divided = make_trainer(base, tmp_path, per_device_eval_batch_size=5, max_tokens_per_batch=900).evaluate()
    for name in ("eval_loss", "eval_log_loss", "eval_accuracy"):
        assert divided[name] == pytest.approx(metrics[name], rel=1e-5)
    losses = []
    for example in trainer.eval_dataset:
        with torch.no_grad():
            logits = trainer.model(input_ids=torch.tensor([example["input_ids"]])).logits[0, -3][trainer.letters]
        losses.append(-logits.log_softmax(-1)[trainer.letters.index(example["labels"][-2])])
    assert metrics["eval_log_loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    assert trainer.predict(trainer.eval_dataset).predictions.shape == (8, 3)


def test_speed_is_logged(base, tmp_path):
    trainer = make_trainer(
        base, tmp_path, max_steps=4, logging_steps=2, battles_per_step=4, per_device_train_batch_size=2
    )
    trainer.train()
    log = next(log for log in trainer.state.log_history if "loss" in log)
    assert trainer.args.gradient_accumulation_steps == 2
    assert log["tokens_per_second"] > 0 and log["examples_per_second"] > 0 and 0 <= log["padding"] < 0.5
    assert log["minutes_left"] >= 0


@pytest.mark.parametrize("poison", [float("nan"), 1e6])
def test_a_loss_that_is_not_a_number_or_explodes_stops_the_run_by_name(base, tmp_path, poison):
    trainer = make_trainer(
        base, tmp_path, max_steps=3, per_device_train_batch_size=2, train_sampling_strategy="sequential"
    )
    ids = trainer.train_dataset["id"]

    def poisoned(module, inputs, output):
        if trainer.state.global_step == 1:
            output *= poison
        return output

    trainer.model.get_output_embeddings().register_forward_hook(poisoned)
    with pytest.raises(UserError, match=f"step 2: the loss is .* on battles {ids[2]}, {ids[3]}"):
        trainer.train()


def test_what_a_cpu_computes_in_without_a_word_in_the_yaml(base, tmp_path):
    training = TrainingConfig(str(tmp_path), use_cpu=True)
    assert training.bf16 is False and TrainingConfig(str(tmp_path), use_cpu=True, bf16=True).bf16
    judge_file = SimpleNamespace(precision={"quantization": None}, head="lm_head", token_ids=[0, 1, 2])
    for chosen, expected in ((None, "eager"), ("sdpa", "sdpa")):
        model_config = ModelConfig(str(base), dtype="float32", attn_implementation=chosen)
        model = load_model(model_config, training, base, judge_file, None)
        assert model.config._attn_implementation == expected


def test_mistakes_in_several_keys_at_once():
    with pytest.raises(UserError, match="battles_per_step: 5 is not a multiple of 2"):
        TrainingConfig("x", battles_per_step=5, per_device_train_batch_size=2, use_cpu=True, bf16=False)
    with pytest.raises(UserError, match="2 problems:"):
        TrainingConfig("x", max_length=None, battles_per_step=9, use_cpu=True, bf16=False)


@pytest.mark.parametrize("strategy", ["no", "steps"])
def test_the_validation_loss_is_logged_once_and_disturbs_nothing(base, tmp_path, capsys, strategy):
    set_up_logging()
    evaluation = {} if strategy == "no" else {"eval_strategy": "steps", "eval_steps": 1}
    trainer = make_trainer(base, tmp_path, num_battles=7, per_device_train_batch_size=2, **evaluation)
    evaluate_at_end(trainer)
    trainer.train()
    before, log_history = adapter(trainer), list(trainer.state.log_history)
    assert len([entry for entry in log_history if "eval_log_loss" in entry]) == 1
    log_validation_loss(trainer)
    reported = [line for line in capsys.readouterr().out.splitlines() if line.startswith("validation: ")]
    expected = trainer.evaluate()
    scores = f"log loss {expected['eval_log_loss']:.4f}, accuracy {expected['eval_accuracy']:.1%}"
    assert reported == [f"validation: {scores} at step 1, on 7 battles"]
    assert trainer.state.log_history[: len(log_history)] == log_history
    assert all(torch.equal(before[name], p) for name, p in adapter(trainer).items())


@pytest.mark.parametrize("learns", [True, False])
def test_a_judge_that_has_learned_nothing_is_named(base, tmp_path, capsys, learns):
    """New rows guess evenly; here they are trained on the validation votes."""
    set_up_logging()
    options = {"max_steps": 20, "optim": "adamw_torch", "learning_rate": 1e-2} if learns else {"learning_rate": 1e-9}
    trainer = make_trainer(base, tmp_path, head="new", loss="letters", **options)
    evaluate_at_end(trainer)
    trainer.train()
    log_validation_loss(trainer)
    votes = np.array(trainer.eval_dataset["votes"][:])
    constant = (votes.sum(0) + 1) / (votes.sum() + 3)  # as the report's baseline
    expected = -np.log(constant) @ votes.mean(0)
    said = "".join(capsys.readouterr())
    assert (f"no better than the class prior, a constant guess, with {expected:.4f}" in said) != learns


@pytest.mark.parametrize("quantization", [None, NF4], ids=["float32", "nf4"])
def test_a_resumed_run_ends_with_the_same_adapter(base, tmp_path, quantization):
    """From a checkpoint, with an evaluation at the end of one of them."""
    options = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps", "per_device_train_batch_size": 2}
    options |= {"optim": "adamw_torch", "learning_rate": 1e-3, "quantization": quantization}
    trainer = make_trainer(base, tmp_path, **options)
    evaluate_at_end(trainer)
    trainer.train()
    resumed = make_trainer(base, tmp_path / "resumed", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(p, adapter(resumed)[name]) for name, p in adapter(trainer).items())


def test_a_run_that_is_resumed_after_its_last_step_takes_no_other(base, tmp_path):
    options = {"max_steps": 3, "save_steps": 3, "per_device_train_batch_size": 1, "lr_scheduler_type": "constant"}
    trainer = make_trainer(base, tmp_path, **options)
    trainer.train()
    resumed = make_trainer(base, tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.state.global_step == 3
    expected = adapter(trainer)
    assert all(torch.equal(value, expected[name]) for name, value in adapter(resumed).items())


def test_an_adapter_on_quantised_weights_is_trained_in_float32(base, tmp_path):
    """A new one, and an earlier one from exactly where it ended."""
    trainer = make_trainer(base, tmp_path, quantization=NF4)
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert trained and all(p.dtype == torch.float32 for p in trained)
    earlier = build_judge(base, tmp_path / "earlier")
    weights = load_file(earlier / "adapter_model.safetensors")
    assert any(not torch.equal(w, w.bfloat16().float()) for w in weights.values())
    started = adapter(make_trainer(base, tmp_path, quantization=NF4, earlier=earlier))
    for name, weight in weights.items():
        assert torch.equal(started[name.replace(".weight", ".default.weight")], weight)


def test_special_tokens_are_aligned_without_a_notice(base, caplog, monkeypatch):
    """As the Trainer would, which has nothing to say afterwards."""
    tokenizer, model = build_tokenizer(), load_base(base, "float32")
    model.config.pad_token_id, model.config.eos_token_id, model.generation_config.eos_token_id = 7, [8, 9], [9]
    unaligned = copy.deepcopy(model)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.INFO, "transformers"):
        align_special_tokens(model, tokenizer)
        assert "PAD/BOS/EOS" not in caplog.text
        trainer_utils.align_special_tokens(model, tokenizer)
        assert "PAD/BOS/EOS" not in caplog.text
        trainer_utils.align_special_tokens(unaligned, tokenizer)
        assert "PAD/BOS/EOS" in caplog.text
    assert model.config.to_dict() == unaligned.config.to_dict()
    assert model.generation_config.to_dict() == unaligned.generation_config.to_dict()


def test_splits_without_examples(tokenizer):
    battles = make_battles(3)
    unlabelled = Dataset(pa.Table.from_pylist([{**battle, "vote": None} for battle in battles], BATTLE_SCHEMA))
    tied = [{**battle, "vote": [0.5, 0.5, 0.0]} for battle in battles]
    labelled = Dataset(pa.Table.from_pylist(tied, BATTLE_SCHEMA))
    judge_config, options = JudgeConfig("data"), {"use_cpu": True, "bf16": False, "max_length": 700}
    training = TrainingConfig(**options)
    with pytest.raises(UserError, match="none of its 3 training battles has a vote or teachers"):
        encode_splits({"train": unlabelled}, tokenizer, judge_config, training)
    splits = select_training_data(DatasetDict(train=labelled, validation=labelled), judge_config)
    assert encode_splits(splits, tokenizer, judge_config, training).keys() == {"train", "validation"}
    splits = select_training_data(DatasetDict(train=labelled, validation=unlabelled), judge_config)
    assert encode_splits(splits, tokenizer, judge_config, training).keys() == {"train"}
    with pytest.raises(UserError, match="eval_strategy: the data set has no validation battles"):
        encode_splits(splits, tokenizer, judge_config, TrainingConfig(eval_strategy="epoch", **options))
