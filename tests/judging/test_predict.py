"""Prediction with any batches, processes and kills; second orders; progress; calibration."""

import copy
import dataclasses
import json
import os
import shutil
import signal
import subprocess

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from helpers.models import all_logits, build_base, build_judge
from helpers.run import REPOSITORY, programs, recipe
from helpers.votes import draw, simulated, table, write_votes
from transformers import Gemma2Config, Gemma2ForCausalLM

from lmsys_trl import Judge
from lmsys_trl.battle import prompt_group, swap_battle, swap_probabilities, winner_of
from lmsys_trl.data.schema import BATTLE_SCHEMA
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.batching import distribute, token_batches
from lmsys_trl.encoding.examples import encode_battle
from lmsys_trl.errors import UserError
from lmsys_trl.judging import predict
from lmsys_trl.judging.resume import Shards
from lmsys_trl.models.base import load_base
from lmsys_trl.predictions.calibration import apply_calibration
from lmsys_trl.predictions.features import feature_matrix
from lmsys_trl.predictions.position import correct_position
from lmsys_trl.predictions.table import PROBABILITIES, load_predictions, probabilities_of, save_predictions

# recipes/predict.py, killed hard after its second shard, while it writes the third.
KILLED = """
import os, runpy, signal, sys
from lmsys_trl.judging.resume import Shards

def add_or_die(shards, order, table, add=Shards.add):
    if table["place"].iloc[0] < 2:
        return add(shards, order, table)
    (shards.writes_to / ".ab-000000000002.parquet.tmp").write_bytes(b"PAR1")
    os.kill(os.getpid(), signal.SIGKILL)

Shards.add = add_or_die
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


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
    return Dataset(pa.Table.from_pylist(battles, BATTLE_SCHEMA))


def test_batch_order_and_shard_size_do_not_matter(judge, battles, both):
    for options in ({"max_tokens_per_batch": 1}, {"shard_size": 7}, {"max_tokens_per_batch": 10**6}):
        other = judge.predict_dataset(as_dataset(battles), tta="swap", progress=False, **options)
        assert list(other["id"]) == list(both["id"]) and list(other["order"]) == ["ab", "ba", "mean"] * 30
        assert np.allclose(other[PROBABILITIES], both[PROBABILITIES], atol=1e-5)
    backwards = judge.predict_dataset(battles[::-1], tta="swap", progress=False)
    merged = both.merge(backwards, on=["id", "order"], suffixes=("", "_backwards"))
    assert len(merged) == 90
    for name in PROBABILITIES:
        assert np.allclose(merged[name], merged[f"{name}_backwards"], atol=1e-5)
    assert list(both["winner"][::3]) == [winner_of(battle["vote"]) for battle in battles]
    assert both["group"].nunique() < 30  # battles of the generator share prompts


def test_kills_and_processes_do_not_matter(project, both):
    """Killed in its third shard and resumed in two processes: equal to one process and no kill."""
    two = (REPOSITORY / "accelerate_configs" / "cpu.yaml").read_text()
    two = two.replace('distributed_type: "NO"', "distributed_type: MULTI_GPU")
    (project / "two.yaml").write_text(two.replace("num_processes: 1", "num_processes: 2"))
    arguments = ["--adapter", "judge", "--test_file", "test.csv", "--output_file", "out.parquet", "--tta", "swap"]
    arguments += ["--max_tokens_per_batch", "700", "--shard_size"]
    command = [programs() / "python", "-c", KILLED, REPOSITORY / "recipes" / "predict.py", *arguments, "1"]
    killed = subprocess.run(command, cwd=project, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL & 255 and not (project / "out.parquet").exists()
    folder = project / "out.parquet.shards"
    shards = {path.name: path.read_bytes() for path in folder.glob("*-*.parquet")}
    assert shards.keys() == {"ab-000000000000.parquet", "ab-000000000001.parquet"}
    copy = shutil.copytree(folder, project / "copy.shards")
    assert json.loads((copy / "record.json").read_text())["max_length"] == 650

    output = recipe("predict.py", *arguments, "4", cwd=project, launch=["--config_file", project / "two.yaml"])
    assert output.count("30 battles predicted") == 1 and not folder.exists()
    assert "2/30" in output and "0/30" in output.partition("Predicting ba")[2]  # resumes after the two shards
    predictions = load_predictions(project / "out.parquet")
    assert list(predictions["id"]) == list(both["id"]) and list(predictions["order"]) == list(both["order"])
    assert np.allclose(predictions[PROBABILITIES], both[PROBABILITIES], atol=1e-5)
    pd.testing.assert_frame_equal(predictions.drop(columns=PROBABILITIES), both.drop(columns=PROBABILITIES))

    # Shards of other settings are not taken for those of these.
    os.rename(copy, folder)
    output = recipe("predict.py", *arguments, "4", "--max_length", "400", cwd=project, fails=True)
    assert "max_length: 650 then, 400 now" in output and "Traceback" not in output
    shutil.rmtree(folder)


def test_shards_of_other_data_are_refused_and_complete_ones_are_not_computed_again(judge, battles, tmp_path):
    data = as_dataset(battles[:6])
    first = judge.predict_dataset(data, progress=False, folder=tmp_path / "p", shard_size=2)
    (changed,) = sorted((tmp_path / "p").glob("ab-*.parquet"))[1:2]
    shard = pd.read_parquet(changed)
    shard[PROBABILITIES] = [0.5, 0.25, 0.25]
    save_predictions(shard, changed)
    again = judge.predict_dataset(data, tta="swap", progress=False, folder=tmp_path / "p")
    as_given = probabilities_of(again, "ab")
    assert np.allclose(as_given[2:4], [0.5, 0.25, 0.25])
    assert np.allclose(as_given[[0, 1, 4, 5]], probabilities_of(first, "ab")[[0, 1, 4, 5]])
    with pytest.raises(ValueError, match="battles: another"):
        judge.predict_dataset(as_dataset(battles[:5]), progress=False, folder=tmp_path / "p")
    other = copy.copy(judge)  # as if it had been imported again, with another prompt and other letters
    letters = {**judge.settings.letters, "tie": {"letter": "D", "id": judge.tokenizer.convert_tokens_to_ids("D")}}
    other.settings = dataclasses.replace(judge.settings, prompt_version="lmsys-38th-v1", letters=letters)
    with pytest.raises(ValueError, match="(?s)prompt_version: lmsys-trl-v1 then, lmsys-38th-v1 now.*letters: .*'D'"):
        other.predict_dataset(data, progress=False, folder=tmp_path / "p")
    with pytest.raises(ValueError, match="folder: shards are saved for a Dataset only"):
        judge.predict_dataset(battles[:5], progress=False, folder=tmp_path / "p")
    shards = Shards(tmp_path / "q", {"adapter": "x"})
    assert list(shards.missing("ab", np.arange(3))) == [0, 1, 2]


def test_the_end_is_shown_once_there_is_a_rate(judge, battles, tmp_path, monkeypatch, capsys):
    """Without a rate, tqdm would show the end of 1970, which is Jan 01."""
    monkeypatch.setattr(predict, "BAR_WITH_END", predict.BAR_WITH_END.replace("%b %d", "%Y"))
    data, folder = as_dataset(battles[:4]), tmp_path / "shards"

    def bars() -> list[str]:
        judge.predict_dataset(data, folder=folder, shard_size=2, progress=True)
        return capsys.readouterr().err.replace("\r", "\n").split("\n")

    shown = [line for line in bars() if line]
    assert "0/4" in shown[0] and "ends" not in shown[0]
    assert "4/4" in shown[-1] and "ends 2" in shown[-1]
    sorted(folder.glob("*.parquet"))[1].unlink()
    for initial in ("2/4", "4/4"):  # resumed in the middle, and with nothing left to do
        resumed = [line for line in bars() if line]
        assert initial in resumed[0] and "ends" not in resumed[0] and "4/4" in resumed[-1]
        shown += resumed
    assert not any("1970" in line for line in shown)


def test_second_orders_against_brute_force(judge, battles, both):
    ab, ba = probabilities_of(both, "ab"), probabilities_of(both, "ba")
    ids = [battle["id"] for battle in battles]
    tokens = both["num_tokens"].to_numpy()[::3]
    for tta, key, number in (
        ("uncertain:0.33", lambda i: ab[i].max(), 10),
        ("longest:0.1", lambda i: (-tokens[i], ids[i]), 3),
    ):
        selected = set(sorted(range(30), key=key)[:number])
        predictions = judge.predict_dataset(battles, tta=tta, progress=False)
        assert set(predictions.loc[predictions["order"] == "ba", "id"]) == {ids[i] for i in selected}
        expected = [(ab[i] + ba[i]) / 2 if i in selected else ab[i] for i in range(30)]
        assert np.allclose(probabilities_of(predictions, "mean"), expected, atol=1e-5)
        assert np.allclose(probabilities_of(predictions, "ab"), ab, atol=1e-5)
    assert list(judge.predict_dataset(battles, progress=False)["order"]) == ["ab"] * 30


def test_all_examples_are_averaged(judge, battles):
    few = [battle for battle in battles if len(battle["prompt"]) > 1][:3]
    predictions = judge.predict_dataset(few, examples="all", max_length=330, progress=False)
    num_examples = []
    for battle, probabilities in zip(few, predictions[PROBABILITIES].to_numpy(), strict=True):
        examples = encode_battle({**battle, "vote": None}, judge.tokenizer, 330)
        num_examples.append(len(examples))
        logits = [all_logits(judge, each["input_ids"]) for each in examples]
        letters = judge.tokenizer.convert_tokens_to_ids(list("ABC"))
        expected = np.mean([(each[letters] / 1.03).softmax(-1).numpy() for each in logits], axis=0)
        assert probabilities == pytest.approx(expected, abs=1e-5)
    assert max(num_examples) > 1
    with pytest.raises(ValueError, match="examples: 'first', expected last or all"):
        judge.predict_dataset(few, examples="first")


def test_what_cannot_be_predicted_is_reported(judge, battles, project):
    with pytest.raises(ValueError, match="examples of 4000 tokens are longer than the 2048 that the base"):
        judge.predict_dataset(battles, max_length=4000)
    for option in ({"shard_size": 0}, {"max_tokens_per_batch": 0}, {"tta": np.array([True])}):
        with pytest.raises(UserError):
            judge.predict_dataset(battles, **option)
    with pytest.raises(ValueError, match="battles: no response_b"):
        judge.predict_dataset(as_dataset(battles).remove_columns("response_b"))
    assert list(judge.predict_dataset([]).columns) == list(judge.predict_dataset(battles[:1], progress=False).columns)
    broken = Judge.from_pretrained(project / "judge", str(project / "models" / "tiny"))
    broken.model.get_output_embeddings().weight.data[:] = torch.nan
    with pytest.raises(ValueError, match="predictions of 2 battles are not numbers, the first that of"):
        broken.predict_dataset(battles[:2], progress=False)


def test_precision_is_a_choice(judge, battles, project, both):
    """sdpa where the judge was trained with eager; both agree; other weights are near."""
    assert judge.model.config._attn_implementation == "sdpa"
    base = str(project / "models" / "tiny")
    for changes, tolerance in (({"attn_implementation": "eager"}, 1e-5), ({"dtype": "bfloat16"}, 0.05)):
        other = Judge.from_pretrained(project / "judge", base, changes)
        as_given = probabilities_of(other.predict_dataset(battles, progress=False), "ab")
        assert np.allclose(as_given, probabilities_of(both, "ab"), atol=tolerance)
    assert other.model.get_input_embeddings().weight.dtype == torch.bfloat16
    config = Gemma2Config(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(project / "gemma2")
    assert load_base(project / "gemma2", "float32").config._attn_implementation == "eager"  # sdpa can't cap logits
    with pytest.raises(ValueError, match="tiny cannot be loaded with .*none_such"):
        Judge.from_pretrained(project / "judge", base, {"attn_implementation": "none_such"})


def test_batches_are_distributed_evenly():
    lengths = np.random.default_rng(0).integers(50, 2000, 500).tolist()
    batches = token_batches(lengths, 4000)
    fractions = distribute(batches, lengths, 3)
    assert sorted(map(tuple, sum(fractions, []))) == sorted(map(tuple, batches))
    loads = [sum(len(batch) * lengths[batch[0]] for batch in fraction) for fraction in fractions]
    assert max(loads) < 1.02 * min(loads)


def test_calibrate_and_predict(project, battles, both):
    """Stored for one order and for both, applied to each; a useless one is not stored, and removes a stored one."""
    folder = shutil.copytree(project / "judge", project / "calibrated")
    true = simulated(2000, 2)
    labels = draw(true.mean(axis=1))
    tables = [
        table(apply_calibration(p, {"temperature": 0.4, "biases": [0.5, -0.5, 0]}), order=order, labels=labels)
        for p, order in ((true[:, 0], "ab"), (true[:, 1], "ba"), (true.mean(axis=1), "mean"))
    ]
    save_predictions(pd.concat(tables), project / "votes.parquet")
    arguments = ["--adapter", "calibrated", "--predictions", "votes.parquet"]
    output = recipe("calibrate.py", *arguments, cwd=project)
    assert output.count(": stored") == 2 and "does not say which judge made it" in output
    stored = json.loads((folder / "judge.json").read_text())["calibration"]
    assert stored.keys() == {"ab", "mean"}
    assert stored["mean"]["num_battles"] == 2000 and len(stored["mean"]["fitted_on"]) == 64

    judge = Judge.from_pretrained(folder, str(project / "models" / "tiny"))
    calibrated = judge.predict_dataset(battles, tta="swap", progress=False)
    ab, ba, mean = (probabilities_of(both, order) for order in ("ab", "ba", "mean"))
    assert np.allclose(probabilities_of(calibrated, "ab"), apply_calibration(ab, stored["ab"]), atol=1e-5)
    expected = swap_probabilities(apply_calibration(swap_probabilities(ba), stored["ab"]))
    assert np.allclose(probabilities_of(calibrated, "ba"), expected, atol=1e-5)
    assert np.allclose(probabilities_of(calibrated, "mean"), apply_calibration(mean, stored["mean"]), atol=1e-5)
    plain = judge.predict_dataset(battles, tta="swap", calibrated=False, progress=False)
    assert np.allclose(plain[PROBABILITIES], both[PROBABILITIES], atol=1e-5)

    save_predictions(calibrated, project / "twice.parquet")
    output = recipe("calibrate.py", *arguments[:3], "twice.parquet", cwd=project, fails=True)
    assert "calibrated already. Predict again with --calibrated false" in output
    save_predictions(table(true[:, 0], labels=draw(true[:, 0])), project / "good.parquet")
    output = recipe("calibrate.py", *arguments[:3], "good.parquet", cwd=project)
    assert "not stored, since the gain is within its standard error" in output
    assert "What it had for ab, mean before is removed" in output
    assert json.loads((folder / "judge.json").read_text())["calibration"] == {}
    all_ties = table(true[:20, 0], labels=np.full(20, 2))
    save_predictions(all_ties, project / "ties.parquet")
    all_ties.drop(columns=["fold", "group"]).to_csv(project / "ties.csv", index=False)
    for name in ("ties.parquet", "ties.csv"):
        output = recipe("calibrate.py", *arguments[:3], name, cwd=project, fails=True)
        assert "predictions: votes 0 for A, 0 for B, 20 for a tie" in output and "Traceback" not in output


def test_position_is_corrected_in_each_order(project, battles, both):
    """Fitted by the command on predictions without votes, and applied before the mean."""
    folder = shutil.copytree(project / "judge", project / "fair")
    pulled = both.assign(winner=None, vote_model_a=None, vote_model_b=None, vote_tie=None)
    save_predictions(
        correct_position(pulled, {"temperature": 1.0, "biases": [0.7, -0.7, 0.0]}), project / "both.parquet"
    )
    output = recipe("calibrate.py", "--adapter", "fair", "--predictions", "both.parquet", cwd=project)
    assert "stands first is more likely to win, by 0." in output
    stored = json.loads((folder / "judge.json").read_text())["calibration"]
    assert stored.keys() == {"position"}
    judge = Judge.from_pretrained(folder, str(project / "models" / "tiny"))
    found, expected = judge.predict_dataset(battles, tta="swap"), correct_position(both, stored["position"])
    assert np.allclose(found[PROBABILITIES], expected[PROBABILITIES], atol=1e-5)
    assert not np.allclose(found[PROBABILITIES], both[PROBABILITIES], atol=1e-2)


def test_calibrate_with_style_and_predict(project, battles, both):
    """Votes that depend on the length of the answers, which is read from the battles, and swapped with them."""
    folder = shutil.copytree(project / "judge", project / "styled")
    rng = np.random.default_rng(0)
    longer = [
        {"id": f"b{i}", "prompt": [f"p{i}"], "response_a": ["x" * a], "response_b": ["x" * b], "model_a": "m",
         "model_b": "n", "vote": [float(a > b), float(a <= b), 0.0]}
        for i, (a, b) in enumerate(rng.integers(10, 300, (400, 2)))
    ]  # fmt: skip
    for battle in longer[::8]:
        battle["vote"] = [0.0, 0.0, 1.0]
    write_votes(project / "longer.csv", longer)
    labels = np.array([int(np.argmax(battle["vote"])) for battle in longer])
    probabilities = simulated(400, 1)[:, 0] + 0.2 * np.eye(3)[labels]  # a judge that knows something too
    save_predictions(table(probabilities / probabilities.sum(axis=1, keepdims=True), labels=labels),
                     project / "longer.parquet")  # fmt: skip
    arguments = ["--adapter", "styled", "--predictions", "longer.parquet", "--with_features"]
    output = recipe("calibrate.py", *arguments, cwd=project, fails=True)
    assert "test_file or dataset_name: missing" in output
    output = recipe("calibrate.py", *arguments[:4], "--test_file", "longer.csv", cwd=project, fails=True)
    assert "Give --with_features" in output
    output = recipe("calibrate.py", *arguments, "--test_file", "test.csv", cwd=project, fails=True)
    assert "lacks 400 of the predicted battles" in output
    others = [{**battle, "prompt": ["another"]} for battle in longer]
    write_votes(project / "others.csv", others)
    labelled = pd.read_parquet(project / "longer.parquet").assign(group=[prompt_group(battle) for battle in longer])
    save_predictions(labelled, project / "longer.parquet")
    output = recipe("calibrate.py", *arguments, "--test_file", "others.csv", cwd=project, fails=True)
    assert "has another prompt for 400 of the predicted battles" in output
    output = recipe("calibrate.py", *arguments, "--test_file", "longer.csv", cwd=project)
    assert "length and style alone" in output and "both together are stored" in output, output

    judge = Judge.from_pretrained(folder, str(project / "models" / "tiny"))
    stored = judge.settings.calibration["ab"]
    calibrated = judge.predict_dataset(battles, tta="swap")
    features = feature_matrix(battles)
    columns = np.hstack([probabilities_of(both, "ab"), features])
    assert np.allclose(probabilities_of(calibrated, "ab"), apply_calibration(columns, stored), atol=1e-5)
    swapped = judge.predict_dataset(list(map(swap_battle, battles)), tta="swap")
    for order, other in (("ab", "ba"), ("ba", "ab")):
        expected = swap_probabilities(probabilities_of(calibrated, other))
        assert np.allclose(probabilities_of(swapped, order), expected, atol=1e-5)

    content = json.loads((folder / "judge.json").read_text())
    style = content["calibration"]["ab"]["style"]
    style["mean"][0], style["scale"][0] = -1e308, 1e-308
    (folder / "judge.json").write_text(json.dumps(content))
    broken = Judge.from_pretrained(folder, str(project / "models" / "tiny"))
    with pytest.raises(ValueError, match="the calibration in judge.json makes probabilities that are no numbers"):
        broken.predict_dataset(battles)
    content["calibration"]["ab"]["style"]["features"][0] = "mood"
    (folder / "judge.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected the features turns, .*calibrate it again"):
        Judge.from_pretrained(folder, str(project / "models" / "tiny"))
