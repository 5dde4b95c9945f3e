"""What reads files of others, as functions of a file's bytes. Whatever they raise but a `UserError` is a finding."""

import csv
import gzip
import io
import json
import shutil
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pandas as pd
from helpers.models import build_base, build_judge
from helpers.run import REPOSITORY
from helpers.votes import simulated, table
from peft import PeftModel
from transformers import AutoConfig

from lmsys_trl.config import read_config
from lmsys_trl.data.config import PrepareConfig
from lmsys_trl.data.source import Source
from lmsys_trl.data.sources import Ledger, read_battles, read_source
from lmsys_trl.data.suggest import describe
from lmsys_trl.data.synthetic import kaggle_row, make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.models.adapter import resolve_adapter
from lmsys_trl.models.adapter_weights import fitting_weights, read_lora_config, read_weights
from lmsys_trl.models.base import build_without_weights
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.options import JudgeConfig
from lmsys_trl.predictions.baselines import baseline_predictions
from lmsys_trl.predictions.calibration import fit_calibrations
from lmsys_trl.predictions.ensemble import combine_tables
from lmsys_trl.predictions.features import features_table
from lmsys_trl.predictions.table import load_predictions
from lmsys_trl.report.figures import report_figures
from lmsys_trl.report.page import render_page
from lmsys_trl.report.slices import battle_attributes
from lmsys_trl.report.votes import judge_predictions, votes_from_predictions, votes_table

VOTES = ("csv", "tsv", "json", "jsonl", "parquet", "csv.gz", "zip")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def _put(content: bytes, folder: Path, names: tuple[str, ...]) -> Path:
    """Write the content as a file, whose name its first byte chooses."""
    path = folder / names[content[0] % len(names) if content else 0]
    path.write_bytes(content[1:])
    return path


def read_votes(content: bytes, folder: Path) -> None:
    path = _put(content, folder, tuple(f"votes.{suffix}" for suffix in VOTES))
    for lenient in (False, True):
        try:
            for battle in read_source(Source(str(path)), Ledger(), lenient):
                json.dumps(battle)
        except UserError:
            continue
    describe(str(path))


def read_mapping(content: bytes, folder: Path) -> None:
    """Lines: the mapping of columns, that of votes, and then a CSV."""
    columns, votes, rows = f"{content.decode('utf-8', 'replace')}\n\n".split("\n", 2)
    path = folder / "votes.csv"
    path.write_text(rows, encoding="utf-8", newline="")
    pairs = [dict(word.partition("=")[::2] for word in line.split() if "=" in word) for line in (columns, votes)]
    read_battles(Source(str(path), columns=pairs[0] or None, votes=pairs[1] or None))


def read_yaml(content: bytes, folder: Path) -> None:
    path = _put(content, folder, ("recipe.yaml",))
    for classes in ((PrepareConfig,), (JudgeConfig,)):
        parsed = read_config(*classes, argv=[str(path)])
        if parsed.configs and not parsed.problems and classes == (PrepareConfig,):
            parsed.configs[0].problems()


def read_judge(content: bytes, folder: Path) -> None:
    path = folder / "judge.json"
    path.write_bytes(content)
    JudgeFile.load(folder).differences(JudgeFile.load(_judge()))


def read_adapter(content: bytes, folder: Path) -> None:
    shutil.copytree(_judge(), folder, dirs_exist_ok=True)
    _put(content, folder, ADAPTER)
    config, model = read_lora_config(resolve_adapter(folder)), build_without_weights(_base_config())
    try:
        adapted = PeftModel(model, config, low_cpu_mem_usage=True)
    except (ValueError, TypeError):  # as attach_adapter does
        return
    fitting_weights(adapted, read_weights(folder), folder)


