"""
How good is a judge, or each of several on the same battles? Writes report.html, metrics.json, predictions.parquet and
plots/*.png.

    python recipes/validate.py --adapters runs/judge --test_file labelled.csv --output_dir reports/judge
    python recipes/validate.py --adapters runs/a runs/b --dataset_name data/battles --output_dir reports/both
    python recipes/validate.py --predictions a.parquet b.parquet --test_file labelled.csv --output_dir reports/both
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

import lmsys_trl
from lmsys_trl.baselines import FEATURES_FILE, baseline_forecasts, features_table
from lmsys_trl.battle import WINNERS
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.predictions import PROBABILITIES
from lmsys_trl.prepared import data_fingerprint, load_battles
from lmsys_trl.provenance import file_fingerprint, provenance, without_folders
from lmsys_trl.report.figures import report_figures
from lmsys_trl.report.page import score_rows, write_report
from lmsys_trl.report.slices import attributes
from lmsys_trl.report.votes import forecasts_of, read_predictions, votes_of_predictions, votes_table
from lmsys_trl.sources import read_battles

PARTS = "predictions.parts"  # forecasts on their way: a report that was killed goes on after them


@dataclass
class ValidateConfig:
    """Which judges are validated on which votes."""

    output_dir: str = field(metadata={"help": "The folder for the report."})
    adapters: list[str] = field(default_factory=list, metadata={"help": "Output folders of recipes/sft.py."})
    predictions: list[str] = field(
        default_factory=list, metadata={"help": "Files of recipes/predict.py (*.parquet), beside the adapters."}
    )
    test_file: str | None = field(default=None, metadata={"help": "Votes in any format of recipes/prepare.py."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "In place of test_file: a data set whose validation split is used."}
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "The base model (the folder in models/ with the same weights unless told)."}
    )
    known_probabilities: str | None = field(
        default=None, metadata={"help": "A CSV with the probabilities that the votes were drawn from."}
    )
    max_tokens_per_batch: int | None = field(
        default=None, metadata={"help": "Tokens in a forward pass, with padding (512 on a CPU, 4096 elsewhere)."}
    )


def main():
    config, given = parse_config(ValidateConfig)
    files = read_predictions(config.predictions)
    battles, fingerprint = labelled_battles(config)
    votes = votes_of_predictions(next(iter(files.values()))) if battles is None else votes_table(battles)
    judges = {name: forecasts_of(name, table, votes) for name, table in files.items()}
    known = known_probabilities(config.known_probabilities, votes.index)

    adapters = named(config.adapters, files)
    tables, whole_lengths = predict(adapters, battles, config)
    judges = {name: forecasts_of(name, table, votes) for name, table in tables.items()} | judges

    features = features_table(battles) if battles else votes_alone(votes)
    training = {name: training_features(adapter) for name, adapter in adapters.items()}
    baselines, fitted_on = baseline_forecasts(features, common(list(training.values())))
    slices = attributes(votes, next(iter(judges.values())).num_tokens, whole_lengths)
    figures = report_figures(votes, judges, baselines, slices, known)
    for name in judges:
        seen = training.get(name)
        num_seen = None if seen is None else int(features["group"].isin(set(seen["group"])).sum())
        figures["judges"][name]["num_battles_with_a_training_prompt"] = num_seen
    record = {
        "battles": without_folders(config.test_file or config.dataset_name),
        "baselines_fitted": fitted_on,
        "data_fingerprint": fingerprint,
        **provenance(given),
    }
    write_report(Path(config.output_dir), figures, record, votes, judges, tables | files, battles or [], known)
    shutil.rmtree(Path(config.output_dir) / PARTS, ignore_errors=True)
    print_table(figures)
    print(f"The report is {Path(config.output_dir) / 'report.html'}")


def named(adapters: list[str], files: dict[str, pd.DataFrame]) -> dict[str, Path]:
    """The adapters' folders by the names that the report gives them."""
    names = [without_folders(adapter.rstrip("/")) for adapter in adapters]
    doubled = {name for name in names if names.count(name) > 1 or name in files}
    if doubled:
        raise ValueError(f"several judges are named {', '.join(sorted(doubled))}. Give their paths in another way")
    return dict(zip(names, map(Path, adapters), strict=True))


