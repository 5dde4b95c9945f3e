"""`predict` as a part of a pipe: JSON lines from standard input, and to standard output as they are made."""

import json
import subprocess

import pandas as pd
import pytest
from helpers.models import build_base, build_judge
from helpers.run import REPOSITORY, programs

from lmsys_trl import Judge
from lmsys_trl.data.columns import TURN_COLUMNS
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.predictions.table import LENGTH_COLUMNS, PROBABILITIES

NUM = 104  # more than the rows that decide the format
ARGUMENTS = [REPOSITORY / "recipes" / "predict.py", "--adapter", "judge", "--test_file", "-"]
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    build_judge(build_base(folder / "models" / "tiny"), folder / "judge")
    return folder


@pytest.fixture(scope="module")
def battles():
    return [{**battle, "id": f"b{i}"} for i, battle in enumerate(make_battles(NUM, seed="stream"))]


@pytest.fixture(scope="module")
def lines(battles):
    names = ("id", *TURN_COLUMNS, "model_a", "model_b")
    rows = [
        {**{name: battle[name] for name in names}, "tags": ["ü\x1b[31m", i], "score": float("nan") if i else None}
        for i, battle in enumerate(battles)
    ]
    return [json.dumps(row).encode() + b"\n" for row in rows]


def command(*options: str) -> list:
    return [programs() / "python", *ARGUMENTS, *options]


def run(project, data: bytes, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*options), cwd=project, input=data, check=False, **PIPES)


def test_rows_come_before_the_end(project, battles, lines):
    """Standard input stays open until the first shards have been read from standard output."""
    options = ["--output_file", "-", "--shard_size", "20", "--tta", "swap", "--with_lengths"]
    with subprocess.Popen(command(*options), cwd=project, stdin=subprocess.PIPE, **PIPES) as process:
        process.stdin.write(b"".join(lines[:-1]))
        process.stdin.flush()
        first = [process.stdout.readline() for _ in range(100)]
        rest, errors = process.communicate(lines[-1])
    assert process.returncode == 0, errors.decode()
    rows = [json.loads(line) for line in [*first, *rest.splitlines()]]  # nothing but JSON
    judge = Judge.from_pretrained(project / "judge", str(project / "models" / "tiny"))
    expected = judge.predict_dataset(battles, tta="swap", with_lengths=True).query("order == 'mean'")
    assert [row["id"] for row in rows] == [f"b{i}" for i in range(NUM)]
    for i, (row, prediction) in enumerate(zip(rows, expected.to_dict("records"), strict=True)):
        assert [row[name] for name in PROBABILITIES] == pytest.approx([prediction[name] for name in PROBABILITIES])
        for name in ("model_a", "model_b", "num_tokens", "order", *LENGTH_COLUMNS):
            assert row[name] == prediction[name]
        assert row["tags"] == ["ü\x1b[31m", i] and row["score"] is None
        assert not {"prompt", "winner", "group"} & row.keys()
    assert b"\x1b" not in rest


def test_a_broken_line_is_named(project, lines):
    data = lines[0] + b"\n{broken\n" + lines[1] + b'{"id": "b2", "prompt": ["a", "b"]}\n[]\n'
    result = run(project, data, "--output_file", "-")
    assert result.returncode == 1 and [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["b0", "b1"]
    assert b"standard input: 3 errors in 5 rows" in result.stderr, result.stderr.decode()
    assert b"not JSON: line 3" in result.stderr and b"not a JSON object: line 6" in result.stderr
    result = run(project, data, "--output_file", "out.jsonl")
    assert result.returncode == 1 and not (project / "out.jsonl").exists() and not result.stdout


def test_a_file_of_lines_is_resumed(project, lines):
    data, options = b"".join(lines[:8]), ("--output_file", "new.jsonl", "--shard_size", "2")
    shards = project / "new.jsonl.shards"
    code = "import lmsys_trl.predictions.lines as l, runpy, sys\n" \
        "def fails(*_): raise OSError(28, 'full')\n" \
        "l.save_lines = fails\nrunpy.run_path(sys.argv.pop(1), run_name='__main__')"  # fmt: skip
    words = [programs() / "python", "-c", code, *ARGUMENTS, *options]
    failed = subprocess.run(words, cwd=project, input=data, check=False, **PIPES)
    assert failed.returncode == 1 and len(list(shards.glob("ab-*"))) == 4
    other = run(project, b"".join(lines[1:9]), *options)
    assert other.returncode == 1 and b"file of battles: another" in other.stderr
    last = sorted(shards.glob("ab-*"))[-1]
    table = pd.read_parquet(last)
    table.assign(num_tokens=7).to_parquet(last, index=False)
    result = run(project, data, *options)
    assert result.returncode == 0, result.stderr.decode()
    rows = [json.loads(line) for line in (project / "new.jsonl").read_text().splitlines()]
    assert [row["tags"][1] for row in rows] == list(range(8)) and rows[-1]["num_tokens"] == 7  # not predicted again
    assert not shards.exists() and LENGTH_COLUMNS[0] not in rows[0]
    assert run(project, data, *options).returncode == 0  # its own file is replaced
    (project / "foreign.jsonl").write_text('{"id": 1}\n')
    assert b"holds no predictions" in run(project, data, "--output_file", "foreign.jsonl").stderr


def test_a_reader_that_leaves_and_an_empty_input(project, lines):
    with subprocess.Popen(command("--output_file", "-"), cwd=project, stdin=subprocess.PIPE, **PIPES) as process:
        process.stdout.close()
        process.stdin.write(b"".join(lines[:3]))
        process.stdin.close()
        errors = process.stderr.read()
    assert process.returncode == 141 and b"Traceback" not in errors
    empty = run(project, b"", "--output_file", "-")
    assert not empty.stdout and b"Traceback" not in empty.stderr
