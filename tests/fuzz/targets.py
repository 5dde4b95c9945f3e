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
from transformers import AutoConfig

from lmsys_trl.config import parse_config
from lmsys_trl.data.config import PrepareConfig
from lmsys_trl.data.ledger import Ledger
from lmsys_trl.data.source import Source
from lmsys_trl.data.sources import read_battles, read_source
from lmsys_trl.data.suggest import describe
from lmsys_trl.data.synthetic import kaggle_row, make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, JUDGE_FILE
from lmsys_trl.models.adapter_weights import attach_adapter
from lmsys_trl.models.base import build_without_weights
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.options import JudgeConfig
from lmsys_trl.predictions.baselines import baseline_predictions
from lmsys_trl.predictions.calibrate import fit_calibrations
from lmsys_trl.predictions.ensemble import combine_tables
from lmsys_trl.predictions.features import features_table
from lmsys_trl.predictions.table import load_predictions
from lmsys_trl.publish.model_card import model_card
from lmsys_trl.report.figures import report_figures
from lmsys_trl.report.page import render_page
from lmsys_trl.report.slices import battle_attributes
from lmsys_trl.report.votes import judge_predictions, votes_from_predictions, votes_table

VOTES = ("csv", "tsv", "json", "jsonl", "parquet", "csv.gz", "zip")


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
        try:
            parse_config(*classes, argv=[str(path)])
        except UserError:
            continue


def _change(path: Path, content: bytes) -> None:
    """Replace a JSON file, or one of its values, which the first byte chooses."""
    whole = json.loads(path.read_text())
    places = [(table, key) for table in _tables(whole) for key in table]
    if not content or content[0] >= len(places):
        path.write_bytes(content[1:])
        return
    table, key = places[content[0]]
    text = content[1:].decode("utf-8", "replace")
    try:
        table[key] = json.loads(text)
    except (ValueError, RecursionError):
        table[key] = text
    path.write_text(json.dumps(whole))


def _tables(table: dict) -> list[dict]:
    return [table, *(inner for value in table.values() if isinstance(value, dict) for inner in _tables(value))]


def read_judge(content: bytes, folder: Path) -> None:
    shutil.copy(_judge() / JUDGE_FILE, folder)
    shutil.copy(_judge() / ADAPTER_CONFIG, folder)
    _change(folder / JUDGE_FILE, content)
    judge = JudgeFile.load(folder)
    judge.differences(JudgeFile.load(_judge()))
    model_card(judge, json.loads((folder / ADAPTER_CONFIG).read_text()), None, "owner/name")


def read_adapter(content: bytes, folder: Path) -> None:
    shutil.copytree(_judge(), folder, dirs_exist_ok=True)
    if content[:1] == b"\1":
        (folder / ADAPTER_WEIGHTS).write_bytes(content[1:])
    else:
        _change(folder / ADAPTER_CONFIG, content[1:])
    attach_adapter(build_without_weights(_base_config()), folder)


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
    votes, labels = votes_table(battles), [battle["vote"].index(1) for battle in battles]
    predictions = table(simulated(len(battles), 1)[:, 0], labels=labels, ids=list(votes.index))
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
        "judge": lambda: [b"\xff" + (_judge() / JUDGE_FILE).read_bytes(), b"\x03650"],
        "adapter": lambda: [
            b"\0\xff" + (_judge() / ADAPTER_CONFIG).read_bytes(),
            b"\1" + (_judge() / ADAPTER_WEIGHTS).read_bytes(),
        ],
        "predictions": _predictions_seeds,
        "report": lambda: [b" " + _votes_seeds()[3][1:]],
    }[target]()


TARGETS = {
    "votes": read_votes, "mapping": read_mapping, "yaml": read_yaml, "judge": read_judge, "adapter": read_adapter,
    "predictions": read_predictions, "report": write_report,
}  # fmt: skip
