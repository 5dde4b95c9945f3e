"""
Fuzz a target of targets.py with atheris, for which this project is installed with [fuzz].

    PYTHONPATH=.:tests python tests/fuzz/run.py TARGET --seconds 3600 [--findings FOLDER]

An input at which anything but a `UserError` is raised, or that takes longer than 10 seconds, is a finding. The first
one of each place in the code is written to the folder of findings, with its traceback. More than 2 GiB of memory ends
the run.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lmsys_trl"]):
    from fuzz.targets import TARGETS, seeds

from lmsys_trl.errors import UserError

MAX_SECONDS, MAX_MIB, MAX_BYTES = 10, 2048, 16_384


def fuzz(name: str, seconds: int, findings: Path) -> None:
    """Run a target until the time is over, from what it reads without a problem and the inputs that are committed."""
    scratch, corpus = Path(tempfile.mkdtemp(prefix="fuzz-")), Path(tempfile.mkdtemp(prefix="corpus-"))
    known = [path.read_bytes() for path in sorted((Path(__file__).parent / "inputs").glob(f"{name}-*"))]
    for number, content in enumerate([*seeds(name), *known]):
        (corpus / f"seed-{number}").write_bytes(content)
    places: set[str] = set()

    def run(content: bytes) -> None:
        folder = scratch / "input"
        folder.mkdir()
        signal.alarm(MAX_SECONDS)
        try:
            TARGETS[name](content, folder)
        except UserError:
            pass
        except Exception as error:
            keep(content, error)
        finally:
            signal.alarm(0)
            shutil.rmtree(folder)

    def keep(content: bytes, error: Exception) -> None:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "lmsys_trl" in frame.filename]
        place = f"{type(error).__name__} {frames[-1].filename}:{frames[-1].lineno}" if frames else repr(error)
        if place not in places:
            places.add(place)
            findings.mkdir(parents=True, exist_ok=True)
            (findings / f"{name}-{len(places)}").write_bytes(content)
            (findings / f"{name}-{len(places)}.txt").write_text("".join(traceback.format_exception(error)))
            print(f"FINDING {len(places)}: {place}: {error!r:.200}", flush=True)

    def hang(*_) -> None:
        raise TimeoutError(f"longer than {MAX_SECONDS} seconds")

    signal.signal(signal.SIGALRM, hang)
    warnings.simplefilter("ignore")
    options = [f"-max_total_time={seconds}", f"-rss_limit_mb={MAX_MIB}", f"-max_len={MAX_BYTES}", "-len_control=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    options = parser.parse_args()
    fuzz(options.target, options.seconds, options.findings)
