"""Ensembles: the arithmetic, fitted weights, files that do not belong together, and adapters in one command."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY, build_base, recipe, write_votes
from test_judge import build_judge

from lmsys_trl import Judge
from lmsys_trl.battle import WINNERS
from lmsys_trl.ensembles import (
    combine,
    cross_fitted_ensemble,
    fit_weights,
    refuse_missing,
    stack_forecasts,
    weights_of_battles,
)
from lmsys_trl.predictions import PROBABILITIES, load_predictions, predictions_table, save_predictions
from lmsys_trl.synthetic import make_battles


def simulated(num_battles: int, members: int, seed: int = 0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(num_battles, members, 3))
    return np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)


def draw(probabilities: np.ndarray, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random((len(probabilities), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)


def table(probabilities, lengths=None, order="ab", labels=None, ids=None) -> pd.DataFrame:
    rows = [
        {
            "id": ids[i] if ids else f"b{i}",
            "order": order,
            **dict(zip(PROBABILITIES, triple, strict=True)),
            "winner": WINNERS[labels[i]] if labels is not None else None,
            "num_tokens": lengths[i] if lengths is not None else 100,
            "group": f"g{i // 2}",
        }
        for i, triple in enumerate(probabilities)
    ]
    return predictions_table(rows)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_fitted_weights_are_those_that_the_votes_were_drawn_with(mean):
    forecasts, weights = simulated(10000, 3), np.array([0.6, 0.4, 0.0])
    truth = combine(forecasts, weights, mean)
    assert np.allclose(truth.sum(axis=1), 1)
    labels = draw(truth)
    fitted = fit_weights(forecasts, labels, mean)
    assert fitted == pytest.approx(weights, abs=0.06) and fitted.sum() == pytest.approx(1) and fitted.min() >= 0
    groups = np.arange(10000) // 10
    honest = cross_fitted_ensemble(forecasts, labels, groups, mean)
    assert np.abs(honest - truth).max() < 0.05


def test_means():
    one, other = [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]
    forecasts = np.array([[one, other]])
    assert combine(forecasts, np.array([0.75, 0.25]))[0] == pytest.approx([0.55, 0.2, 0.25])
    roots = np.sqrt([0.07, 0.04, 0.07])
    assert combine(forecasts, np.array([0.5, 0.5]), "geometric")[0] == pytest.approx(roots / roots.sum())
    forecasts[0, 1] = np.nan  # without a weight nobody looks
    assert combine(forecasts, np.array([1.0, 0.0]), "geometric")[0] == pytest.approx(one)


def test_the_seeds_submissions_by_hand(tmp_path):
    """Four battles of growing length, ten for the tenth; each member says one thing of all."""
    a, b, c = [0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]
    for name, expected_longest, share in (("submission-1.yaml", 5, 0.5), ("submission-2.yaml", 1, 0.1)):
        settings = yaml.safe_load((REPOSITORY / "recipes" / name).read_text())
        assert settings["longest"] == share
        lengths = [30, 10, 20, 40, 100, 50, 60, 70, 80, 90]
        third = [i for i in range(10) if lengths[i] > 100 - 10 * expected_longest]
        tables = [table([a] * 10, lengths), table([b] * 10), table([c] * len(third), ids=[f"b{i}" for i in third])]
        battles, forecasts = stack_forecasts(["a", "b", "c"], tables)
        weights = weights_of_battles(battles, settings["weights"], settings["longest"], settings["weights_longest"])
        combined = combine(forecasts, weights)
        for i in range(10):
            w = {"submission-1.yaml": (0.55, 0.40, 0.05), "submission-2.yaml": (0.50, 0.25, 0.25)}[name]
            w = w if i in third else (0.55, 0.45, 0)
            assert combined[i] == pytest.approx(w[0] * np.array(a) + w[1] * np.array(b) + w[2] * np.array(c))


def ensemble(*arguments, cwd, **options) -> str:
    return recipe("ensemble.py", *arguments, cwd=cwd, **options)


def test_files(tmp_path):
    forecasts = simulated(400, 2)
    labels = draw(combine(forecasts, np.array([1.0, 0.0])))
    for i, name in enumerate("ab"):
        save_predictions(table(forecasts[:, i], labels=labels), tmp_path / f"{name}.parquet")
    files = ["--predictions", "a.parquet", "b.parquet", "--output_file", "out.csv"]
    ensemble(*files, "--weights", "3", "1", cwd=tmp_path)
    submission = pd.read_csv(tmp_path / "out.csv")
    assert list(submission["id"]) == [f"b{i}" for i in range(400)]
    assert np.allclose(submission[PROBABILITIES], combine(forecasts, np.array([0.75, 0.25])))

    output = ensemble(*files, "--fit_on", "a.parquet", "b.parquet", cwd=tmp_path)
    assert "log loss on 400 battles of 200 groups" in output
    first = float(output.split("weights: [")[1].split(",")[0])
    assert first > 0.8
    assert np.allclose(
        pd.read_csv(tmp_path / "out.csv")[PROBABILITIES], combine(forecasts, np.array([first, 1 - first])), atol=1e-3
    )


def test_files_that_do_not_belong_together(tmp_path):
    p = simulated(4, 2)
    whole, less = table(p[:, 0]), table(p[:3, 1])
    battles, forecasts = stack_forecasts(["a", "less"], [whole, less])
    refuse_missing(["a", "less"], battles, forecasts, np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="less: 1 of 4 ids are missing, the first b3"):
        refuse_missing(["a", "less"], battles, forecasts, np.array([0.5, 0.5]))
    with pytest.raises(ValueError) as error:
        stack_forecasts(["a", "odd", "more"], [less, table(p[:, 1], ids=["b0", "b1", "b1", "x"]), whole])
    for problem in (
        "odd: 1 ids stand in it twice, the first b1",
        "odd: 1 ids are not in a, the first x",
        "more: 1 ids are not in a, the first b3",
    ):
        assert problem in str(error.value)
    (tmp_path / "bad.parquet").write_text("id")
    with pytest.raises(ValueError, match="bad.parquet: not a file of forecasts"):
        load_predictions(tmp_path / "bad.parquet")

    mistakes = ["--weights", "1", "1", "--orders", "ab", "--longest", "0.5", "--output_file", "out.csv"]
    output = ensemble("--predictions", "a.parquet", "b.parquet", *mistakes, cwd=tmp_path, fails=True)
    assert "2 mistakes" in output and "orders: 1 for 2 members" in output and "give both or neither" in output
    assert "Traceback" not in output


def test_from_adapters_to_a_submission_in_one_command(tmp_path):
    """Both submissions of the 38th place with tiny judges, two of them on one base."""
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
    g, l1, l2, small = (
        p["gemma-2-9b", "ab"], p["llama-3.1-8b", "ab"], p["llama-3.1-8b", "ba"], p["gemma-2-2b", "ab"],
    )  # fmt: skip
    lengths = tables["gemma-2-9b"].loc[lambda t: t["order"] == "ab", "num_tokens"].to_numpy()
    ranks = np.empty(20, dtype=int)
    ranks[sorted(range(20), key=lambda i: (-lengths[i], battles[i]["id"]))] = np.arange(20)
    for name, share, expected in (
        ("submission-1.yaml", 10, 0.55 * g + 0.40 * l1 + 0.05 * small),
        ("submission-2.yaml", 2, 0.50 * g + 0.25 * l1 + 0.25 * l2),
    ):
        ensemble(name, "--test_file", "test.csv", "--output_file", "out.csv", cwd=tmp_path)
        longest = (ranks < share)[:, None]
        submission = pd.read_csv(tmp_path / "out.csv")
        assert list(submission["id"]) == [battle["id"] for battle in battles]
        assert np.allclose(submission[PROBABILITIES], np.where(longest, expected, 0.55 * g + 0.45 * l1), atol=1e-5)
        assert not (tmp_path / "out.csv.parts").exists()


def test_adapters_beside_each_other(tmp_path):
    base, other = build_base(tmp_path / "one"), build_base(tmp_path / "two", seed=1)
    folders = [build_judge(b, tmp_path / f"judge{i}", seed=i) for i, b in enumerate((base, base, other))]
    battles = make_battles(4)
    alone = [Judge.from_pretrained(f, str(base)).predict_battles(battles, progress=False) for f in folders[:2]]
    first = Judge.from_pretrained(folders[0], str(base))
    second = Judge.from_pretrained(folders[1], str(base), beside=first)
    assert second.model is first.model
    for judge, expected in ((second, alone[1]), (first, alone[0]), (second, alone[1])):  # in whatever turn
        for a, b in zip(judge.predict_battles(battles, progress=False), expected, strict=True):
            assert a["winner_model_a"] == pytest.approx(b["winner_model_a"], abs=1e-6)
    assert abs(alone[0][0]["winner_model_a"] - alone[1][0]["winner_model_a"]) > 1e-3
    with pytest.raises(ValueError, match="not that of the judge beside it"):
        Judge.from_pretrained(folders[2], str(other), beside=first)
