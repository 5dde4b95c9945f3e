"""
How good is a judge? Writes report.html, metrics.json and predictions.parquet.

    python recipes/validate.py --adapter runs/judge --test_file labelled.csv --output_dir reports/judge
    python recipes/validate.py --adapter runs/judge --dataset_name data/battles --output_dir reports/judge
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lmsys_trl.baselines import FEATURES_FILE, baseline_forecasts, features_table
from lmsys_trl.config import parse_config, run_recipe
from lmsys_trl.judge import Judge
from lmsys_trl.predictions import PROBABILITIES, probabilities_of, save_predictions
from lmsys_trl.prepared import data_fingerprint, load_battles
from lmsys_trl.provenance import file_fingerprint, provenance
from lmsys_trl.report.figures import report_figures, vote_labels
from lmsys_trl.report.page import render_page
from lmsys_trl.report.plots import confusion_matrix, reliability_diagram
from lmsys_trl.sources import read_battles


@dataclass
class ValidateConfig:
    """Which judge is validated on which votes."""

    adapter: str = field(metadata={"help": "The output folder of recipes/sft.py."})
    output_dir: str = field(metadata={"help": "The folder for the report."})
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
    max_tokens_per_batch: int = field(default=4096, metadata={"help": "Tokens in a forward pass, with padding."})


def main():
    config, given = parse_config(ValidateConfig)
    battles, fingerprint = labelled_battles(config)
    known = known_probabilities(config.known_probabilities, battles)
    judge = Judge.from_pretrained(config.adapter, config.model_name_or_path)
    predictions = judge.predict_dataset(battles, tta="swap", max_tokens_per_batch=config.max_tokens_per_batch)
    table = features_table(battles)
    training = training_features(Path(config.adapter))
    baselines, fitted_on = baseline_forecasts(table, training)
    figures = report_figures(predictions, list(table["group"]), baselines, known)
    num_seen = 0 if training is None else int(table["group"].isin(set(training["group"])).sum())
    figures |= {"baselines_fitted": fitted_on, "num_battles_with_a_training_prompt": num_seen}
    record = {"data_fingerprint": fingerprint, **provenance(given)}
    figures |= record

    output_dir = Path(config.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    forecast, labels = probabilities_of(predictions, "ab"), vote_labels(predictions)
    page = render_page(
        figures,
        {
            "Reliability": reliability_diagram(forecast, labels),
            "Votes and verdicts": confusion_matrix(forecast, labels),
        },
        {
            "judge": config.adapter,
            "battles": config.test_file or f"{config.dataset_name} (validation)",
            "temperature": judge.settings["temperature"],
            "baselines": fitted_on,
            "num_seen": num_seen,
            "details": json.dumps(record, indent=2),
        },
    )
    save_predictions(predictions, output_dir / "predictions.parquet")
    (output_dir / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (output_dir / "report.html").write_text(page, encoding="utf-8")
    print_table(figures)
    print(f"The report is {output_dir / 'report.html'}")


def labelled_battles(config: ValidateConfig) -> tuple[list[dict], str]:
    """The battles, and a fingerprint of where they came from."""
    if (config.test_file is None) == (config.dataset_name is None):
        raise ValueError("give either --test_file or --dataset_name")
    if config.test_file is not None:
        battles, _ = read_battles(config.test_file)
        return battles, file_fingerprint(config.test_file)
    splits = load_battles(config.dataset_name)
    if "validation" not in splits:
        raise ValueError(f"dataset_name: {config.dataset_name} has no validation split")
    # A swapped twin says nothing that its origin does not, since both orders are predicted.
    labelled = (row for row in splits["validation"] if row["winner"] is not None and row["swapped_from"] is None)
    return list(labelled), data_fingerprint(splits["validation"])


def known_probabilities(path: str | None, battles: list[dict]) -> np.ndarray | None:
    if path is None:
        return None
    known = pd.read_csv(path, dtype={"id": str}).set_index("id")
    missing = [battle["id"] for battle in battles if battle["id"] not in known.index]
    if missing:
        raise ValueError(f"known_probabilities: {path} lacks {len(missing)} of the battles, the first {missing[0]}")
    return known.loc[[battle["id"] for battle in battles], PROBABILITIES].to_numpy()


def training_features(adapter: Path) -> pd.DataFrame | None:
    return pd.read_parquet(adapter / FEATURES_FILE) if (adapter / FEATURES_FILE).exists() else None


def print_table(figures: dict) -> None:
    rows = {
        "judge": figures,
        "judge, both orders": figures["both_orders"],
        "judge, cross-fitted temperature": figures["cross_fitted_temperature"],
        **figures["baselines"],
    }
    if "best_possible" in figures:
        rows["best possible"] = figures["best_possible"]
    print(f"\n{figures['num_battles']} battles{'':22} log loss  accuracy  Brier score    ECE")
    for name, scores in rows.items():
        print(
            f"{name:32} {scores['log_loss']:9.4f} {scores['accuracy']:9.1%} {scores['brier_score']:12.4f} "
            f"{scores['ece']:6.3f}"
        )
    print(f"verdicts that flip when the answers exchange places: {figures['flip_rate']:.1%}")
    if "share_of_the_way" in figures:
        print(f"way from the class prior to the best possible log loss: {figures['share_of_the_way']:.0%}")


if __name__ == "__main__":
    run_recipe(main)
