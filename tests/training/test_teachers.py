import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from helpers.models import build_base, make_trainer
from helpers.run import recipe
from helpers.votes import write_votes
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file

from lmsys_trl.battle import swap_battle
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.dataset import encode_dataset
from lmsys_trl.errors import UserError
from lmsys_trl.models.base import load_base
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.models.merge import average_adapters, merge_into_base
from lmsys_trl.predictions.table import predictions_table, save_predictions
from lmsys_trl.terminal import set_up_logging
from lmsys_trl.training.losses import answer_loss, letters_loss, teacher_cosine, teacher_kl
from lmsys_trl.training.teachers import (
    check_out_of_fold,
    exclude_fold,
    join_teachers,
    read_teacher_predictions,
    select_fold,
)


def make_predictions(probabilities: dict[str, list[float]], order: str = "ab", **columns) -> pd.DataFrame:
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    rows = [{"id": i, "order": order, **dict(zip(names, p, strict=True))} for i, p in probabilities.items()]
    return predictions_table([{**row, "winner": None, "num_tokens": 1, "fold": None, **columns} for row in rows])


def make_dataset(num_battles=4, **changes) -> Dataset:
    battles = make_battles(num_battles)
    for battle in battles:
        battle |= {"swapped_from": None, "fold": None, "group": battle["id"]}
        battle.pop("probabilities", None)
    for key, values in changes.items():
        for battle, value in zip(battles, values, strict=True):
            battle[key] = value
    return Dataset.from_list(battles)


def test_losses_are_those_of_plain_torch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 2, 50, generator=generator)
    letters, labels = [7, 3, 9], torch.tensor([[7, 1], [9, 1], [3, 1], [7, 1]])
    votes = torch.tensor([[1.0, 0, 0], [0, 0.25, 0.75], [0, 1, 0], [0, 0, 0]])  # the last has no vote
    teachers = torch.rand(4, 2, 3, generator=generator)
    teachers /= teachers.sum(-1, keepdim=True)
    teachers[1] = torch.nan
    answer = letter_only = kl = cosine = 0.0
    for i in range(4):
        log_p, end = logits[i, 0].log_softmax(-1), logits[i, 1].log_softmax(-1)[1]
        answer -= (sum(votes[i, j] * log_p[letters[j]] for j in range(3)) + end) / 2
        three = logits[i, 0][letters]
        letter_only -= (votes[i] * three.log_softmax(-1)).sum()
        if i != 1:
            for p in teachers[i]:
                q, warm = (three / 2).softmax(-1), p.sqrt() / p.sqrt().sum()
                kl += 4 * torch.nn.functional.kl_div(q.log(), warm, reduction="sum") / 2
                cosine += (1 - three.softmax(-1) @ p / three.softmax(-1).norm() / p.norm()) / 2
    assert answer_loss(logits, labels, votes, letters).item() == pytest.approx(answer.item(), rel=1e-5)
    letters_of = logits[:, 0, letters]
    assert letters_loss(letters_of, votes).item() == pytest.approx(letter_only.item(), rel=1e-5)
    assert teacher_kl(letters_of, teachers, temperature=2.0).item() == pytest.approx(kl.item(), rel=1e-5)
    assert teacher_cosine(letters_of, teachers).item() == pytest.approx(cosine.item(), rel=1e-5)
    perfect = teachers[:, :1].log().squeeze(1).nan_to_num()
    assert teacher_kl(perfect, teachers[:, :1]).item() == pytest.approx(0, abs=1e-6)


def test_predictions_are_joined_by_id_and_swapped_for_swapped_copies(tmp_path):
    battles = make_dataset(3, id=["a", "b", "b-swapped"], swapped_from=[None, None, "b"])
    save_predictions(make_predictions({"b": [0.1, 0.2, 0.7], "a": [0.6, 0.3, 0.1]}), tmp_path / "one.parquet")
    both = pd.concat(
        [
            make_predictions({"a": [1.0, 0.0, 0.0], "b": [1.0, 0.0, 0.0]}),
            make_predictions({"a": [0.5, 0.4, 0.1], "b": [0.2, 0.3, 0.5]}, order="mean"),
        ]
    )
    save_predictions(both, tmp_path / "two.parquet")
    joined = join_teachers(battles, [tmp_path / "one.parquet", tmp_path / "two.parquet"])
    assert joined["teachers"][:] == [
        [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]],
        [[0.1, 0.2, 0.7], [0.2, 0.3, 0.5]],
        [[0.2, 0.1, 0.7], [0.3, 0.2, 0.5]],
    ]
    assert swap_battle(joined[1])["teachers"] == joined[2]["teachers"]


