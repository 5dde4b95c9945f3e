"""
Push a judge to the Hub in one commit: adapter, judge.json, tokenizer, report, and a card made of them.

    lmsys-trl push --adapter runs/judge --hub_model_id owner/name
"""

from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.terminal import logger, run_recipe, suggest_next


@dataclass
class PushConfig:
    """Which judge goes where."""

    adapter: str = field(metadata={"help": "A judge: the output folder of sft, import or merge."})
    hub_model_id: str = field(metadata={"help": "owner/name; made if it does not exist."})
    report: str | None = field(
        default=None, metadata={"help": "The output folder of validate (default: ADAPTER/report if there is one)."}
    )
    benchmark: str | None = field(
        default=None,
        metadata={"help": "The output folder of benchmark (default: ADAPTER/benchmark if there is one)."},
    )
    hub_private_repo: bool = field(default=True, metadata={"help": "Whether the repository is for its owner only."})


CONFIGS = (PushConfig,)


def main():
    config, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.models.adapter import resolve_adapter
    from lmsys_trl.publish.push import push_judge

    adapter = resolve_adapter(config.adapter)
    report = Path(config.report) if config.report else adapter / "report"
    has_report = config.report is not None or report.is_dir()
    if not has_report:
        logger.info("%s has no report: the card says that there are no results.", adapter)
    benchmark = Path(config.benchmark) if config.benchmark else adapter / "benchmark"
    has_benchmark = config.benchmark is not None or benchmark.is_dir()
    url = push_judge(
        adapter,
        report if has_report else None,
        config.hub_model_id,
        config.hub_private_repo,
        benchmark if has_benchmark else None,
    )
    logger.info("Pushed: %s", url)
    suggest_next("predict", "--adapter", config.hub_model_id, "--test_file", "test.csv",
                 "--output_file", "submission.csv")  # fmt: skip


if __name__ == "__main__":
    run_recipe(main)
