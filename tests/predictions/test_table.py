"""Predictions files: those of earlier versions, damaged ones, and complete ones only."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.votes import simulated, table

from lmsys_trl.predictions.table import (
    PROBABILITIES,
    check_output_file,
    load_all_predictions,
    load_predictions,
    save_predictions,
    save_predictions_as,
    warn_of_emptied,
)


def test_files_of_earlier_versions(tmp_path):
    rows = table(simulated(3, 1)[:, 0], labels=[0, 1, 2])
    record = {"adapter": "0" * 64, "temperature": 1.03, "max_length": 650, "rows": "last", "calibrated": False}
    rows.attrs["judge"] = record
    rows.to_parquet(tmp_path / "old.parquet", index=False)
    loaded = load_predictions(tmp_path / "old.parquet")
    pd.testing.assert_frame_equal(loaded, rows)
    assert loaded.attrs["judge"] == record
    rows.drop(columns=["fold", "group"]).to_parquet(tmp_path / "older.parquet", index=False)
    assert load_predictions(tmp_path / "older.parquet")["winner"].tolist() == ["model_a", "model_b", "tie"]


def test_all_files_that_cannot_be_read_are_reported(tmp_path):
    (tmp_path / "bad.parquet").write_text("id")
    rows = table(simulated(3, 1)[:, 0])
    rows.drop(columns="num_tokens").to_parquet(tmp_path / "less.parquet")
    with pytest.raises(ValueError) as error:
        load_all_predictions([tmp_path / name for name in ("none.parquet", "bad.parquet", "less.parquet")])
    message = str(error.value)
    assert message.startswith("3 problems:") and "none.parquet: there is no such file" in message
    assert "bad.parquet: not a predictions file" in message and "less.parquet: no columns num_tokens" in message


def test_both_orders_of_a_battle_or_the_order_given(tmp_path):
    both = pd.concat([table(simulated(3, 1)[:, 0], order=order) for order in ("ab", "ba")], ignore_index=True)
    both.drop(index=1).to_parquet(tmp_path / "less.parquet")
    with pytest.raises(ValueError, match="less.parquet: 1 rows in the order ba whose battle has none.*with id b1"):
        load_predictions(tmp_path / "less.parquet")


@pytest.mark.parametrize("judge", ["mine", ["mine"], {"adapter": "mine"}])
def test_what_a_file_says_of_its_judge(tmp_path, judge):
    rows = table(simulated(3, 1)[:, 0])
    rows.attrs["judge"] = judge
    rows.to_parquet(tmp_path / "odd.parquet")
    with pytest.raises(ValueError, match="odd.parquet: what it says of its judge is damaged"):
        load_predictions(tmp_path / "odd.parquet")


def test_names_of_output_files(tmp_path):
    assert check_output_file(Path("out.csv")) == check_output_file(Path("new/out.parquet")) == []
    (problem,) = check_output_file(Path("out.txt"))
    assert problem == "output_file: expected a name that ends in .csv or .parquet, found out.txt"
    (problem,) = check_output_file(Path("out.csv"), (".parquet",))
    assert problem == "output_file: expected a name that ends in .parquet, found out.csv"
    (tmp_path / "folder.csv").mkdir()
    (problem,) = check_output_file(tmp_path / "folder.csv")
    assert "folder.csv is a folder" in problem


def test_what_is_written(tmp_path):
    predictions = simulated(4, 3)
    rows = pd.concat([table(predictions[:, i], order=order) for i, order in enumerate(("ab", "ba", "mean"))])
    save_predictions_as(rows, tmp_path / "new" / "out.csv")
    submission = pd.read_csv(tmp_path / "new" / "out.csv")
    assert list(submission.columns) == ["id", *PROBABILITIES]
    assert np.allclose(submission[PROBABILITIES], rows.loc[rows["order"] == "mean", PROBABILITIES])
    save_predictions_as(rows, tmp_path / "out.parquet")
    assert len(load_predictions(tmp_path / "out.parquet")) == 12


def test_a_file_is_complete_or_as_it_was(tmp_path):
    rows, path = table(simulated(3, 1)[:, 0]), tmp_path / "out.parquet"
    save_predictions(rows, path)
    before = path.read_bytes()
    broken = rows.assign(id=[1, "text", object()])
    with pytest.raises((ValueError, TypeError)):
        save_predictions(broken, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["out.parquet"]


def test_answers_of_which_nothing_was_read(monkeypatch):
    warnings = []
    monkeypatch.setattr("lmsys_trl.predictions.table.logger.warning", lambda text, *values: warnings.append(values))
    read = table(simulated(3, 1)[:, 0])
    warn_of_emptied(read)  # older shards do not say
    lengths = {"tokens_a": [5, 5, 0], "kept_a": [5, 0, 0], "tokens_b": [5, 5, 5], "kept_b": [1, 5, 0]}
    warn_of_emptied(read.assign(**lengths))
    assert warnings == [(2, "b1")]
