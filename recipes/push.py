"""
A judge to the Hub, in one commit: adapter, judge.json, tokenizer, report, and a card made of them.

    python recipes/push.py --adapter runs/judge --hub_model_id owner/name
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.adapters import adapter_folder
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.pushes import push_judge


@dataclass
class PushConfig:
    """Which judge goes where."""

    adapter: str = field(metadata={"help": "The output folder of recipes/sft.py."})
    hub_model_id: str = field(metadata={"help": "owner/name: made if it does not exist."})
    report: str | None = field(
        default=None, metadata={"help": "The output folder of recipes/validate.py (ADAPTER/report if there is one)."}
    )
    private: bool = field(default=True, metadata={"help": "Whether the repository is for its owner only."})


def main():
    config, _ = parse_config(PushConfig)
    adapter = adapter_folder(config.adapter)
    report = Path(config.report or adapter / "report")
    if config.report is None and not report.is_dir():
        report = None
        print(f"{adapter} has no report: the card says that there are no results.")
    print("Pushed:", push_judge(adapter, report, config.hub_model_id, config.private))


if __name__ == "__main__":
    run_recipe(main)
