"""Ensembles: the arithmetic, fitted weights, files that do not belong together, and adapters in one command."""

from shutil import make_archive

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.models import build_base, build_judge
from helpers.reference_solution import reference_submission
from helpers.run import REPOSITORY, recipe
from helpers.votes import draw, simulated, table, write_votes

from lmsys_trl import Judge
from lmsys_trl.battle import winner_of
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.predictions.ensemble import (
    battle_weights,
    check_coverage,
    check_members,
    combine,
    cross_fitted_ensemble,
    fit_on_predictions,
    fit_weights,
    stack_predictions,
)
from lmsys_trl.predictions.table import PROBABILITIES, load_predictions, save_predictions


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_fitted_weights_are_those_that_the_votes_were_drawn_with(mean):
    predictions, weights = simulated(10000, 3), np.array([0.6, 0.4, 0.0])
    true = combine(predictions, weights, mean)
    assert np.allclose(true.sum(axis=1), 1)
    labels = draw(true)
    fitted = fit_weights(predictions, labels, mean)
    assert fitted == pytest.approx(weights, abs=0.06) and fitted.sum() == pytest.approx(1) and fitted.min() >= 0
    groups = np.arange(10000) // 10
    out_of_sample = cross_fitted_ensemble(predictions, labels, groups, mean)
    assert np.abs(out_of_sample - true).max() < 0.05


def test_means():
    one, other = [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]
    predictions = np.array([[one, other]])
    assert combine(predictions, np.array([0.75, 0.25]))[0] == pytest.approx([0.55, 0.2, 0.25])
    roots = np.sqrt([0.07, 0.04, 0.07])
    assert combine(predictions, np.array([0.5, 0.5]), "geometric")[0] == pytest.approx(roots / roots.sum())
    predictions[0, 1] = np.nan  # without a weight nobody looks
    assert combine(predictions, np.array([1.0, 0.0]), "geometric")[0] == pytest.approx(one)


@pytest.mark.parametrize("number", [1, 2])
def test_the_reference_submissions(number):
    """The YAMLs, on simulated predictions of 200 battles: exactly what the notebooks compute."""
    settings = yaml.safe_load((REPOSITORY / "recipes" / "ensemble" / f"submission-{number}.yaml").read_text())
    models = ("gemma-2-9b", "llama-3.1-8b", "gemma-2-2b")
    lengths, ids = np.random.default_rng(0).integers(50, 3000, 200), [f"b{i}" for i in range(200)]
    p = {
        (model, order): values
        for i, model in enumerate(models)
        for order, values in zip(("ab", "ba"), simulated(200, 2, seed=i).transpose(1, 0, 2), strict=True)
    }
    members = [name.rpartition("/")[2] for name in settings["adapter"]]
    orders = settings.get("orders", ["ab"] * len(members))
    tables = [table(p[member, order], lengths, order) for member, order in zip(members, orders, strict=True)]
    battles, predictions = stack_predictions(members, tables, orders)
    weights = battle_weights(battles, settings["weights"], settings["longest"], settings["weights_longest"])
    expected = reference_submission(number, p, lengths, ids)
    assert np.abs(combine(predictions, weights) - expected).max() < 1e-9


def ensemble(*arguments, cwd, **options) -> str:
    return recipe("ensemble.py", *arguments, cwd=cwd, **options)


def test_files(tmp_path):
    predictions = simulated(400, 2)
    labels = draw(combine(predictions, np.array([1.0, 0.0])))
    for i, name in enumerate("ab"):
        save_predictions(table(predictions[:, i], labels=labels), tmp_path / f"{name}.parquet")
    files = ["--predictions", "a.parquet", "b.parquet", "--output_file", "out.csv"]
    ensemble(*files, "--weights", "3", "1", cwd=tmp_path)
    submission = pd.read_csv(tmp_path / "out.csv")
    assert list(submission["id"]) == [f"b{i}" for i in range(400)]
    assert np.allclose(submission[PROBABILITIES], combine(predictions, np.array([0.75, 0.25])))

    output = ensemble(*files, "--fit_on", "a.parquet", "b.parquet", cwd=tmp_path)
    assert "log loss on 400 battles of 200 groups" in output
    first = float(output.split("weights: [")[1].split(",")[0])
    assert first > 0.8
    assert np.allclose(
        pd.read_csv(tmp_path / "out.csv")[PROBABILITIES], combine(predictions, np.array([first, 1 - first])), atol=1e-3
    )