def read_predictions(content: bytes, folder: Path) -> None:
    predictions = load_predictions(_put(content, folder, ("some.csv", "some.parquet")))
    for compute in (
        lambda: fit_calibrations(predictions, ""),
        lambda: combine_tables(["a", "b"], [predictions, predictions], None, [0.5, 0.5], 0.0, None, "arithmetic"),
        lambda: judge_predictions("a", predictions, votes_from_predictions(predictions)),
    ):
        try:
            compute()
        except UserError:
            continue


def write_report(content: bytes, folder: Path) -> None:
    """The page and the figures of a report of a file's votes, with predictions that do not matter."""
    path = _put(content, folder, ("votes.jsonl",))
    battles = [battle for battle in read_battles(path)[0] if max(battle["vote"] or [0]) == 1][:50]
    if not battles:
        return
    votes = votes_table(battles)
    predictions = table(simulated(len(battles), 1)[:, 0], labels=list(votes["label"]), ids=list(votes.index))
    judges = {"judge": judge_predictions("judge", predictions, votes)}
    baselines, fitted_on = baseline_predictions(features_table(battles), None)
    figures = report_figures(votes, judges, baselines, battle_attributes(votes, judges["judge"].num_tokens))
    figures["judges"]["judge"]["num_battles_with_a_training_prompt"] = None
    record = {"battles": "votes.jsonl", "baselines_fitted": fitted_on}
    page = render_page(figures, {"judge": {}}, {battle["id"]: battle for battle in battles}, record)
    json.dumps(figures).encode()
    page.encode()


@cache
def _judge() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    return build_judge(build_base(folder / "base"), folder / "judge")


@cache
def _base_config():
    return AutoConfig.from_pretrained(_judge().parent / "base")


def _votes_seeds() -> list[bytes]:
    rows = [kaggle_row(battle) for battle in make_battles(6)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    whole, lines = json.dumps(rows).encode(), "\n".join(map(json.dumps, rows)).encode()
    parquet, archive = io.BytesIO(), io.BytesIO()
    pd.DataFrame(rows).to_parquet(parquet)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("votes.csv", text.getvalue())
    contents = (text.getvalue().encode(), text.getvalue().encode(), whole, lines, parquet.getvalue())
    contents += (gzip.compress(text.getvalue().encode()), archive.getvalue())
    messages = [{"role": "user", "content": [{"type": "text", "text": "p"}]}, {"role": "assistant", "content": "a"}]
    row = {"conversation_a": messages, "conversation_b": messages, "winner": "model_a", "judge": "j", "turn": 1}
    return [bytes([number]) + content for number, content in enumerate(contents)] + [b"\3" + json.dumps(row).encode()]


def _predictions_seeds() -> list[bytes]:
    predictions = table(simulated(12, 1)[:, 0], labels=[0, 1, 2] * 4)
    parquet = io.BytesIO()
    predictions.to_parquet(parquet)
    return [b"\0" + predictions.to_csv(index=False).encode(), b"\1" + parquet.getvalue()]


def seeds(target: str) -> list[bytes]:
    """Files that a target reads without a problem, to begin with."""
    mapping = "prompt=q response_a=a response_b=b vote=v id=i\nleft=model_a right=model_b same=tie\n"
    return {
        "votes": _votes_seeds,
        "mapping": lambda: [f"{mapping}q,a,b,v,i\np,x,y,left,1\np,x,y,same,2\n".encode()],
        "yaml": lambda: [b" " + path.read_bytes() for path in sorted((REPOSITORY / "recipes").glob("*/*.yaml"))],
        "judge": lambda: [(_judge() / "judge.json").read_bytes()],
        "adapter": lambda: [bytes([i]) + (_judge() / name).read_bytes() for i, name in enumerate(ADAPTER)],
        "predictions": _predictions_seeds,
        "report": lambda: [b" " + _votes_seeds()[3][1:]],
    }[target]()


TARGETS = {
    "votes": read_votes, "mapping": read_mapping, "yaml": read_yaml, "judge": read_judge, "adapter": read_adapter,
    "predictions": read_predictions, "report": write_report,
}  # fmt: skip
