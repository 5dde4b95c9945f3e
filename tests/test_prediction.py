"""Prediction at any size: whatever the batch, the order, the processes and the kills; second orders; calibration."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, build_base, recipe, write_votes
from datasets import Dataset
from test_ensemble import draw, simulated, table
from test_judge import build_judge
from transformers import Gemma2Config, Gemma2ForCausalLM

from lmsys_trl import Judge
from lmsys_trl.base_models import load_base
from lmsys_trl.batching import share_out, token_batches
from lmsys_trl.battle import BATTLE_FEATURES
from lmsys_trl.calibration import apply_calibration, best_calibration
from lmsys_trl.orders import parse_tta, second_order
from lmsys_trl.parts import Parts
from lmsys_trl.predictions import PROBABILITIES, load_predictions, probabilities_of, save_predictions, votes_and_groups
from lmsys_trl.rows import encode_battle
from lmsys_trl.synthetic import make_battles


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a base model, a judge, and battles in a file."""
    folder = tmp_path_factory.mktemp("project")
    base = build_base(folder / "models" / "tiny")
    build_judge(base, folder / "judge")
    write_votes(folder / "test.csv", make_battles(30, seed="test"))
    return folder


@pytest.fixture(scope="module")
def judge(project):
    return Judge.from_pretrained(project / "judge", str(project / "models" / "tiny"))


@pytest.fixture(scope="module")
def battles():
    return make_battles(30, seed="test")


@pytest.fixture(scope="module")
def both(judge, battles):
    return judge.predict_dataset(battles, tta="swap", progress=False)


def as_dataset(battles) -> Dataset:
    rows = [{name: battle.get(name) for name in BATTLE_FEATURES} for battle in battles]
    return Dataset.from_list(rows, features=BATTLE_FEATURES)


def test_batch_order_and_stretch_do_not_matter(judge, battles, both):
    for options in ({"max_tokens_per_batch": 1}, {"battles_per_part": 7}, {"max_tokens_per_batch": 10**6}):
        other = judge.predict_dataset(as_dataset(battles), tta="swap", progress=False, **options)
        assert list(other["id"]) == list(both["id"]) and list(other["order"]) == ["ab", "ba", "mean"] * 30
        assert np.allclose(other[PROBABILITIES], both[PROBABILITIES], atol=1e-5)
    backwards = judge.predict_dataset(battles[::-1], tta="swap", progress=False)
    merged = both.merge(backwards, on=["id", "order"], suffixes=("", "_backwards"))
    assert len(merged) == 90
    for name in PROBABILITIES:
        assert np.allclose(merged[name], merged[f"{name}_backwards"], atol=1e-5)
    assert list(both["winner"][::3]) == [battle["winner"] for battle in battles]
    assert both["group"].nunique() < 30  # battles of the generator share prompts