def test_files_to_fit_on_in_another_order(tmp_path):
    predictions = simulated(40, 2)
    labels = draw(predictions[:, 0])
    for i, name in enumerate("ab"):
        made = table(predictions[:, i], labels=labels)
        made.attrs["judge"] = {"adapter": name, "calibrated": False}
        for kind in ("", "-votes"):
            save_predictions(made, tmp_path / f"{name}{kind}.parquet")
    files = ["--predictions", "a.parquet", "b.parquet", "--output_file", "out.csv", "--fit_on"]
    ensemble(*files, "a-votes.parquet", "b-votes.parquet", cwd=tmp_path)
    output = ensemble(*files, "b-votes.parquet", "a-votes.parquet", cwd=tmp_path, fails=True)
    assert "b-votes.parquet was predicted by another judge than a.parquet. Give the files in the order" in output
    output = ensemble(*files, "a-votes.parquet", "a-votes.parquet", cwd=tmp_path, fails=True)
    assert "fit_on: names a file twice" in output and "Traceback" not in output


def test_battles_with_the_same_ids_and_other_votes_do_not_belong_together():
    p = simulated(3, 2)
    first, second = (table(p[:, i], labels=np.array(labels)) for i, labels in enumerate(([0, 1, 2], [0, 2, 2])))
    with pytest.raises(UserError, match="y: 1 ids have another vote than in x, the first b1"):
        stack_predictions(["x", "y"], [first, second])
    stack_predictions(["x", "y"], [first, table(p[:, 1])])  # one without votes may be of the same


def test_weights_are_fitted_in_the_orders_that_are_combined():
    """The votes are from what the judge says in the order ba. One judge in two orders is two members."""
    p = simulated(2000, 2)
    labels = draw(p[:, 1])
    both = pd.concat([table(p[:, i], order=order, labels=labels) for i, order in enumerate(("ab", "ba"))])
    assert check_members(["x", "x"], None, fit_on=["x", "x"], orders=["ab", "ba"]) == []
    weights, _ = fit_on_predictions(["x", "x"], [both, both], orders=["ab", "ba"])
    assert weights[1] > 0.9
    assert "finite numbers" in check_members(["x", "y"], None, weights=[1e308, 1e308])[0]
    with pytest.raises(UserError, match="fit_on: x has no votes"):
        fit_on_predictions(["x"], [table(p[:, 0])])


def test_files_that_do_not_belong_together(tmp_path):
    p = simulated(4, 2)
    complete, less = table(p[:, 0]), table(p[:3, 1])
    battles, predictions = stack_predictions(["a", "less"], [complete, less])
    check_coverage(["a", "less"], battles, predictions, np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="less: 1 of 4 ids are missing, the first b3"):
        check_coverage(["a", "less"], battles, predictions, np.array([0.5, 0.5]))
    with pytest.raises(ValueError) as error:
        stack_predictions(["a", "odd", "more"], [less, table(p[:, 1], ids=["b0", "b1", "b1", "x"]), complete])
    for problem in (
        "odd: 1 duplicate ids, the first b1",
        "odd: 1 ids are not in a, the first x",
        "more: 1 ids are not in a, the first b3",
    ):
        assert problem in str(error.value)
    (tmp_path / "bad.parquet").write_text("id")
    with pytest.raises(ValueError, match="bad.parquet: not a predictions file"):
        load_predictions(tmp_path / "bad.parquet")

    wrong = ["--weights", "1", "1", "--orders", "ab", "--longest", "0.5", "--output_file", "out.csv"]
    output = ensemble("--predictions", "a.parquet", "b.parquet", *wrong, cwd=tmp_path, fails=True)
    assert "2 problems" in output and "orders: 1 for 2 members" in output and "give both or neither" in output
    assert "Traceback" not in output


