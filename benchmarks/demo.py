"""
What does `make demo` print? Reads the report of a finished one.

    make demo
    python benchmarks/demo.py --record
"""

import json
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

from results import record

from lmsys_trl.config import parse_config
from lmsys_trl.errors import UserError
from lmsys_trl.report.summary import format_summary
from lmsys_trl.terminal import run_recipe


@dataclass
class DemoConfig:
    """Which report."""

    report: str = field(default="runs/demo/report", metadata={"help": "The folder of the report."})
    record: bool = field(default=False, metadata={"help": "Write the table to docs/results.md."})


def main():
    config, _ = parse_config(DemoConfig)
    path = Path(config.report) / "metrics.json"
    if not path.is_file():
        raise UserError(f"report: there is no {path}. Run `make demo` first")
    figures = json.loads(path.read_text(encoding="utf-8"))
    if figures["versions"] != {package: version(package) for package in figures["versions"]}:
        raise UserError(f"{path}: was made with other versions of the packages. Run `make demo` again")
    table = f"```text\n{format_summary(figures)}\n```"
    print(table)
    if config.record:
        record("demo", table, day=date.fromtimestamp(path.stat().st_mtime))


if __name__ == "__main__":
    run_recipe(main)