def test_missing_unknown_and_duplicate_ids_are_counted_and_refused(tmp_path, capsys):
    set_up_logging()
    battles, file = make_dataset(3, id=["a", "b", "c"]), tmp_path / "teacher.parquet"
    save_predictions(make_predictions({"a": [0.6, 0.3, 0.1], "x": [0.6, 0.3, 0.1]}), file)
    with pytest.raises(UserError) as error:
        join_teachers(battles, [file])
    assert "no prediction for 2 of 3 ids, such as b" in str(error.value)
    assert "1 unknown ids, such as x" in str(error.value)
    joined = join_teachers(battles, [file], allow_unmatched=True)
    assert joined["teachers"][:] == [[[0.6, 0.3, 0.1]], None, None]
    assert "no prediction for 2 of 3" in capsys.readouterr().err
    elsewhere = {"validation": {"x", "y"}, "removed.parquet": {"z"}}
    save_predictions(make_predictions(dict.fromkeys("abcxz", [0.6, 0.3, 0.1])), file)
    assert join_teachers(battles, [file], elsewhere=elsewhere)["teachers"][2] == [[0.6, 0.3, 0.1]]
    output = capsys.readouterr().out
    assert "1 of its predictions are on battles in validation" in output and "1 of its" in output
    save_predictions(make_predictions(dict.fromkeys("abcxu", [0.6, 0.3, 0.1])), file)
    with pytest.raises(UserError, match="1 unknown ids, such as u"):
        join_teachers(battles, [file], elsewhere=elsewhere)
    for table, message in (
        (pd.concat([make_predictions({"a": [0.6, 0.3, 0.1]})] * 2), "1 rows with the id and order of another one"),
        (make_predictions({"a": [0.6, 0.3, 0.3]}), "1 rows are not probabilities"),
    ):
        save_predictions(table, file)
        with pytest.raises(UserError, match=message):
            read_teacher_predictions(file)
    pd.DataFrame({"id": ["a"]}).to_parquet(file)
    with pytest.raises(UserError, match="no columns order, winner_model_a"):
        read_teacher_predictions(file)


def test_battles_without_a_winner_learn_from_fractions_or_teachers_alone(base, tokenizer):
    battles = make_dataset(4, vote=[[0.5, 0.25, 0.25], None, [0.0, 0.0, 1.0], None])
    teachers = [None, [[0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6]], None]
    examples = encode_dataset(battles.add_column("teachers", teachers), tokenizer, 700, "paired")
    assert examples["id"][:] == battles["id"][:3]  # the last has nothing to learn from
    assert examples["votes"][:] == [[0.5, 0.25, 0.25], [0, 0, 0], [0, 0, 1]]
    assert examples["swapped_votes"][:] == [[0.25, 0.5, 0.25], [0, 0, 0], [0, 0, 1]]
    assert np.isnan(examples["teachers"][0]).all() and np.allclose(examples["swapped_teachers"][1], [[0.8, 0.1, 0.1]])
    letters = [tokenizer.decode(labels[-2]) for labels in examples["labels"][:]]
    assert letters == ["A", "B", "C"]  # of the most likely winner