def test_from_adapters_to_a_submission_in_one_command(tmp_path):
    """Both submissions of the reference solution with tiny judges, two of them on one base."""
    base = build_base(tmp_path / "models" / "one")
    build_base(tmp_path / "models" / "two", seed=1)
    for i, (name, model) in enumerate(
        (("gemma-2-9b", base), ("llama-3.1-8b", base), ("gemma-2-2b", tmp_path / "models" / "two"))
    ):
        build_judge(model, tmp_path / "runs" / name, seed=i)
    battles = make_battles(20, seed="test")
    write_votes(tmp_path / "test.csv", battles)
    judges = {
        name: Judge.from_pretrained(tmp_path / "runs" / name, str(tmp_path / "models" / model))
        for name, model in (("gemma-2-9b", "one"), ("llama-3.1-8b", "one"), ("gemma-2-2b", "two"))
    }
    tables = {name: judge.predict_dataset(battles, tta="swap", progress=False) for name, judge in judges.items()}
    p = {
        (name, order): t.loc[t["order"] == order, PROBABILITIES].to_numpy()
        for name, t in tables.items()
        for order in ("ab", "ba")
    }
    lengths = tables["gemma-2-9b"].loc[lambda t: t["order"] == "ab", "num_tokens"].to_numpy()
    ids = [battle["id"] for battle in battles]
    for number in (1, 2):
        ensemble(f"submission-{number}.yaml", "--test_file", "test.csv", "--output_file", "out.csv", cwd=tmp_path)
        submission = pd.read_csv(tmp_path / "out.csv")
        assert list(submission["id"]) == ids
        assert np.allclose(submission[PROBABILITIES], reference_submission(number, p, lengths, ids), atol=1e-5)
        assert not (tmp_path / "out.csv.shards").exists()


def test_members_are_named_like_any_adapter(tmp_path):
    """A folder and a zip archive; all that are missing are reported before anything is predicted."""
    base = build_base(tmp_path / "models" / "tiny")
    one = build_judge(base, tmp_path / "one")
    make_archive(tmp_path / "two", "zip", build_judge(base, tmp_path / "unpacked", seed=2))
    battles = make_battles(3, seed="test")
    write_votes(tmp_path / "test.csv", battles)
    options = ["--weights", "1", "3", "--test_file", "test.csv", "--output_file", "out.parquet"]
    output = ensemble("--adapter", "one", "two.zip", *options, cwd=tmp_path)
    assert "Next: lmsys-trl validate --predictions out.parquet" in output
    judges = [Judge.from_pretrained(folder, str(base)) for folder in (one, tmp_path / "unpacked")]
    p, q = (judge.predict_dataset(battles, progress=False)[PROBABILITIES].to_numpy() for judge in judges)
    combined = load_predictions(tmp_path / "out.parquet")
    assert np.allclose(combined[PROBABILITIES], (p + 3 * q) / 4, atol=1e-6)
    assert list(combined["winner"]) == [winner_of(battle["vote"]) for battle in battles]
    for name, judge in zip(("p", "q"), judges, strict=True):
        save_predictions(judge.predict_dataset(battles, tta="swap"), tmp_path / f"{name}.parquet")
    other_order = ["--fit_on", "q.parquet", "p.parquet", *options[3:]]
    output = ensemble("--adapter", "one", "two.zip", *other_order, cwd=tmp_path, fails=True)
    assert "q.parquet was predicted by another judge than one" in output
    output = ensemble("--adapter", "none", "three.zip", *options, cwd=tmp_path, fails=True)
    assert "2 problems" in output and "adapter none: " in output and "adapter three.zip: " in output
    output = ensemble("--adapters", "one", "two.zip", *options, cwd=tmp_path, fails=True)
    assert "adapters: was renamed. Use adapter" in output


def test_adapters_share_a_base(tmp_path):
    base, other = build_base(tmp_path / "one"), build_base(tmp_path / "two", seed=1)
    folders = [build_judge(b, tmp_path / f"judge{i}", seed=i) for i, b in enumerate((base, base, other))]
    battles = make_battles(4)
    alone = [Judge.from_pretrained(f, str(base)).predict_battles(battles, progress=False) for f in folders[:2]]
    first = Judge.from_pretrained(folders[0], str(base))
    second = Judge.from_pretrained(folders[1], str(base), share_base_with=first)
    assert second.model is first.model
    for judge, expected in ((second, alone[1]), (first, alone[0]), (second, alone[1])):  # in any order
        for a, b in zip(judge.predict_battles(battles, progress=False), expected, strict=True):
            assert a["winner_model_a"] == pytest.approx(b["winner_model_a"], abs=1e-6)
    assert abs(alone[0][0]["winner_model_a"] - alone[1][0]["winner_model_a"]) > 1e-3
    with pytest.raises(ValueError, match="not that of the judge to share with"):
        Judge.from_pretrained(folders[2], str(other), share_base_with=first)
