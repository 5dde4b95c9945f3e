"""
Does a long prediction leak? Many battles in one process: how memory and open files change while shards are written.

    python benchmarks/long_run.py --adapter runs/demo --battles 20000 --record
"""

import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from datasets import Dataset
from results import record

from lmsys_trl import Judge
from lmsys_trl.config import parse_config
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.data.text_store import write_arrow
from lmsys_trl.terminal import logger, run_recipe


@dataclass
class LongRunConfig:
    """What is predicted by which judge."""

    adapter: str = field(metadata={"help": "A judge. A tiny one will do: nothing depends on its size but the time."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "Its base model."})
    battles: int = field(default=20_000, metadata={"help": "Synthetic battles to predict."})
    shard_size: int = field(default=512, metadata={"help": "Battles in a shard."})
    seconds: float = field(default=1.0, metadata={"help": "Between two looks at memory and files."})
    record: bool = field(default=False, metadata={"help": "Write what was seen to docs/results.md."})


class Watch(threading.Thread):
    """Looks at this process while it works: `rows` of shards, MiB of memory and open files."""

    def __init__(self, folder: Path, seconds: float):
        super().__init__(daemon=True)
        self.folder, self.seconds, self.rows, self.is_over = folder, seconds, [], threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(self.seconds):
            self.look()

    def look(self) -> None:
        process, num_shards = psutil.Process(), len(list(self.folder.glob("ab-*.parquet")))
        self.rows.append((num_shards, process.memory_info().rss / 2**20, process.num_fds()))


def main():
    config, _ = parse_config(LongRunConfig)
    judge = Judge.from_pretrained(config.adapter, config.model_name_or_path)
    with tempfile.TemporaryDirectory() as scratch:
        write_arrow(make_battles(config.battles), Path(scratch) / "battles.arrow")
        shards = Path(scratch) / "shards"
        watch, began = Watch(shards, config.seconds), time.perf_counter()
        watch.start()
        battles = Dataset.from_file(str(Path(scratch) / "battles.arrow"))
        table = judge.predict_dataset(battles, folder=shards, shard_size=config.shard_size, progress=True)
        watch.is_over.set()
        watch.join()
        watch.look()
    rows, seconds = np.array(watch.rows), time.perf_counter() - began
    late = rows[rows[:, 0] >= rows[-1, 0] / 4]  # by then all that is made once is there
    slope, _ = np.polyfit(late[:, 0] * config.shard_size / 1000, late[:, 1], 1)
    lines = (
        f"{len(table)} battles in {seconds:.0f} s and {rows[-1, 0]:.0f} shards",
        f"memory: {late[0, 1]:.0f} MiB after a quarter, {late[-1, 1]:.0f} MiB at the end, {slope:+.2f} MiB per 1000 "
        "battles",
        f"open files: {late[0, 2]:.0f} after a quarter, {late[-1, 2]:.0f} at the end, {rows[:, 2].max():.0f} at most",
    )
    logger.info("\n".join(lines))
    if config.record:
        record("long_run", f"{'; '.join(lines)}.")


if __name__ == "__main__":
    run_recipe(main)