def test_the_loss_of_a_batch_is_the_weighted_mix(base, tmp_path):
    options = {"hard_weight": 0.3, "kl_weight": 0.5, "cosine_weight": 0.2}
    trainer = make_trainer(base, tmp_path, num_battles=4, **options)
    trainer.model.eval()
    predictions = torch.tensor([[[0.2, 0.3, 0.5]], [[torch.nan] * 3], [[0.7, 0.2, 0.1]], [[0.1, 0.1, 0.8]]])
    pairs = zip(trainer.train_dataset, predictions, strict=True)
    examples = [{**example, "teachers": p.tolist()} for example, p in pairs]
    total = 0.0
    for example, p in zip(examples, predictions, strict=True):
        logits = trainer.model(input_ids=torch.tensor([example["input_ids"]])).logits[0, -3:-1]
        letter, end = example["labels"][-2:]
        hard = -(logits[0].log_softmax(-1)[letter] + logits[1].log_softmax(-1)[end]) / 2
        total = total + 0.3 * hard
        if not p.isnan().any():
            q = logits[0][trainer.letters].softmax(-1)
            total = total + 0.5 * (p[0] * (p[0] / q).log()).sum()
            total = total + 0.2 * (1 - torch.cosine_similarity(q, p[0], dim=0))
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
    assert loss.item() == pytest.approx(total.item() / 4, rel=1e-5)


def make_judge_file(train: str, fold: int | None, *earlier: tuple[str, int | None]) -> JudgeFile:
    stages = [{"dataset": {"train": data}, "fold": excluded} for data, excluded in earlier]
    return JudgeFile("v", {}, 700, 700, 1.0, {}, {}, {}, dataset={"train": train}, fold=fold, earlier=stages)


def test_a_leak_is_refused():
    battles = make_dataset(4, fold=[0, 0, 1, 1], group=["x", "y", "z", "z"])
    judges = {"zero": make_judge_file("f", 0), "one": make_judge_file("f", 1)}
    check_out_of_fold(battles, "f", judges)
    check_out_of_fold(battles, "f", judges | {"one": make_judge_file("f", 1, ("g", None), ("f", 1))})
    assert exclude_fold(battles, 0)["id"][:] == select_fold(battles, 1)["id"][:] == battles["id"][2:]
    with pytest.raises(UserError, match="the data set has no fold 7. Its folds: 0, 1"):
        exclude_fold(battles, 7)
    split = make_dataset(4, fold=[0, 0, 1, 1], group=["x", "y", "y", "z"])
    other = {"zero": judges["zero"], "one": make_judge_file("g", 1)}
    without_fold = {"zero": judges["zero"], "one": make_judge_file("f", None)}
    for data, adapters, message in (
        (split, judges, "1 groups are split over several folds, the first y"),
        (battles, other, "one: was trained on another data set"),
        (battles, without_fold, "one: was trained on all folds"),
        (
            battles,
            judges | {"one": make_judge_file("f", 1, ("f", None), ("g", None))},
            "one: started from a judge that has seen fold 1",
        ),
        (battles, {"zero": judges["zero"], "two": judges["zero"]}, r"exclude the folds \[0, 0\]"),
        (battles, {"zero": judges["zero"]}, r"exclude the folds \[0\], and the data set has \[0, 1\]"),
    ):
        with pytest.raises(UserError, match=message):
            check_out_of_fold(data, "f", adapters)


TINY = ["smollm2.yaml", "--model_name_or_path", "models/tiny", "--max_length", "700", "--bf16", "false"]
TINY += ["--lora_layers_to_transform", "1", "--head", "lm_head"]  # which "cat" can average


@pytest.fixture(scope="module")
def folds(tmp_path_factory) -> Path:
    """A data set of two folds and a judge for each."""
    folder = tmp_path_factory.mktemp("folds")
    build_base(folder / "models" / "tiny")
    write_votes(folder / "votes.csv", make_battles(24))
    recipe(
        "prepare.py", "--sources", "votes.csv", "--num_folds", "2", "--validation_fraction", "0.2",
        "--output_dir", "data", cwd=folder,
    )  # fmt: skip
    for fold in (0, 1):
        recipe(
            "sft.py", *TINY, "--dataset_name", "data", "--fold", fold, "--output_dir", f"runs/fold{fold}",
            "--learning_rate", "1e-2", cwd=folder,
        )  # fmt: skip
    return folder


