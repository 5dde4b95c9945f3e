"""
Recipes in processes forked from one in which the libraries are loaded already: loading them takes seconds.

Commands are sent to the server over a socket, with the streams that they write to. `programs` makes a folder for PATH
whose `lmsys-trl` and `accelerate` send what a shell types; `accelerate launch` runs its script in one process. As
`python -m accelerate.commands.launch` it starts the processes that it is asked for, each of them forked too.

Servers are themselves forked from one that has loaded only libraries that read nothing from the environment, and so
are programs that get an environment of their own, with [`run_python`].
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
TESTS = str(REPOSITORY / "tests")
# What takes longest to load, and nothing that keeps a variable of the environment, as the Hub's client does.
ENVIRONMENT_FREE = (
    "bitsandbytes",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pandas",
    "pydantic",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.linear_model",
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "torch.distributed.checkpoint",
    "torch.distributed.tensor",
)
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
words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
sys.exit(ask({address!r}, os.getcwd(), words, [0, 1, 2], dict(os.environ), forward=True))
"""


def ask(
    address: str,
    cwd: str,
    words: list[str],
    streams: list[int],
    environment: dict | None = None,
    forward: bool = False,
) -> int:
    """
    Have a server run a program with these file descriptors as its streams. Returns its exit status.

    Args:
        address (`str`), cwd (`str`), words (`list[str]`), streams (`list[int]`): The server, and what it runs.
        environment (`dict`, *optional*): All variables of the program. Default: those of the server.
        forward (`bool`): Whether to send it the signals that this process gets.
    """
    with _request(address, cwd, words, streams, environment) as connection:
        (pid,) = struct.unpack("I", connection.recv(4))
        for number in (signal.SIGINT, signal.SIGTERM) if forward else ():
            signal.signal(number, lambda number, _: os.kill(pid, number))
        return struct.unpack("B", connection.recv(1))[0]


def _request(address: str, cwd: str, words: list[str], files: list[int], environment: dict | None) -> socket.socket:
    message = json.dumps([cwd, words, environment]).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    socket.send_fds(connection, [struct.pack("I", len(message))], files)
    connection.sendall(message)
    return connection


def run_python(
    words: list[str], cwd: Path, environment: dict | None = None, address: str | None = None
) -> tuple[int, str]:
    """
    Run `python` with these words. Returns its status and all that it prints.

    Args:
        words (`list[str]`): A script, or `-c` and code, and arguments.
        cwd (`Path`): The folder to run it in.
        environment (`dict`, *optional*): All its variables. Default: those of the server.
        address (`str`, *optional*): The server. Default: one whose processes load all that reads the environment.
    """
    with tempfile.TemporaryFile() as file, open(os.devnull) as nothing:
        streams = [nothing.fileno(), file.fileno(), file.fileno()]
        status = ask(address or _environment_free(), str(cwd), ["python", *words], streams, environment)
        file.seek(0)
        return status, file.read().decode()


@cache
def _environment_free() -> str:
    """The address of the server that all others are forked from, until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="servers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with _listen(folder / "free.sock") as listener:
        command = [sys.executable, "-m", "helpers.recipe_server", str(listener.fileno())]
        # A pipe, since a stream that can seek would become one that cannot when a command gets another.
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{TESTS}"}
        process = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()], **streams)
    atexit.register(process.terminate)
    return str(folder / "free.sock")


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


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
        self.environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{TESTS}", **environment}
        with _listen(Path(self.address)) as listener, open(os.devnull, "r+") as nothing:
            files = [nothing.fileno()] * 3 + [listener.fileno()]
            words = ["serve", str(self.programs)]
            self._connection = _request(_environment_free(), str(folder), words, files, self.environment)

    def __enter__(self) -> "RecipeServer":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        self._connection.close()  # which kills it

    def run_script(self, script: Path, arguments: list[str], cwd: Path) -> tuple[int, str]:
        """Run a script as `python script arguments` does. Returns its status and all that it prints."""
        return run_python([str(script), *arguments], cwd, address=self.address)

    def run(self, script: str, cwd: Path) -> tuple[int, str]:
        """Run a shell script in which the programs are found first. Returns its status and all that it prints."""
        environment = {**self.environment, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        command = ["bash", "-euo", "pipefail", "-c", script]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        result = subprocess.run(command, cwd=cwd, env=environment, text=True, **streams)
        return result.returncode, result.stdout


def serve(listener: socket.socket, modules: tuple[str, ...], programs: str = "") -> None:
    """Answer each connection with the exit status of its command. What a sweep starts is sent here too."""
    for module in modules:
        importlib.import_module(module)
    if modules is LOADED:
        importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")  # cached
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
    size, files, _, _ = socket.recv_fds(connection, 4, 4)
    message = connection.recv(struct.unpack("I", size)[0], socket.MSG_WAITALL)
    cwd, (program, *words), environment = json.loads(message)
    child = os.fork()
    if child:
        connection.sendall(struct.pack("I", child))
        ended, _, _ = select.select([connection, os.pidfd_open(child)], [], [])
        if connection in ended:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(struct.pack("B", status & 255))
        os._exit(0)
    connection.close()
    for number, stream in enumerate(files[:3]):
        os.dup2(stream, number)
    os.chdir(cwd)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = [folder for folder in environment.get("PYTHONPATH", "").split(":") if folder not in sys.path]
    status = 0
    try:
        if program == "serve":
            serve(socket.socket(fileno=files[3]), LOADED, *words)
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
    if programs:
        sys.executable = os.path.join(programs, "python")  # for the processes that this one starts
    if program == "python" and words[:2] == ["-m", "lmsys_trl.cli"]:
        program, words = "lmsys-trl", words[2:]
    if program == "python" and words[0] == "-u":
        words = words[1:]
    if program == "python" and words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif program == "python" and words[0] == "-c":
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
        sys.argv = words
        if "PYTHONSAFEPATH" not in os.environ:
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
    serve(socket.socket(fileno=int(sys.argv[1])), ENVIRONMENT_FREE)
