"""A recipe in a process of its own, forked from one in which the libraries are loaded already: that costs seconds."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

LOADED = (
    "lmsys_trl.training.trainer",
    "lmsys_trl.judging.judge",
    "lmsys_trl.predictions.baselines",
    "lmsys_trl.report.page",
    "lmsys_trl.data.sources",
)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(LOADED))


def run_forked(script: Path, arguments: list[str], cwd: Path, output: Path) -> int:
    """Run a script as `python script arguments` does. Its output goes to a file. Returns its exit status."""
    process = _context.Process(target=_run, args=(str(script), arguments, str(cwd), str(output)))
    process.start()
    process.join()
    return process.exitcode


def _run(script: str, arguments: list[str], cwd: str, output: str) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")