def labelled_battles(config: ValidateConfig) -> tuple[list[dict] | None, str | list[str]]:
    """The battles, None where predictions must do, and a fingerprint of where they came from."""
    problems = []
    if not config.adapters and not config.predictions:
        problems.append("give --adapters, --predictions or both: what is to be validated")
    if config.test_file and config.dataset_name:
        problems.append("give either --test_file or --dataset_name")
    if config.adapters and not config.test_file and not config.dataset_name:
        problems.append("give --test_file or --dataset_name: the votes that the adapters are validated on")
    if problems:
        raise ValueError("; ".join(problems))
    if config.test_file:
        battles, _ = read_battles(config.test_file)
        fingerprint, where = file_fingerprint(config.test_file), config.test_file
    elif config.dataset_name:
        splits = load_battles(config.dataset_name)
        if "validation" not in splits:
            raise ValueError(f"dataset_name: {config.dataset_name} has no validation split")
        # A swapped twin says nothing that its origin does not, since both orders are predicted.
        battles = [row for row in splits["validation"] if row["swapped_from"] is None]
        fingerprint, where = data_fingerprint(splits["validation"]), config.dataset_name
    else:
        return None, [file_fingerprint(path) for path in config.predictions]
    labelled = [battle for battle in battles if battle["winner"] is not None]
    if not labelled:
        raise ValueError(f"{where}: none of its {len(battles)} battles has a vote for one winner")
    if len(labelled) < len(battles):
        print(f"{where}: {len(battles) - len(labelled)} battles without a vote for one winner are left out")
    return labelled, fingerprint


def known_probabilities(path: str | None, ids: pd.Index) -> np.ndarray | None:
    if path is None:
        return None
    known = pd.read_csv(path, dtype={"id": str}).set_index("id")
    missing = ids.difference(known.index)
    if len(missing):
        raise ValueError(f"known_probabilities: {path} lacks {len(missing)} of the battles, the first {missing[0]}")
    return known.loc[ids, PROBABILITIES].to_numpy()


def predict(
    adapters: dict[str, Path], battles: list[dict] | None, config: ValidateConfig
) -> tuple[dict[str, pd.DataFrame], np.ndarray | None]:
    """Each adapter's predictions, and how long the first one's rows would be if nothing were left out or cut."""
    tables, whole_lengths, dataset = {}, None, Dataset.from_list(battles or [])
    for name, adapter in adapters.items():
        judge = lmsys_trl.Judge.from_pretrained(adapter, config.model_name_or_path)
        tables[name] = judge.predict_dataset(
            dataset,
            tta="swap",
            max_tokens_per_batch=config.max_tokens_per_batch,
            parts=Path(config.output_dir) / PARTS / str(len(tables)),
        )
        if whole_lengths is None:
            unlabelled = ({**battle, "winner": None} for battle in battles)
            rows = (lmsys_trl.encode_battle(battle, judge.tokenizer, max_length=10**9)[-1] for battle in unlabelled)
            whole_lengths = np.array([len(row["input_ids"]) for row in rows])
    return tables, whole_lengths


def training_features(adapter: Path) -> pd.DataFrame | None:
    return pd.read_parquet(adapter / FEATURES_FILE) if (adapter / FEATURES_FILE).exists() else None


def common(training: list[pd.DataFrame | None]) -> pd.DataFrame | None:
    """The training votes that all adapters learned from, None where they differ: a baseline has one training."""
    first = training[0] if training else None
    return first if first is not None and all(first.equals(other) for other in training) else None


def votes_alone(votes: pd.DataFrame) -> pd.DataFrame:
    """What baselines can be fitted on where no texts are known."""
    return pd.DataFrame({"winner": np.array(WINNERS)[votes["label"]], "group": votes["group"].to_numpy()})


def print_table(figures: dict) -> None:
    rows = score_rows(figures)
    width = max(map(len, rows))
    print(f"\n{figures['num_battles']:,} battles".ljust(width + 1), " log loss  accuracy  Brier score    ECE")
    for name, scores in rows.items():
        log_loss, accuracy, brier, ece = (scores[k]["value"] for k in ("log_loss", "accuracy", "brier_score", "ece"))
        print(f"{name:{width}} {log_loss:9.4f} {accuracy:9.1%} {brier:12.4f} {ece:6.3f}")
    for name, judge in figures["judges"].items():
        prefix = f"{name}: " if len(figures["judges"]) > 1 else ""
        if judge["position"]:
            flips = judge["position"]["flip_rate"]["value"]
            print(f"{prefix}verdicts that flip when the answers exchange places: {flips:.1%}")
        if "known_probabilities" in judge:
            share = judge["known_probabilities"]["share_of_the_way"]["value"]
            print(f"{prefix}way from the class prior to the best possible log loss: {share:.0%}")


if __name__ == "__main__":
    run_recipe(main)
