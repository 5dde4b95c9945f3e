"""accelerate_configs/launch.slurm with stand-ins for Slurm's commands: its two nodes are processes of this machine."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from helpers.models import build_base
from helpers.run import REPOSITORY, recipe

SCRIPT = REPOSITORY / "accelerate_configs" / "launch.slurm"
CONFIGS = ["multi_node", "multi_gpu", "fsdp", "zero2", "zero3"]
# srun starts its command on both nodes; scancel signals what it has started; scontrol says what it was asked.
COMMANDS = {
    "srun": """
import os, subprocess, sys
nodes = [subprocess.Popen(sys.argv[1:], env={**os.environ, "SLURM_NODEID": str(node)}) for node in (0, 1)]
with open("pids", "w") as file:
    print(*(node.pid for node in nodes), file=file)
sys.exit(max(abs(node.wait()) for node in nodes))
""",
    "scancel": """
import os, signal, sys
assert sys.argv[1:] == ["--signal=TERM", "7.0"]
for pid in open("pids").read().split():
    os.kill(int(pid), signal.SIGTERM)
""",
    "scontrol": """
import sys
if sys.argv[1] == "show":
    print("127.0.0.1\\n127.0.0.1")
else:
    open("requeued", "a").write(" ".join(sys.argv[1:]) + "\\n")
""",
    # In the place of Python, where only its arguments are of interest.
    "show": """
import json, os, sys
open("node-" + os.environ["SLURM_NODEID"], "w").write(json.dumps(sys.argv[1:]))
""",
}


@pytest.fixture
def cluster(tmp_path):
    """A folder in which the script is submitted, and the environment that Slurm gives it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, code in COMMANDS.items():
        (programs / name).write_text(f"#!{sys.executable} -IS\n{code}")
        (programs / name).chmod(0o755)
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("accelerate_configs", "recipes"):
        (folder / name).symlink_to(REPOSITORY / name)
    environment = {
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY), "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2",
    }  # fmt: skip
    return folder, environment


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_what_each_node_starts(cluster, name):
    folder, environment = cluster
    words = [name, "sft", "gemma.yaml", "--bnb_4bit_quant_storage", "bfloat16"]
    subprocess.run(["bash", SCRIPT, *words], cwd=folder, env={**environment, "PYTHON": "show"}, check=True)
    assert not (folder / "requeued").exists()
    for node in (0, 1):
        module, launcher, *arguments = json.loads((folder / f"node-{node}").read_text())
        assert (module, launcher) == ("-m", "lmsys_trl.launch")
        parsed = launch_command_parser().parse_args(arguments)
        parsed.config_file = str(REPOSITORY / parsed.config_file)
        args, config, _ = _validate_launch_command(parsed)
        assert (args.machine_rank, args.num_machines, args.num_processes) == (node, 2, 16)
        assert (args.main_process_ip, args.main_process_port) == ("127.0.0.1", 10007)
        assert args.training_script == "recipes/sft.py" and args.training_script_args == words[2:]
        kind = {"fsdp": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}.get(name, "MULTI_GPU")
        assert config.distributed_type == kind
        assert kind != "DEEPSPEED" or args.deepspeed_multinode_launcher == "standard"


def test_a_run_that_fails_is_not_queued_again(cluster):
    folder, environment = cluster
    job = subprocess.run(["bash", SCRIPT, "multi_node", "sft"], cwd=folder, env={**environment, "PYTHON": "false"})
    assert job.returncode != 0 and not (folder / "requeued").exists()


@pytest.mark.slow
def test_a_run_that_is_stopped_resumes_after_it_was_queued_again(cluster, votes):
    folder, environment = cluster
    environment |= {"PYTHON": sys.executable, "SLURM_GPUS_ON_NODE": "1"}
    build_base(folder / "models" / "tiny")
    recipe("prepare.py", "--sources", votes, "--validation_fraction", "0.2", "--output_dir", "data", cwd=folder)
    command = ["bash", SCRIPT, "multi_node", "sft", "smollm2.yaml", "--model_name_or_path", "models/tiny",
               "--dataset_name", "data", "--per_device_train_batch_size", "1", "--num_train_epochs", "20",
               "--save_steps", "5", "--output_dir", "runs/nodes"]  # fmt: skip
    job = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 900
    while not list((folder / "runs").glob("nodes/checkpoint-*/manifest.json")):
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()[0]
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    output = job.communicate(timeout=900)[0]
    assert job.returncode != 0 and "Stopped after a complete step" in output
    assert (folder / "requeued").read_text() == "requeue 7\n"
    job = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    output = job.stdout + job.stderr
    assert job.returncode == 0, output
    assert "Resuming from" in output and "processes: 2" in output
    assert (folder / "runs" / "nodes" / "judge.json").exists()
