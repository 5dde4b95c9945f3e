"""What is wrong with files, folders and disks is a message, for every verb: no traceback, and nothing is written."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers.models import build_judge
from helpers.run import REPOSITORY, programs, recipe, run
from helpers.votes import simulated, table, write_votes

from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.outputs import claim
from lmsys_trl.predictions.table import save_predictions

# Runs a recipe where no file may become larger than some bytes, as on a full disk or over a quota.
SMALL_DISK = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
DEEP = "[" * 100_000
DIGITS = "9" * 5000


@pytest.fixture(scope="module")
def project(base, tmp_path_factory):
    """A folder with a base model, a judge, votes, a data set and predictions, and with each of them damaged."""
    folder = tmp_path_factory.mktemp("environment")
    shutil.copytree(base, folder / "models" / "tiny")
    build_judge(base, folder / "judge")
    write_votes(folder / "votes.csv", make_battles(12))
    pair = {"question": "q", "response_A": "a", "response_B": "b", "label": "A>B", "source": "livecodebench"}
    (folder / "pairs.jsonl").write_text(json.dumps(pair))
    recipe("prepare.py", "--sources", "votes.csv", "--output_dir", "data", "--near_duplicates", "0", cwd=folder)
    battles = make_battles(12)
    labels = [battle["vote"].index(1) for battle in battles]
    good = table(simulated(12, 1)[:, 0], labels=labels, ids=[battle["id"] for battle in battles])
    save_predictions(good, folder / "good.parquet")
    _damage_votes(folder)
    _damage_folders(folder)
    return folder


def _damage_votes(folder: Path) -> None:
    good, predictions = (folder / "votes.csv").read_bytes(), (folder / "good.parquet").read_bytes()
    flipped = bytes(byte ^ 255 for byte in predictions[100:400])  # behind an intact beginning and end
    for name, content in {
        "empty.csv": b"", "utf16.csv": good.decode().encode("utf-16"),
        "no-mark.csv": good.decode().encode("utf-16-le"), "nul.csv": good.replace(b"0", b"\0"),
        "damaged.csv.gz": gzip.compress(good)[:200], "damaged.zip": b"PK\3\4" + bytes(100),
        "deep.json": DEEP.encode(), "digits.json": f'[{{"id": {DIGITS}}}]'.encode(),
        "nested.jsonl": f'{{"a": {"[" * 200}{"]" * 200}}}\n'.encode(), "empty.parquet": b"",
        "damaged.parquet": predictions[:-20],
        "flipped.parquet": predictions[:100] + flipped + predictions[400:],
        "broken.yaml": b"sources: [a.csv\n  b: {", "latin.yaml": b"sources: caf\xe9",
        "digits.yaml": f"seed: {DIGITS}".encode(), "date.yaml": b"2024-99-99: b\n",
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
    pd.read_parquet(folder / "good.parquet").head(0).to_parquet(folder / "no_rows.parquet")
    os.mkfifo(folder / "pipe.csv")
    (folder / "folder.csv").mkdir()
    (folder / "resumed.csv.shards").mkdir()
    (folder / "resumed.csv.shards" / "ab-000000000000.parquet").write_bytes(b"PAR1")
    (folder / "a_file").write_text("mine")


def _damage_folders(folder: Path) -> None:
    """A copy for each kind of damage, of the judge, the base model and the data set."""
    adapter, base = (folder / "judge" / "adapter_model.safetensors", folder / "models" / "tiny" / "model.safetensors")
    for source, copy, name, content in (
        ("judge", "judge-weights", adapter.name, b"\xff" * 100),
        ("judge", "judge-short", adapter.name, adapter.read_bytes()[:-9]),
        ("judge", "judge-no-weights", adapter.name, None),
        ("judge", "judge-config", "adapter_config.json", b"{"),
        ("judge", "judge-list", "adapter_config.json", b"[1]"),
        ("judge", "judge-deep", "adapter_config.json", DEEP.encode()),
        ("judge", "judge-kind", "adapter_config.json", b'{"peft_type": "NONE"}'),
        ("judge", "judge-record", "judge.json", b"{"),
        ("judge", "judge-nested", "judge.json", DEEP.encode()),
        ("judge", "judge-digits", "judge.json", f'{{"max_length": {DIGITS}}}'.encode()),
        ("judge", "judge-bytes", "judge.json", b"\xff\xfe"),
        ("judge", "judge-template", "chat_template.jinja", b"{% for"),
        ("judge", "judge-long", "chat_template.jinja", b"x" * 1_000_000),
        ("judge", "judge-written", "chat_template.jinja", b"{{ 'x' * 1_000_000 }}"),
        ("judge", "judge-tokenizer", "tokenizer.json", b"{"),
        ("judge", "judge-no-tokenizer", "tokenizer.json", None),
        ("judge", "judge-features", "baseline_features.parquet", b"PAR1"),
        ("judge", "judge-report", "metrics.json", b"[]"),
        ("judge", "judge-benchmark", "benchmark.json", b'{"version": 1, "benchmarks": {"ppe": {}}}'),
        ("judge", "judge-name", "benchmark.json", b'{"version": 1, "benchmarks": [7]}'),
        ("models/tiny", "base-config", "config.json", b"{"),
        ("models/tiny", "base-type", "config.json", b'{"model_type": "none"}'),
        ("models/tiny", "base-list", "config.json", b"[]"),
        ("models/tiny", "base-weights", base.name, b"\xff" * 100),
        ("models/tiny", "base-short", base.name, base.read_bytes()[:-9]),
        ("models/tiny", "base-template", "chat_template.jinja", b"{% for"),
        ("data", "data-removed", "removed.parquet", b"PAR1"),
        ("data", "data-split", "battles/train.parquet", b"PAR1"),
        ("data", "data-record", "prepare.json", b"{"),
    ):
        path = shutil.copytree(folder / source, folder / copy) / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)


# Stand for words that are longer.
SHORT = {
    "BASE": "--model_name_or_path models/tiny",
    "VOTES": "--test_file votes.csv",
    "PREDICT": "--test_file votes.csv --output_file out.csv --model_name_or_path models/tiny --adapter",
    "SFT": "smollm2.yaml --max_length 700 --bf16 false --lora_layers_to_transform 1",
    "IMPORT": "--prompt_version lmsys-trl-v1 --letters A B C --max_length 600",
    "PREPARE": "--near_duplicates 0 --output_dir out --sources",
    "GOOD": "--predictions good.parquet",
    "PAIRS": "--model_name_or_path models/tiny --benchmark judgebench-gpt",
}
# A verb and its words, of which the last one is what is wrong.
SITUATIONS = """
prepare PREPARE missing.csv
prepare PREPARE empty.csv
prepare PREPARE no-mark.csv
prepare PREPARE nul.csv
prepare PREPARE folder.csv
prepare PREPARE pipe.csv
prepare PREPARE damaged.csv.gz
prepare PREPARE damaged.zip
prepare PREPARE deep.json
prepare PREPARE nested.jsonl
prepare PREPARE digits.json
prepare PREPARE empty.parquet
prepare PREPARE damaged.parquet
prepare PREPARE flipped.parquet
prepare --suggest damaged.parquet
prepare --suggest deep.json
prepare PREPARE votes.csv --validation_ids missing.txt
prepare PREPARE votes.csv --validation_ids flipped.parquet
prepare --output_dir out --config broken.yaml
prepare --output_dir out --config latin.yaml
prepare --output_dir out --config digits.yaml
prepare --output_dir out --config date.yaml
prepare --output_dir out --config missing.yaml
prepare --output_dir out --config folder.csv
prepare --sources votes.csv --output_dir a_file
prepare --sources votes.csv --output_dir a_file/out
validate VOTES --output_dir report BASE --adapter judge-features
prepare --sources votes.csv --output_dir /
prepare --sources votes.csv --overwrite --output_dir data-record
predict --adapter judge --output_file out.csv --test_file missing.csv
predict --adapter judge --output_file out.csv --test_file flipped.parquet
predict PREDICT judge-weights
predict PREDICT judge-short
predict PREDICT judge-config
predict PREDICT judge-list
predict PREDICT judge-deep
predict PREDICT judge-kind
predict PREDICT judge-record
predict PREDICT judge-nested
predict PREDICT judge-digits
predict PREDICT judge-bytes
predict PREDICT judge-template
predict PREDICT judge-long
predict PREDICT judge-written
predict PREDICT judge-tokenizer
predict PREDICT judge-no-weights
predict PREDICT judge-no-tokenizer
predict PREDICT judge-folder
predict PREDICT missing
predict PREDICT damaged.zip
predict --adapter judge VOTES --output_file out.csv --model_name_or_path base-config
predict --adapter judge VOTES --output_file out.csv --model_name_or_path base-weights
predict --adapter judge VOTES --output_file a_file/out.csv
predict --adapter judge VOTES --output_file folder.csv
predict BASE VOTES --adapter judge --output_file resumed.csv
ensemble --weights 1 1 VOTES --output_file out.csv --adapter judge judge-record
ensemble --weights 1 1 --output_file out.csv GOOD no_rows.parquet
out_of_fold BASE --dataset_name data --output_file out.parquet --adapter judge-record
pseudo_label VOTES --output_file out.jsonl --adapter judge judge-config
pseudo_label VOTES --adapter judge --output_file a_file/out.jsonl
compare BASE --prompt p --a x --b y --adapter judge-template
compare BASE --prompt p --adapter judge --b y --a utf16.csv
calibrate GOOD --adapter judge-record
calibrate GOOD --adapter /
calibrate --adapter judge --predictions empty.parquet
calibrate --adapter judge --predictions no_rows.parquet
calibrate --adapter judge --predictions flipped.parquet
calibrate --adapter judge --predictions empty.csv
validate VOTES --output_dir out --predictions damaged.parquet
validate VOTES --output_dir out GOOD --known_probabilities missing.csv
validate VOTES GOOD --output_dir a_file
validate --output_dir out BASE --adapter judge --dataset_name data-split
benchmark PAIRS --adapter judge --output_dir out --file empty.csv
benchmark PAIRS --adapter judge --output_dir out --file damaged.parquet
benchmark PAIRS --adapter judge --output_dir out --file good.parquet
benchmark PAIRS --adapter judge --output_dir out --file deep.json
benchmark PAIRS --adapter judge --output_dir out --file missing
benchmark PAIRS --file pairs.jsonl --output_dir out --adapter judge-record
benchmark PAIRS --file pairs.jsonl --adapter judge --output_dir a_file
merge BASE --output_dir out --adapter judge-template
merge BASE --output_dir out --adapter judge judge-short
merge --output_dir out --adapter judge --model_name_or_path base-list
merge --output_dir out --adapter judge --model_name_or_path base-short
import BASE IMPORT --output_dir out --adapter judge-weights
import IMPORT --output_dir out --adapter judge --model_name_or_path base-config
import IMPORT --output_dir out --adapter judge --model_name_or_path base-type
import BASE IMPORT --adapter judge --output_dir a_file
push --hub_model_id a/b --adapter judge-config
push --hub_model_id a/b --adapter judge-list
push --hub_model_id a/b --adapter judge --report judge-report
push --hub_model_id a/b --adapter judge --report missing
push --hub_model_id a/b --adapter judge --benchmark missing
push --hub_model_id a/b --adapter judge --benchmark judge-benchmark
push --hub_model_id a/b --adapter judge --benchmark judge-name
sft SFT BASE --output_dir out --dataset_name data-split
sft SFT BASE --output_dir out --dataset_name missing
sft SFT BASE --output_dir out --teacher_files good.parquet --dataset_name data-removed
sft SFT BASE --dataset_name data --output_dir a_file/out
sft SFT --output_dir out --dataset_name data --model_name_or_path base-short
preview smollm2.yaml VOTES --tokenizer base-template
preview smollm2.yaml VOTES --tokenizer missing
check smollm2.yaml --accelerate_config broken.yaml
check smollm2.yaml --tokenizer judge-tokenizer
synthesize --output_dir a_file
fetch --output_dir a_file
"""
# What each verb writes, as its last word.
OUTPUTS = """
predict BASE VOTES --adapter judge --output_file out.csv
ensemble --weights 1 GOOD --output_file out.csv
pseudo_label VOTES --adapter judge --min_confidence 0 --output_file out.jsonl
calibrate GOOD --adapter judge
prepare --near_duplicates 0 --sources votes.csv --output_dir out
validate VOTES GOOD --output_dir out
benchmark PAIRS --file pairs.jsonl --adapter judge --output_dir out
merge BASE --adapter judge judge --output_dir out
import BASE IMPORT --adapter judge --output_dir out
sft SFT BASE --dataset_name data --output_dir out
synthesize --output_dir out
"""


def words_of(situation: str) -> tuple[str, list[str]]:
    verb, *words = situation.split()
    return verb, " ".join(SHORT.get(word, word) for word in words).split()


def files_in(folder: Path) -> dict:
    """Size and time of all files but what a run resumes from."""
    facts = {path: path.lstat() for path in folder.rglob("*") if path.is_file() and ".shards" not in str(path)}
    return {path: (fact.st_size, fact.st_mtime_ns) for path, fact in facts.items()}


@pytest.mark.parametrize("situation", SITUATIONS.strip().splitlines())
def test_what_is_wrong_with_files_is_a_message(project, situation):
    verb, words = words_of(situation)
    before = files_in(project)
    output = recipe(f"{verb}.py", *words, cwd=project, fails=True)
    assert ("PROBLEM" if verb == "check" else f"{verb}.py: ") in output and "Traceback" not in output, output
    assert words[-1].split("/")[0] in output  # what is wrong is named
    assert files_in(project) == before


@pytest.mark.parametrize("situation", OUTPUTS.strip().splitlines())
def test_what_another_run_writes_is_not_written(project, situation):
    verb, words = words_of(situation)
    with claim(project / words[-1]):
        output = recipe(f"{verb}.py", *words, cwd=project, fails=True)
    assert f"{words[-1]}: another run writes it (process {os.getpid()} on " in output and "Traceback" not in output


@pytest.mark.parametrize("situation", OUTPUTS.strip().splitlines())
def test_what_a_small_disk_refuses_is_a_message(project, situation):
    """Nothing is left in the place of an output, and afterwards the same command succeeds."""
    verb, words = words_of(situation)
    before, script = files_in(project), REPOSITORY / "recipes" / f"{verb}.py"
    max_bytes = 20_000 if verb == "sft" else 300  # which is less than the state of its optimizer
    output = run(programs() / "python", "-c", SMALL_DISK, max_bytes, script, *words, cwd=project, fails=True)
    assert f"{verb}.py: " in output and "Traceback" not in output
    assert "File too large" in output or "a checkpoint could not be written" in output, output
    if verb not in ("sft", "validate"):  # which have marks of what is complete
        assert files_in(project) == before
    if verb != "sft":
        recipe(f"{verb}.py", *words, cwd=project)
    shutil.rmtree(project / "out", ignore_errors=True)
    for name in ("out.csv", "out.jsonl"):
        (project / name).unlink(missing_ok=True)
