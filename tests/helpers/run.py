"""Running recipes as users do."""

import atexit
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from lmsys_trl.terminal import set_up_logging

from .recipe_server import REPOSITORY, RecipeServer, run_python


def run(*command, cwd: Path, fails: bool = False, **environment) -> str:
    """Run a command of ours as a user would; returns what it prints."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
    )
    output = result.stdout + result.stderr
    assert (result.returncode != 0) == fails, output
    return output


def recipe(name: str, *arguments, cwd: Path, launch: list | None = None, fails: bool = False, **environment) -> str:
    """Run a recipe, or `accelerate launch` it with some options; returns what it prints."""
    launcher = [] if launch is None else ["-m", "accelerate.commands.launch", *launch]
    return python(*launcher, REPOSITORY / "recipes" / name, *arguments, cwd=cwd, fails=fails, **environment)


def python(*words, cwd: Path, fails: bool = False, **environment) -> str:
    """
    Run `python` with these words where libraries are loaded already; returns what it prints. With an environment those
    that read it are loaded then, but torch and Python itself are not: what they read takes [`run`].
    """
    words = [str(word) for word in words]
    if environment:
        status, output = run_python(words, cwd, {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment})
    else:
        status, output = run_python(words, cwd, address=_server().address)
    assert (status != 0) == fails, output
    return output


def recipe_here(name: str, monkeypatch, capsys) -> Callable[..., str]:
    """A recipe in this process: a function of its options, which returns what it prints, and why it exits."""
    monkeypatch.syspath_prepend(REPOSITORY / "recipes")
    main = importlib.import_module(name).main

    def run(*argv: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "recipes" / f"{name}.py"), *argv])
        capsys.readouterr()
        reason = ""
        set_up_logging()
        try:
            main()
        except SystemExit as exit:
            reason = str(exit)
        return capsys.readouterr().out + reason

    return run


def programs() -> Path:
    """A folder with a `python` in which the libraries are loaded already; for tests that keep hold of the process."""
    return _server().programs


@cache
def _server() -> RecipeServer:
    """The server of this process's recipes, until the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="recipes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = RecipeServer(folder)
    atexit.register(server.stop)
    return server
