"""Nothing of others is lost, and two runs do not write one output."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.run import REPOSITORY, recipe
from helpers.votes import write_votes

from lmsys_trl.artifacts import provenance, write_json
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.outputs import check_shards, claim, refuse_foreign, refuse_inputs
from lmsys_trl.terminal import logger, run_recipe, set_up_logging

HOLD = """
import sys, time
from pathlib import Path
from lmsys_trl.outputs import claim
with claim(Path(sys.argv[1])):
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_an_output_is_claimed_once(tmp_path):
    output = tmp_path / "out.csv"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, output], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert holder.stdout.readline() == b"claimed\n"
    message = rf"another run writes it \(process {holder.pid} on .*Wait for it, or stop it"
    with pytest.raises(UserError, match=message), claim(output):
        pytest.fail("was claimed twice")
    with claim(tmp_path / "other.csv"):  # another output
        pass
    holder.kill()
    holder.wait()
    assert (tmp_path / ".out.csv.lock").exists()
    with claim(output):  # what a killed run leaves is no lock
        pass
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_never_outputs(tmp_path):
    (tmp_path / "folder").mkdir()
    votes = tmp_path / "folder" / "votes.csv"
    votes.write_text("id\n")
    (tmp_path / "link.csv").symlink_to(votes)
    os.link(votes, tmp_path / "hard.csv")
    for name in ("link.csv", "hard.csv", "folder/votes.csv"):
        with pytest.raises(UserError, match="is read and would be overwritten"):
            refuse_inputs(tmp_path / name, [None, "owner/name", votes])
    with pytest.raises(UserError, match="holds .*votes.csv, which is read"):
        refuse_inputs(tmp_path / "folder", [votes])
    refuse_inputs(tmp_path / "new.csv", [votes, tmp_path / "folder"])


def test_folders_of_others(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match="is not a report, and its README.md would be replaced"):
        refuse_foreign(tmp_path, ["README.md", "plots"], ["metrics.json"], "a report")
    refuse_foreign(tmp_path, ["plots"], ["metrics.json"], "a report")
    for content in ("{}", "[]", "damaged", '{"versions": {"theirs": "1"}}'):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(UserError, match="is not a report, and its metrics.json would be replaced"):
            refuse_foreign(tmp_path, ["metrics.json"], ["metrics.json"], "a report")
    write_json(tmp_path / "metrics.json", provenance({}))
    refuse_foreign(tmp_path, ["README.md"], ["metrics.json"], "a report")
    with pytest.raises(UserError, match="is a file"):
        refuse_foreign(tmp_path / "README.md", [], [], "a report")
    (tmp_path / "out.shards").mkdir()
    for name in ("ab-000000000000.parquet", "record.json", "battles.arrow", ".record.json.tmp"):
        (tmp_path / "out.shards" / name).touch()
    assert check_shards(tmp_path / "out.shards") == check_shards(tmp_path / "none") == []
    (tmp_path / "out.shards" / "thesis.tex").touch()
    assert "holds thesis.tex, which is no shard" in check_shards(tmp_path / "out.shards")[0]
    assert "is a file" in check_shards(tmp_path / "README.md")[0]


@pytest.fixture
def votes(tmp_path):
    return write_votes(tmp_path / "votes.csv", make_battles(40))


def test_prepare_replaces_only_what_it_wrote(tmp_path, votes):
    def prepare(*options, fails=False):
        return recipe("prepare.py", "--sources", votes, *options, cwd=tmp_path, fails=fails)

    prepare("--output_dir", "data")
    record = json.loads((tmp_path / "data" / "prepare.json").read_text())
    prepare("--output_dir", "data")  # the same again
    assert json.loads((tmp_path / "data" / "prepare.json").read_text())["sha256"] == record["sha256"]
    output = prepare("--output_dir", "data", "--validation_fraction", "0.5", fails=True)
    assert "holds another data set, made with other values of validation_fraction" in output
    assert "replace it with --overwrite" in output and "Traceback" not in output
    prepare("--output_dir", "data", "--validation_fraction", "0.5", "--overwrite")
    (tmp_path / "data" / "battles" / "mine.csv").write_text("mine")
    output = prepare("--output_dir", "data", "--overwrite", fails=True)
    assert "data holds battles/mine.csv, which prepare did not write" in output
    assert (tmp_path / "data" / "battles" / "mine.csv").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    votes.rename(tmp_path / "folder" / "votes.csv")
    output = recipe("prepare.py", "--sources", "folder/votes.csv", "--output_dir", "folder", cwd=tmp_path, fails=True)
    assert "folder: holds folder/votes.csv, which is read" in output
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["votes.csv"]
    assert not [path for path in tmp_path.rglob(".*") if path.name.startswith(".data")]


