"""Running recipes as users do."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .recipe_process import run_forked

REPOSITORY = Path(__file__).parent.parent.parent


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
    script = REPOSITORY / "recipes" / name
    if launch is not None:
        accelerate = Path(sys.executable).with_name("accelerate")
        return run(accelerate, "launch", *launch, script, *arguments, cwd=cwd, fails=fails, **environment)
    if environment:  # which libraries read when they are loaded
        return run(sys.executable, script, *arguments, cwd=cwd, fails=fails, **environment)
    with tempfile.NamedTemporaryFile() as file:
        status = run_forked(script, [str(word) for word in arguments], cwd, Path(file.name))
        output = Path(file.name).read_text(encoding="utf-8")
    assert (status != 0) == fails, output
    return output
