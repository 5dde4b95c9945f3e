"""Which predictions stand for votes, and the way from battles without votes to a data set."""

import json

import numpy as np
import pytest
from helpers.models import build_base, build_judge
from helpers.run import recipe
from helpers.votes import simulated, table, write_votes

from lmsys_trl.data.dataset import load_battles
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.predictions.pseudo_labels import choose_pseudo_labels

AGREED = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.65, 0.3, 0.05], [0.4, 0.35, 0.25]])


def test_judges_must_agree_and_be_sure():
    other = AGREED[:, [0, 1, 2]].copy()
    other[1] = [0.5, 0.4, 0.1]  # another winner
    other[3] = [0.55, 0.4, 0.05]  # the same one, with less confidence
    labels, reasons = choose_pseudo_labels([table(AGREED), table(other)], 0.6, balance=False)
    assert list(labels.index) == ["b0", "b2"]
    assert reasons == {"the judges disagree": 1, "a judge is not sure": 2}
    labels, _ = choose_pseudo_labels([table(AGREED), table(other)], 0.5, balance=False)
    assert list(labels.index) == ["b0", "b2", "b3"]
    assert labels.loc["b3"].tolist() == pytest.approx([0.6, 0.35, 0.05])


def test_balanced_labels_do_not_depend_on_the_order_of_the_battles():
    probabilities, ids = simulated(300, 1, seed=3)[:, 0], [f"b{i}" for i in range(300)]
    labels, reasons = choose_pseudo_labels([table(probabilities, ids=ids)], 0.6, balance=True)
    counts = np.bincount(labels.to_numpy().argmax(axis=1), minlength=3)
    unbalanced, _ = choose_pseudo_labels([table(probabilities, ids=ids)], 0.6, balance=False)
    assert counts.tolist() == [np.bincount(unbalanced.to_numpy().argmax(axis=1)).min()] * 3
    assert reasons["another winner is rarer"] == len(unbalanced) - len(labels) > 0
    backwards, _ = choose_pseudo_labels([table(probabilities[::-1], ids=ids[::-1])], 0.6, balance=True)
    assert set(backwards.index) == set(labels.index)


def test_from_battles_without_votes_to_a_data_set(tmp_path):
    base = build_base(tmp_path / "models" / "tiny")
    for seed, name in enumerate(("a", "b")):
        build_judge(base, tmp_path / name, seed=seed)
    write_votes(tmp_path / "votes.csv", make_battles(20))
    unlabelled = make_battles(40, seed="unlabelled")
    fields = ("id", "prompt", "response_a", "response_b")
    rows = [json.dumps({key: battle[key] for key in fields}) for battle in unlabelled]
    (tmp_path / "unlabelled.jsonl").write_text("\n".join(rows))
    options = ["--adapter", "a", "b", "--test_file", "unlabelled.jsonl", "--output_file", "pseudo.jsonl"]
    output = recipe("pseudo_label.py", *options, "--min_confidence", "1", cwd=tmp_path, fails=True)
    assert "none of the 40 battles is labelled" in output and "Lower min_confidence" in output
    output = recipe("pseudo_label.py", *options, "--min_confidence", "0.3", cwd=tmp_path)
    assert "of 40 battles are labelled" in output and "Left out: " in output
    labels = [json.loads(line) for line in (tmp_path / "pseudo.jsonl").read_text().splitlines()]
    assert 0 < len(labels) <= 40
    output = recipe("prepare.py", "--sources", "votes.csv", "pseudo.jsonl", "--output_dir", "data", cwd=tmp_path)
    battles = load_battles(str(tmp_path / "data"))
    prepared = {battle["id"]: battle for split in battles.values() for battle in split if battle["source"] == "pseudo"}
    texts = {battle["id"]: battle["response_a"] for battle in unlabelled}
    assert len(prepared) >= len(labels) - 2  # but for battles that the votes have too
    for label in labels:
        if label["id"] in prepared:
            vote = [label[f"winner_{winner}"] for winner in ("model_a", "model_b", "tie")]
            assert prepared[label["id"]]["vote"] == pytest.approx(vote)
            assert prepared[label["id"]]["response_a"] == texts[label["id"]]
    output = recipe("pseudo_label.py", *options, "--min_confidence", "2", cwd=tmp_path, fails=True)
    assert "min_confidence" in output and "from 0 to 1" in output
    output = recipe("pseudo_label.py", *options, cwd=tmp_path, fails=True)
    assert "pseudo.jsonl exists already" in output
