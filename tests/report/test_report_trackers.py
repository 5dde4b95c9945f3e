"""What trackers get of a report, without a network. Each is skipped where its package is missing."""

import json
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from helpers.run import recipe
from helpers.trackers import tensorboard_events, trackio_rows, wandb_environment, wandb_record
from helpers.votes import draw, simulated, table

from lmsys_trl.errors import UserError
from lmsys_trl.predictions.table import save_predictions
from lmsys_trl.report import trackers
from lmsys_trl.report.trackers import report_values, start_trackers

INSTALLED = [name for name in ("tensorboard", "wandb", "trackio") if find_spec(name)]
NUM = 40


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with predictions in both orders, and a report of them that was logged to all trackers there are."""
    folder = tmp_path_factory.mktemp("tracked")
    ab, ba = simulated(NUM, 2).transpose(1, 0, 2)
    labels = draw(ab)
    orders = {"ab": ab, "ba": ba, "mean": (ab + ba) / 2}
    rows = [table(p, np.arange(NUM) + 50, order, labels) for order, p in orders.items()]
    save_predictions(pd.concat(rows, ignore_index=True), folder / "p.parquet")
    environment = {**wandb_environment(folder), "TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1"}
    tracked = ["--report_to", *INSTALLED, "--project", "votes"] if INSTALLED else []
    options = ["--predictions", "p.parquet", "--output_dir", "report", *tracked]
    recipe("validate.py", *options, cwd=folder, **environment)
    return folder


@pytest.fixture(scope="module")
def values(project):
    return report_values(json.loads((project / "report" / "metrics.json").read_text()))


@pytest.fixture(scope="module")
def plots(project):
    names = sorted(f"plots/{path.stem}" for path in (project / "report" / "plots").glob("*.png"))
    assert len(names) > 3
    return names


def test_the_values_are_those_of_the_report(project, values):
    figures = json.loads((project / "report" / "metrics.json").read_text())
    (judge,) = figures["judges"].values()
    assert values["report/log_loss"] == judge["log_loss"]["value"] == values["report/mean/log_loss"]
    assert values["report/ba/ece"] == judge["orders"]["ba"]["ece"]["value"]
    assert values["report/flip_rate"] == judge["position"]["flip_rate"]["value"]
    assert values["report/baselines/uniform/log_loss"] == pytest.approx(np.log(3))
    several = report_values(figures | {"judges": {"x": judge, "y": judge}, "best_possible": judge})
    assert several["report/y/ab/brier_score"] == values["report/ab/brier_score"]
    assert several["report/best_possible/accuracy"] == values["report/accuracy"] and "report/accuracy" not in several


def test_tensorboard(project, values, plots):
    pytest.importorskip("tensorboard")
    events = tensorboard_events(project / "report" / "runs" / "report")
    assert {name: events.Scalars(name)[0].value for name in values} == pytest.approx(values)
    assert sorted(events.Tags()["images"]) == plots
    png = (project / "report" / f"{plots[0]}.png").read_bytes()
    image = events.Images(plots[0])[0]
    assert (image.width, image.height) == tuple(int.from_bytes(png[k : k + 4]) for k in (16, 20))


def test_wandb(project, values, plots):
    pytest.importorskip("wandb")
    content = wandb_record(project)
    assert [name for name in (*values, *plots, "votes", "validate.py") if name.encode() not in content] == []
    assert len(list((project / "wandb").glob("offline-run-*/files/media/images/plots/*.png"))) == len(plots)


def test_trackio(project, values, plots):
    pytest.importorskip("trackio")
    (row,) = trackio_rows(project / "trackio")
    assert [name for name in (*values, *plots) if name not in row] == []
    assert "votes" in {path.stem for path in (project / "trackio").glob("*.db")}


def test_a_tracker_that_is_missing_or_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "get_available_trackers", list)
    assert trackers.check_trackers(["wandb"]) == [
        "report_to: the package of wandb is missing. Install it: pip install wandb"
    ]

    def refuse(self):
        raise RuntimeError("no API key\nmore")

    monkeypatch.setattr(trackers.WandBTracker, "start", refuse)
    with pytest.raises(UserError, match="^report_to: wandb does not start: no API key$"):
        start_trackers(["wandb"], None, None, tmp_path)