def test_predictions_replace_only_predictions(tmp_path, votes):
    content = votes.read_bytes()
    options = ["--adapter", "none", "--test_file", votes]
    output = recipe("predict.py", *options, "--output_file", votes, cwd=tmp_path, fails=True)
    assert "votes.csv exists and holds no predictions, so it is not replaced" in output
    (tmp_path / "out.csv.shards").mkdir()
    (tmp_path / "out.csv.shards" / "thesis.tex").write_text("mine")
    output = recipe("predict.py", *options, "--output_file", "out.csv", cwd=tmp_path, fails=True)
    assert "out.csv.shards holds thesis.tex, which is no shard" in output
    table = "id,winner_model_a,winner_model_b,winner_tie\n1,1,0,0\n2,0,0,1\n"  # votes, and no submission
    (tmp_path / "table.csv").write_text(table)
    output = recipe("predict.py", *options, "--output_file", "table.csv", cwd=tmp_path, fails=True)
    assert "table.csv exists and holds no predictions" in output and (tmp_path / "table.csv").read_text() == table
    assert votes.read_bytes() == content and (tmp_path / "out.csv.shards" / "thesis.tex").read_text() == "mine"


def test_synthesize_replaces_nothing(tmp_path):
    recipe("synthesize.py", "--output_dir", "data", "--num_train", "10", "--num_test", "5", cwd=tmp_path)
    recipe("synthesize.py", "--output_dir", "data", "--num_train", "10", "--num_test", "5", cwd=tmp_path)
    (tmp_path / "data" / "train.csv").write_text("mine")
    output = recipe("synthesize.py", "--output_dir", "data", "--num_train", "10", "--num_test", "5", cwd=tmp_path,
                    fails=True)  # fmt: skip
    assert "data/train.csv exists with other content" in output
    assert (tmp_path / "data" / "train.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("cause", "fix"),
    [
        (errno.ENOSPC, "Free some space"), (errno.EROFS, "can be written to"), (errno.EACCES, "permissions"),
        (errno.EEXIST, "A file is where a folder is needed"), (errno.EISDIR, "A folder is where a file is needed"),
    ],
)  # fmt: skip
def test_what_a_disk_refuses_is_a_message(cause, fix):
    for error in (OSError(cause, os.strerror(cause), "some/file"), RuntimeError(f"IoError: {os.strerror(cause)}")):

        def fails(error=error):
            raise error

        if not isinstance(error, OSError) and cause in (errno.EEXIST, errno.EISDIR):
            continue
        with pytest.raises(SystemExit, match=fix):
            run_recipe(fails)


def test_other_exceptions_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_recipe(lambda: 1 / 0)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_a_message(tmp_path, number, status):
    script = (
        "import sys, time; from lmsys_trl.terminal import run_recipe; sys.argv = ['predict.py']\n"
        "def main():\n    print('started', flush=True)\n    time.sleep(60)\nrun_recipe(main)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    _, output = process.communicate(timeout=30)
    assert process.returncode == status
    assert "the same command goes on from there" in output and "Traceback" not in output


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a process that its parent has ended")
def test_a_recipe_ends_with_its_launcher(tmp_path):
    recipe_script = (
        "import sys, time; from lmsys_trl.terminal import run_recipe\n"
        "def main():\n    print('started', flush=True)\n    time.sleep(60)\nrun_recipe(main)"
    )
    launcher = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], stderr=open(sys.argv[2], 'w'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", launcher, recipe_script, tmp_path / "errors"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "ACCELERATE_MIXED_PRECISION": "no"},
    )
    assert process.stdout.readline() == "started\n"
    process.terminate()
    process.wait()
    for _ in range(100):
        if "stopped by SIGTERM" in (tmp_path / "errors").read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the recipe goes on without its launcher")


def test_the_launcher_passes_sigterm_on_and_waits(tmp_path):
    (tmp_path / "recipe.py").write_text(
        "import time; from lmsys_trl.terminal import run_recipe\n"
        "def main():\n    print('started', flush=True)\n    time.sleep(60)\nrun_recipe(main)"
    )
    config = REPOSITORY / "accelerate_configs" / "cpu.yaml"
    command = [sys.executable, "-m", "lmsys_trl.launch", "--quiet", "--config_file", config, tmp_path / "recipe.py"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, **streams)
    assert process.stdout.readline() == "started\n"
    process.terminate()
    _, output = process.communicate(timeout=30)
    assert "recipe.py: stopped by SIGTERM" in output and "Traceback" not in output
    assert process.returncode == 1  # accelerate's own


def test_no_text_acts_on_a_terminal(capsys):
    set_up_logging()
    logger.info("a\x1b[2Jb\tc\n\x07\x9b31m\u202ed, \x1b[1mbold\x1b[0m, 你好 🙂")
    assert capsys.readouterr().out == "a\\x1b[2Jb\tc\n\\x07\\x9b31m\\u202ed, \x1b[1mbold\x1b[0m, 你好 🙂\n"

    def fail():
        raise UserError("a\x1b]0;b")

    with pytest.raises(SystemExit, match=r": a\\x1b\]0;b$"):
        run_recipe(fail)
