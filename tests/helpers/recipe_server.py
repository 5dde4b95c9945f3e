"""
Recipes in processes forked from one in which the libraries are loaded already: loading them takes seconds.

Commands are sent to the server over a socket, with the streams that they write to. `programs` makes a folder for PATH
whose `lmsys-trl` and `accelerate` send what a shell types; `accelerate launch` runs its script in one process.
"""

import contextlib
import gc
import importlib
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
TESTS = str(REPOSITORY / "tests")
LOADED = (
    "lmsys_trl.training.trainer",
    "lmsys_trl.judging.judge",
    "lmsys_trl.predictions.baselines",
    "lmsys_trl.report.page",
    "lmsys_trl.data.sources",
)
PROGRAM = """\
#!{python} -IS
import os, sys
sys.path.insert(0, {tests!r})
from helpers.recipe_server import ask
sys.exit(ask({address!r}, os.getcwd(), [os.path.basename(sys.argv[0]), *sys.argv[1:]], [0, 1, 2]))
"""


def ask(address: str, cwd: str, words: list[str], streams: list[int]) -> int:
    """Have the server run a program with these file descriptors as its streams. Returns its exit status."""
    message = "\0".join([cwd, *words]).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [struct.pack("I", len(message))], streams)
        connection.sendall(message)
        return struct.unpack("B", connection.recv(1))[0]


class RecipeServer:
    """The server, for as long as the context lasts. Its processes have the environment that it was started with."""

    def __init__(self, folder: Path, **environment: str):
        self.address = str(folder / "recipes.sock")
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in ("lmsys-trl", "accelerate", "python"):
            program = self.programs / name
            program.write_text(PROGRAM.format(python=sys.executable, tests=TESTS, address=self.address))
            program.chmod(0o755)
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{TESTS}", **environment}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            command = [sys.executable, "-m", "helpers.recipe_server", str(listener.fileno()), str(self.programs)]
            # A pipe, since a stream that can seek would become one that cannot when a command gets another.
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            self._process = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()], **streams)

    def __enter__(self) -> "RecipeServer":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def run_script(self, script: Path, arguments: list[str], cwd: Path) -> tuple[int, str]:
        """Run a script as `python script arguments` does. Returns its status and all that it prints."""
        with tempfile.TemporaryFile() as file, open(os.devnull) as nothing:
            streams = [nothing.fileno(), file.fileno(), file.fileno()]
            status = ask(self.address, str(cwd), ["python", str(script), *arguments], streams)
            file.seek(0)
            return status, file.read().decode()

    def run(self, script: str, cwd: Path) -> tuple[int, str]:
        """Run a shell script in which the programs are found first. Returns its status and all that it prints."""
        environment = {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        command = ["bash", "-euo", "pipefail", "-c", script]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        result = subprocess.run(command, cwd=cwd, env=environment, text=True, **streams)
        return result.returncode, result.stdout


def serve(listener: socket.socket, programs: str) -> None:
    """Answer each connection with the exit status of its command. What a sweep starts is sent here too."""
    for module in LOADED:
        importlib.import_module(module)
    gc.freeze()  # so that a child's collector does not copy all pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that answer
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _answer(connection, programs)
        connection.close()


def _answer(connection: socket.socket, programs: str) -> None:
    """Run the command in a child and send its status, whatever ends the child. It is killed with who asked for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    cwd, program, *words = connection.recv(struct.unpack("I", size)[0], socket.MSG_WAITALL).decode().split("\0")
    child = os.fork()
    if child:
        ended, _, _ = select.select([connection, os.pidfd_open(child)], [], [])
        if connection in ended:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(struct.pack("B", status & 255))
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(cwd)
    status = 0
    try:
        _run(program, words, programs)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking the libraries down takes seconds


def _run(program: str, words: list[str], programs: str) -> None:
    """Run a command as its program would, but in this process."""
    if program == "python" and words[:2] == ["-m", "lmsys_trl.cli"]:
        program, words = "lmsys-trl", words[2:]
    if program == "python" and words[0] == "-c":
        sys.argv, code = ["-c", *words[2:]], words[1]
        sys.path.insert(0, "")
        exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})
    elif program == "lmsys-trl" and not (REPOSITORY / "recipes" / f"{words[0] if words else ''}.py").is_file():
        sys.argv = [program, *words]
        importlib.import_module("lmsys_trl.cli").main()
    else:
        if program == "lmsys-trl":
            verb, *options = words
            is_launched = verb in importlib.import_module("lmsys_trl.cli").LAUNCHED
            options = _without_launch_options(options) if is_launched else options
            words = [str(REPOSITORY / "recipes" / f"{verb}.py"), *options]
        elif program == "accelerate":
            words = words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]
        if os.path.basename(words[0]) == "sweep.py":
            sys.executable = os.path.join(programs, "python")
        sys.argv = words
        sys.path.insert(0, os.path.dirname(words[0]))
        runpy.run_path(words[0], run_name="__main__")


def _without_launch_options(words: list[str]) -> list[str]:
    """The words without `--accelerate_config NAME`, which must be one of ours."""
    if "--accelerate_config" in words:
        i = words.index("--accelerate_config")
        importlib.import_module("lmsys_trl.config").find_accelerate_config(words[i + 1])
        words = words[:i] + words[i + 2 :]
    return words


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