def test_kills_and_processes_do_not_matter(project, both):
    """Killed hard after the second part, gone on in two processes: equal to one process and no kill."""
    two = (REPOSITORY / "accelerate_configs" / "cpu.yaml").read_text()
    two = two.replace('distributed_type: "NO"', "distributed_type: MULTI_GPU")
    (project / "two.yaml").write_text(two.replace("num_processes: 1", "num_processes: 2"))
    arguments = ["--adapter", "judge", "--test_file", "test.csv", "--output_file", "out.parquet", "--tta", "swap"]
    arguments += ["--max_tokens_per_batch", "700", "--battles_per_part"]
    command = [sys.executable, str(REPOSITORY / "recipes" / "predict.py"), *arguments, "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.DEVNULL)
    folder, over = project / "out.parquet.parts", time.monotonic() + 300
    while len(list(folder.glob("ab-*.parquet"))) < 2 and process.poll() is None and time.monotonic() < over:
        time.sleep(0.001)
    process.kill()
    assert process.wait() != 0 and not (project / "out.parquet").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-*.parquet")}
    assert 2 <= len(kept) < 60
    copy = shutil.copytree(folder, project / "copy.parts")
    assert json.loads((copy / "record.json").read_text())["max_length"] == 650

    output = recipe("predict.py", *arguments, "4", cwd=project, launch=["--config_file", project / "two.yaml"])
    assert output.count("30 battles predicted") == 1 and not folder.exists()
    assert f"{len(kept)}/30" in output or len(kept) > 30  # goes on where the other ended
    predictions = load_predictions(project / "out.parquet")
    assert list(predictions["id"]) == list(both["id"]) and list(predictions["order"]) == list(both["order"])
    assert np.allclose(predictions[PROBABILITIES], both[PROBABILITIES], atol=1e-5)
    pd.testing.assert_frame_equal(predictions.drop(columns=PROBABILITIES), both.drop(columns=PROBABILITIES))

    # Parts of other settings are not taken for those of these.
    os.rename(copy, folder)
    output = recipe("predict.py", *arguments, "4", "--max_length", "400", cwd=project, fails=True)
    assert "max_length: 650 then, 400 now" in output and "Traceback" not in output
    shutil.rmtree(folder)


def test_parts_of_other_data_are_refused_and_whole_ones_are_not_computed_again(judge, battles, tmp_path):
    data = as_dataset(battles[:6])
    first = judge.predict_dataset(data, progress=False, parts=tmp_path / "p", battles_per_part=2)
    (changed,) = sorted((tmp_path / "p").glob("ab-*.parquet"))[1:2]
    part = pd.read_parquet(changed)
    part[PROBABILITIES] = [0.5, 0.25, 0.25]
    save_predictions(part, changed)
    again = judge.predict_dataset(data, tta="swap", progress=False, parts=tmp_path / "p")
    given = probabilities_of(again, "ab")
    assert np.allclose(given[2:4], [0.5, 0.25, 0.25])
    assert np.allclose(given[[0, 1, 4, 5]], probabilities_of(first, "ab")[[0, 1, 4, 5]])
    with pytest.raises(ValueError, match="data: .* then, .* now"):
        judge.predict_dataset(as_dataset(battles[:5]), progress=False, parts=tmp_path / "p")
    parts = Parts(tmp_path / "q", {"adapter": "x"})
    assert list(parts.missing("ab", np.arange(3))) == [0, 1, 2]


def test_second_orders_against_brute_force(judge, battles, both):
    ab, ba = probabilities_of(both, "ab"), probabilities_of(both, "ba")
    ids = [battle["id"] for battle in battles]
    tokens = both["num_tokens"].to_numpy()[::3]
    for tta, key, number in (
        ("uncertain:0.33", lambda i: ab[i].max(), 10),
        ("longest:0.1", lambda i: (-tokens[i], ids[i]), 3),
    ):
        chosen = set(sorted(range(30), key=key)[:number])
        found = judge.predict_dataset(battles, tta=tta, progress=False)
        assert set(found.loc[found["order"] == "ba", "id"]) == {ids[i] for i in chosen}
        expected = [(ab[i] + ba[i]) / 2 if i in chosen else ab[i] for i in range(30)]
        assert np.allclose(probabilities_of(found, "mean"), expected, atol=1e-5)
        assert np.allclose(probabilities_of(found, "ab"), ab, atol=1e-5)
    assert list(judge.predict_dataset(battles, progress=False)["order"]) == ["ab"] * 30
    equal = np.full((4, 3), 1 / 3) + np.array([[0], [1e-9], [-1e-9], [0]])
    assert list(second_order("uncertain:0.5", equal, np.ones(4), np.array(list("dcba")))) == [False, False, True, True]
    assert parse_tta("swap") == ("swap", 1)
    for wrong in ("twice", "none:0.5", "uncertain", "longest:0", "longest:2", "uncertain:x"):
        with pytest.raises(ValueError, match="is none of none, swap"):
            parse_tta(wrong)


def test_all_rows_are_averaged(judge, battles):
    few = [battle for battle in battles if len(battle["prompt"]) > 1][:3]
    found = judge.predict_dataset(few, rows="all", max_length=330, progress=False)
    num_rows = []
    for battle, forecast in zip(few, found[PROBABILITIES].to_numpy(), strict=True):
        rows = encode_battle({**battle, "winner": None}, judge.tokenizer, 330)
        num_rows.append(len(rows))
        with torch.no_grad():
            logits = [judge.model(input_ids=torch.tensor([row["input_ids"]])).logits[0, -1] for row in rows]
        letters = judge.tokenizer.convert_tokens_to_ids(list("ABC"))
        expected = np.mean([(one[letters] / 1.03).softmax(-1).numpy() for one in logits], axis=0)
        assert forecast == pytest.approx(expected, abs=1e-5)
    assert max(num_rows) > 1
    with pytest.raises(ValueError, match="rows: 'first' is none of last, all"):
        judge.predict_dataset(few, rows="first")


def test_what_cannot_be_predicted_is_told(judge, battles, project):
    with pytest.raises(ValueError, match="rows of 4000 tokens are longer than the 2048 that the base model can read"):
        judge.predict_dataset(battles, max_length=4000)
    with pytest.raises(ValueError, match="battles: no response_b"):
        judge.predict_dataset(as_dataset(battles).remove_columns("response_b"))
    assert list(judge.predict_dataset([]).columns) == list(judge.predict_dataset(battles[:1], progress=False).columns)
    broken = Judge.from_pretrained(project / "judge", str(project / "models" / "tiny"))
    broken.model.get_output_embeddings().weight.data[:] = torch.nan
    with pytest.raises(ValueError, match="forecasts of 2 battles are not numbers, the first that of"):
        broken.predict_dataset(battles[:2], progress=False)


def test_precision_is_a_choice(judge, battles, project, both):
    """sdpa where the judge was trained with eager; both agree; other weights are near."""
    assert judge.model.config._attn_implementation == "sdpa"
    base = str(project / "models" / "tiny")
    for changes, tolerance in (({"attn_implementation": "eager"}, 1e-5), ({"dtype": "bfloat16"}, 0.05)):
        other = Judge.from_pretrained(project / "judge", base, changes)
        found = probabilities_of(other.predict_dataset(battles, progress=False), "ab")
        assert np.allclose(found, probabilities_of(both, "ab"), atol=tolerance)
    assert other.model.get_input_embeddings().weight.dtype == torch.bfloat16
    config = Gemma2Config(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(project / "gemma2")
    assert load_base(project / "gemma2", "float32").config._attn_implementation == "eager"  # sdpa can't cap logits
    with pytest.raises(ValueError, match="tiny cannot be loaded with .*none_such"):
        Judge.from_pretrained(project / "judge", base, {"attn_implementation": "none_such"})


def test_batches_are_shared_out_evenly():
    lengths = np.random.default_rng(0).integers(50, 2000, 500).tolist()
    batches = token_batches(lengths, 4000)
    shares = share_out(batches, lengths, 3)
    assert sorted(map(tuple, sum(shares, []))) == sorted(map(tuple, batches))
    loads = [sum(len(batch) * lengths[batch[0]] for batch in share) for share in shares]
    assert max(loads) < 1.02 * min(loads)


def test_calibration_recovers_what_was_done_to_the_forecasts():
    truth = simulated(20000, 1)[:, 0]
    labels, groups = draw(truth), np.arange(20000) // 4
    undo = {"temperature": 1.6, "biases": np.array([0.3, -0.1, -0.2])}
    shown = apply_calibration(truth, {"temperature": 1 / 1.6, "biases": -undo["biases"] * 1.6})
    fitted, helps = best_calibration(shown, labels, groups)
    assert helps and fitted["method"] == "temperature_and_biases"
    assert fitted["temperature"] == pytest.approx(1.6, rel=0.04)
    assert fitted["biases"] == pytest.approx(undo["biases"], abs=0.04)
    assert fitted["log_loss_after"] < fitted["log_loss_before"]
    fitted, helps = best_calibration(apply_calibration(truth, {"temperature": 0.5, "biases": 0}), labels, groups)
    assert helps and fitted["temperature"] == pytest.approx(2, rel=0.04) and np.abs(fitted["biases"]).max() < 0.05
    assert not best_calibration(truth, labels, groups)[1]
    # Alike within a group: what looks like a gain over many battles is one over three groups.
    assert not best_calibration(truth[:12], labels[:12], np.arange(12) // 4)[1]
    with pytest.raises(ValueError, match="two groups at least"):
        best_calibration(truth[:12], labels[:12], np.zeros(12))
    rows = table(truth[:4], labels=labels[:4])
    assert list(votes_and_groups(rows.drop(columns="group"))[1]) == ["id b0", "id b1", "id b2", "id b3"]


def test_calibrate_and_predict(project, battles, both):
    """Stored for both kinds of forecasts, applied to each; a useless one is not stored, and a stored one removed."""
    folder = shutil.copytree(project / "judge", project / "calibrated")
    shown = simulated(2000, 2)
    labels = draw(shown.mean(axis=1))
    tables = [
        table(apply_calibration(p, {"temperature": 0.4, "biases": [0.5, -0.5, 0]}), order=order, labels=labels)
        for p, order in ((shown[:, 0], "ab"), (shown[:, 1], "ba"), (shown.mean(axis=1), "mean"))
    ]
    save_predictions(pd.concat(tables), project / "votes.parquet")
    arguments = ["--adapter", "calibrated", "--predictions", "votes.parquet"]
    output = recipe("calibrate.py", *arguments, cwd=project)
    assert output.count(": stored") == 2 and "does not say which judge made it" in output
    stored = json.loads((folder / "judge.json").read_text())["calibration"]
    assert stored.keys() == {"ab", "mean"}
    assert stored["mean"]["num_battles"] == 2000 and len(stored["mean"]["fitted_on"]) == 64

    judge = Judge.from_pretrained(folder, str(project / "models" / "tiny"))
    found = judge.predict_dataset(battles, tta="swap", progress=False)
    ab, ba, mean = (probabilities_of(both, order) for order in ("ab", "ba", "mean"))
    assert np.allclose(probabilities_of(found, "ab"), apply_calibration(ab, stored["ab"]), atol=1e-5)
    turned = apply_calibration(ba[:, [1, 0, 2]], stored["ab"])[:, [1, 0, 2]]
    assert np.allclose(probabilities_of(found, "ba"), turned, atol=1e-5)
    assert np.allclose(probabilities_of(found, "mean"), apply_calibration(mean, stored["mean"]), atol=1e-5)
    plain = judge.predict_dataset(battles, tta="swap", calibrated=False, progress=False)
    assert np.allclose(plain[PROBABILITIES], both[PROBABILITIES], atol=1e-5)

    save_predictions(found, project / "twice.parquet")
    output = recipe("calibrate.py", *arguments[:3], "twice.parquet", cwd=project, fails=True)
    assert "calibrated already. Predict again with --calibrated false" in output
    save_predictions(table(shown[:, 0], labels=draw(shown[:, 0])), project / "good.parquet")
    output = recipe("calibrate.py", *arguments[:3], "good.parquet", cwd=project)
    assert "not stored, since the gain is within its standard error" in output
    assert "calibration" not in json.loads((folder / "judge.json").read_text())
