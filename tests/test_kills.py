"""Killed at any moment and started again: what comes out is that of a run that was never killed."""

import json
import random
import shlex
import shutil
import time
from pathlib import Path

import pytest
from helpers.hub_server import LoopbackHub
from helpers.models import build_base, build_judge
from helpers.recipe_server import REPOSITORY, RecipeServer
from helpers.votes import write_votes

from lmsys_trl.battle import winner_of
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.outputs import shards_of

NUM_MOMENTS = 20
KILLED = """
import os, runpy, signal, sys, time
recipe = os.getpid()
if os.fork() == 0:
    time.sleep(float(sys.argv[1]))
    if os.getppid() == recipe:
        os.kill(recipe, signal.SIGKILL)
    os._exit(0)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TINY = "--max_length 700 --bf16 false --lora_layers_to_transform 1 --max_steps 8 --save_steps 2 --logging_steps 1"
TINY += " --per_device_train_batch_size 2 --dataset_name data"
# By the name of what is tested: the command of what is there before, the command that is killed, and its output.
RUNS = {
    "prepare": ("prepare --sources votes.csv --output_dir out",
                "prepare --sources votes.csv more.csv --num_folds 2 --overwrite --output_dir out", "out"),
    "predict": ("predict --adapter judge --test_file few.csv --output_file out.parquet",
                "predict --adapter judge --test_file votes.csv --tta swap --shard_size 8 --output_file out.parquet",
                "out.parquet"),
    "validate": ("validate --adapter judge --test_file few.csv --output_dir out",
                 "validate --adapter judge --test_file votes.csv --overwrite --output_dir out", "out"),
    "pseudo_label": ("", "pseudo_label --adapter judge --test_file votes.csv --min_confidence 0 "
                     "--output_file out.jsonl", "out.jsonl"),
    "benchmark": ("benchmark --adapter judge --benchmark ppe --file few.jsonl --output_dir out",
                  "benchmark --adapter judge --benchmark ppe --file ppe.jsonl --overwrite --output_dir out", "out"),
    "compare": ("compare --adapter judge --outputs x.jsonl y.jsonl --max_battles 8 --output_dir out",
                "compare --adapter judge --outputs x.jsonl y.jsonl z.jsonl --overwrite --output_dir out", "out"),
    "rank in a round robin": ("rank --adapter judge --input_file few_candidates.jsonl --output_file out.jsonl",
                              "rank --adapter judge --input_file candidates.jsonl --output_file out.jsonl",
                              "out.jsonl"),
    "rank in a knockout": ("", "rank --adapter judge --input_file candidates.jsonl --method knockout "
                           "--output_file out.jsonl", "out.jsonl"),
    "calibrate": ("", "calibrate --adapter out --predictions predictions.parquet", "out"),
    "merge": ("", "merge --adapter judge other --output_dir out", "out"),
    "merge into the base": ("", "merge --adapter judge --output_dir out", "out"),
    "import": ("", "import --adapter judge --model_name_or_path models/tiny --prompt_version lmsys-trl-v1 "
               "--letters A B C --max_length 600 --output_dir out", "out"),
    "sft": ("", f"sft smollm2.yaml --model_name_or_path models/tiny {TINY} --output_dir out", "out"),
    "sft in 4 bits": ("", f"sft smollm2.yaml --model_name_or_path models/wide {TINY} --load_in_4bit --dtype bfloat16 "
                      "--output_dir out", "out"),
}  # fmt: skip
SEVERAL_FILES = ("sft", "validate", "benchmark", "compare")  # of which the last says whether all are complete
OF_A_RUN = ("checkpoint-", "training_args.bin", "predictions.shards")  # what a finished output may have besides


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def run(hub, tmp_path_factory):
    """A folder with all that the commands read, and a function that runs one, or kills it after some seconds."""
    folder = tmp_path_factory.mktemp("kills")
    base = build_base(folder / "models" / "tiny")
    build_base(folder / "models" / "wide", hidden_size=64, intermediate_size=128)
    build_judge(base, folder / "judge")
    build_judge(base, folder / "other", seed=2)
    write_votes(folder / "votes.csv", make_battles(40))
    write_votes(folder / "few.csv", make_battles(8, seed="few"))
    write_votes(folder / "more.csv", make_battles(2000, seed="more"))
    write_texts(folder, make_battles(40))
    with RecipeServer(tmp_path_factory.mktemp("server"), **hub.environment(folder / "home", "hf_writer")) as server:

        def run_command(command: str, kill_after: float | None = None) -> None:
            verb, *words = command.split()
            words = [str(REPOSITORY / "recipes" / f"{verb}.py"), *words]
            if kill_after is not None:
                words = ["-c", KILLED, str(kill_after), *words]
            status, output = server.run(shlex.join(["python", *words]), folder)
            assert status in ((0,) if kill_after is None else (0, 247)), output  # 247: SIGKILL

        run_command.folder = folder
        run_command("prepare --sources votes.csv --output_dir data")
        run_command("predict --adapter judge --test_file votes.csv --output_file predictions.parquet")
        yield run_command


def write_texts(folder: Path, battles: list[dict]) -> None:
    """What benchmark, compare and rank read, made of the same battles."""
    one_turn = [{name: battle[name][0] for name in ("prompt", "response_a", "response_b")} for battle in battles]
    ppe = [
        {"prompt": row["prompt"], "response_1": row["response_a"], "response_2": row["response_b"],
         "winner": winner_of(battle["vote"]), "language": "English"}
        for row, battle in zip(one_turn, battles, strict=True)
    ]  # fmt: skip
    answers = {
        "x": [row["response_a"] for row in one_turn],
        "y": [row["response_b"] for row in one_turn],
        "z": [row["response_a"][:20] for row in one_turn],
    }
    files = {"ppe": ppe, "few": ppe[:8]}
    files |= {
        name: [{"prompt": row["prompt"], "output": text} for row, text in zip(one_turn, texts, strict=True)]
        for name, texts in answers.items()
    }
    candidates = [
        {"prompt": row["prompt"], "responses": list(texts)}
        for row, texts in zip(one_turn, zip(*answers.values(), strict=True), strict=True)
    ]
    files |= {"candidates": candidates, "few_candidates": candidates[:4]}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def content_of(path: Path) -> dict[str, bytes]:
    """The files of an output, without those that a run resumes from."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if not name.startswith(OF_A_RUN)}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_at_any_moment(run, name):
    before, command, output = RUNS[name]
    output, numbers = run.folder / output, random.Random(name)

    def begin() -> dict[str, bytes]:
        shutil.rmtree(output, ignore_errors=True)
        output.unlink(missing_ok=True) if output.is_file() else None
        shutil.rmtree(shards_of(output), ignore_errors=True)  # of a run that was killed when its output was complete
        if name == "calibrate":
            shutil.copytree(run.folder / "judge", output)
        elif before:
            run(before)
        return content_of(output)

    old, began = begin(), time.monotonic()
    run(command)
    seconds, new = time.monotonic() - began, content_of(output)
    assert new != old
    for _ in range(NUM_MOMENTS):
        assert begin() == old
        run(command, kill_after=numbers.uniform(0, seconds))
        found = content_of(output)
        if not name.startswith(SEVERAL_FILES):
            assert found in (old, new)
        if found != new:
            run(command)
        assert content_of(output) == new


@pytest.mark.slow
def test_a_push_killed_at_any_moment(run, hub):
    command, numbers, began = (
        "push --adapter judge --hub_model_id owner/whole",
        random.Random("push"),
        time.monotonic(),
    )
    run(command)
    seconds, whole = time.monotonic() - began, pushed(hub, "owner/whole")
    for number in range(NUM_MOMENTS):
        command = f"push --adapter judge --hub_model_id owner/judge{number}"
        run(command, kill_after=numbers.uniform(0, seconds))
        assert pushed(hub, f"owner/judge{number}").keys() in (set(), whole.keys())
        run(command)
        assert pushed(hub, f"owner/judge{number}").keys() == whole.keys()


def pushed(hub, name: str) -> dict[str, bytes]:
    files = hub.repos[name].branches["main"].files if name in hub.repos else {}
    return {path: blob.data for path, blob in files.items() if path != ".gitattributes"}