def test_from_teachers_to_a_student(folds):
    """Distillation: the judges of the folds, their predictions, and a student that starts from one of them."""
    command = ["out_of_fold.py", "--adapter", "runs/fold0", "runs/fold1", "--dataset_name", "data", "--tta", "swap"]
    output = recipe(*command, "--output_file", "teacher.parquet", cwd=folds)
    assert "each predicted by a judge that has not seen its group" in output
    battles = pd.read_parquet(folds / "data" / "battles" / "train.parquet")
    predictions = pd.read_parquet(folds / "teacher.parquet")
    mean = predictions[predictions["order"] == "mean"].set_index("id")
    assert sorted(mean.index) == sorted(battles["id"])
    assert mean.loc[battles["id"], "fold"].tolist() == battles["fold"].tolist()

    student = ["sft.py", *TINY, "--dataset_name", "data", "--teacher_files", "teacher.parquet"]
    stage = ["--adapter_name_or_path", "runs/fold0", "--hard_weight", "0.5", "--learning_rate", "1e-5"]
    recipe(*student, *stage, "--output_dir", "runs/student", cwd=folds)
    start, end = (load_file(folds / "runs" / name / "adapter_model.safetensors") for name in ("fold0", "student"))
    assert start.keys() == end.keys() and any(not torch.equal(start[name], end[name]) for name in start)
    assert all(torch.allclose(start[name], end[name], atol=1e-3) for name in start)
    assert json.loads((folds / "runs" / "student" / "judge.json").read_text())["fold"] is None
    output = recipe(*student, *stage, "--lora_r", "3", "--output_dir", "runs/other", cwd=folds, fails=True)
    assert "r: 16, not 3" in output and "Traceback" not in output


def test_averages_of_adapters(folds):
    """Against PEFT: the mean of A and B, and the exact mean of their products."""
    adapters = [folds / "runs" / "fold0", folds / "runs" / "fold1"]
    for method in ("mean", "cat"):
        output = recipe(
            "merge.py", "--adapter", *adapters, "--method", method, "--output_dir", method, "--test_file",
            "votes.csv", cwd=folds,
        )  # fmt: skip
        assert output.count("log loss") == 4 and "on 24 votes" in output

    def products(folder):
        model = load_base(folds / "models" / "tiny", "float32")
        before = model.model.layers[1].self_attn.q_proj.weight.clone()
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
        return model.model.layers[1].self_attn.q_proj.weight - before

    parts = [load_file(adapter / "adapter_model.safetensors") for adapter in adapters]
    name = next(name for name in parts[0] if "q_proj.lora_A" in name)
    mean_a, mean_b = ((parts[0][key] + parts[1][key]) / 2 for key in (name, name.replace("lora_A", "lora_B")))
    assert torch.allclose(products(folds / "mean"), 2 * mean_b @ mean_a, atol=1e-6)  # alpha / r = 2
    exact = (products(adapters[0]) + products(adapters[1])) / 2
    assert exact.abs().max() > 1e-4 and torch.allclose(products(folds / "cat"), exact, atol=1e-6)
    assert LoraConfig.from_pretrained(folds / "cat").r == 32


def test_an_adapter_merged_into_its_base_judges_alike(folds):
    output = recipe(
        "merge.py", "--adapter", "runs/fold0", "--output_dir", "models/merged", "--test_file", "votes.csv", cwd=folds
    )
    before, after = [line.split("log loss ")[1] for line in output.splitlines() if "log loss" in line]
    assert before == after
    config = json.loads((folds / "models" / "tiny" / "config.json").read_text())
    shutil.copytree(folds / "models" / "tiny", folds / "few_bits")
    (folds / "few_bits" / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    )
    with pytest.raises(UserError, match="its weights are quantised"):
        merge_into_base(folds / "runs" / "fold0", str(folds / "few_bits"), folds / "nothing")


def test_unlike_adapters_are_not_averaged(folds):
    other = folds / "other"
    shutil.copytree(folds / "runs" / "fold1", other, ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 7}))
    with pytest.raises(UserError, match="not like .*fold0:\\n.*other: lora_alpha: 7, not 32"):
        average_adapters([folds / "runs" / "fold0", other], "mean")
