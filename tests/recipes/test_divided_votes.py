"""Votes that are fractions: every verb scores predictions by them, as winners drawn from them would on average."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.models import build_judge
from helpers.run import recipe
from helpers.votes import write_votes

from lmsys_trl.data.columns import VOTE_COLUMNS, WINNER_COLUMNS
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.predictions.table import PROBABILITIES

DIVIDED = [[0.6, 0.3, 0.1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]]


@pytest.fixture(scope="module")
def judges(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("divided")
    shutil.copytree(base, folder / "models" / "tiny")
    for seed in (1, 2):
        build_judge(base, folder / f"judge-{seed}", seed=seed)
    return folder


@pytest.fixture(scope="module", params=["own", "case"])
def project(request, judges):
    """Judges, votes.csv, and the fractions in it."""
    if request.param == "case":
        shutil.copy(request.getfixturevalue("assets") / "cases" / "shares_only.csv", judges / "votes.csv")
    else:
        write_votes(judges / "votes.csv", make_battles(40, seed="divided"))
        table = pd.read_csv(judges / "votes.csv")
        table[[*WINNER_COLUMNS]] = DIVIDED * 10
        table.to_csv(judges / "votes.csv", index=False)
    for seed in (1, 2):
        (judges / f"{seed}.parquet").unlink(missing_ok=True)
        arguments = ["--adapter", f"judge-{seed}", "--test_file", "votes.csv", "--output_file", f"{seed}.parquet"]
        assert "Next: lmsys-trl validate" in recipe("predict.py", *arguments, cwd=judges)
    return judges, pd.read_csv(judges / "votes.csv")[[*WINNER_COLUMNS]].to_numpy()


def expected_scores(p: np.ndarray, votes: np.ndarray) -> dict[str, float]:
    """The mean of each metric over the winners of a battle, weighted by their fractions."""
    of_winner = {
        "log_loss": -np.log(p),
        "accuracy": p == p.max(axis=1, keepdims=True),
        "brier_score": ((p[:, None] - np.eye(3)) ** 2).sum(axis=2),
    }
    return {name: (votes * values).sum(axis=1).mean() for name, values in of_winner.items()}


def test_predict_keeps_the_fractions(project):
    folder, votes = project
    assert pd.read_parquet(folder / "1.parquet")[VOTE_COLUMNS].to_numpy() == pytest.approx(votes)


@pytest.mark.parametrize(
    "source", [["--adapter", "judge-1", "--test_file", "votes.csv"], ["--predictions", "1.parquet"]]
)
def test_validate(project, source):
    folder, votes = project
    recipe("validate.py", *source, "--output_dir", "report", "--overwrite", cwd=folder)
    (figures,) = json.loads((folder / "report" / "metrics.json").read_text())["judges"].values()
    table = pd.read_parquet(folder / "report" / "predictions.parquet")
    for name, value in expected_scores(table.query("order == 'ab'")[PROBABILITIES].to_numpy(), votes).items():
        assert figures["orders"]["ab"][name]["value"] == pytest.approx(value), name
    shutil.rmtree(folder / "report")


def test_calibrate_merge_and_ensemble(project):
    folder, votes = project
    predictions = [pd.read_parquet(folder / f"{number}.parquet")[PROBABILITIES].to_numpy() for number in (1, 2)]
    losses = [f"{expected_scores(p, votes)['log_loss']:.4f}" for p in predictions]
    arguments = ["--adapter", "judge-1", "judge-2", "--output_dir", "merged", "--test_file", "votes.csv"]
    merged = recipe("merge.py", *arguments, cwd=folder).splitlines()
    files = ["1.parquet", "2.parquet"]
    arguments = ["--predictions", *files, "--fit_on", *files, "--output_file", "mean.csv"]
    ensemble = recipe("ensemble.py", *arguments, cwd=folder)
    for number, loss in enumerate(losses, 1):
        (line,) = [line for line in merged if line.startswith(f"judge-{number} ")]
        assert line.endswith(f"log loss {loss} on {len(votes)} votes") and f"{loss}  {number}.parquet" in ensemble
    shutil.copytree(folder / "judge-1", folder / "calibrated")
    output = recipe("calibrate.py", "--adapter", "calibrated", "--predictions", "1.parquet", cwd=folder)
    assert f"log loss {losses[0]}, after" in output and f"groups of {len(votes)} battles" in output
    for name in ("merged", "calibrated"):
        shutil.rmtree(folder / name)
