"""
A judge ranks models from files of their answers to MT-bench, beside what annotators say; and its length-controlled win
rate of one model over another, beside the same by alpaca_eval's own functions, called in an environment of their own.

    python benchmarks/models_ranked.py --assets DIR --adapter runs/judge --output_dir runs/ranked --record
"""

import json
import subprocess
import venv
from dataclasses import dataclass, field
from pathlib import Path

from real_votes import interval, run
from results import markdown_table, record
from scipy.stats import kendalltau, spearmanr

from lmsys_trl.config import parse_config
from lmsys_trl.data.model_outputs import pair_outputs, read_outputs
from lmsys_trl.data.sources import read_battles
from lmsys_trl.predictions.table import PROBABILITIES, load_predictions
from lmsys_trl.report.bootstrap import format_figure
from lmsys_trl.terminal import run_recipe

REQUIREMENTS = ("alpaca_eval==0.6.6", "setuptools<81")
MODELS = ("gpt-4", "vicuna-13b-v1.2")
WORKER = """
import json, sys
import pandas as pd
from alpaca_eval.metrics.glm_winrate import GLM_INFO, fit_LogisticRegressionCV, make_dmatrix_for_model
rows = pd.DataFrame(json.load(sys.stdin))
difference = rows["length"] - rows["other_length"]
train = pd.DataFrame({"preference": rows["points"], "std_delta_len": difference / difference.std()})
train["not_gamed_baseline"] = True
test = train[["not_gamed_baseline"]].assign(std_delta_len=0)
info = GLM_INFO["length_controlled_minimal"]
matrix, at_equal_lengths = make_dmatrix_for_model(train, test, formula=info["formula"])
model = fit_LogisticRegressionCV(matrix, "preference", is_ytrue_proba=True, **info["kwargs"])
print(model.predict_proba(at_equal_lengths)[:, 1].mean())
"""


@dataclass
class ModelsRankedConfig:
    """Which judge ranks which models."""

    assets: str = field(metadata={"help": "A folder with data/mt_bench_human.csv."})
    adapter: str = field(metadata={"help": "The judge."})
    output_dir: str = field(metadata={"help": "The folder for files of answers, reports and an environment."})
    max_battles: int = field(default=600, metadata={"help": "Pairs of answers that are compared for the ranking."})
    record: bool = field(default=False, metadata={"help": "Write the tables to docs/results.md."})


def main():
    config, _ = parse_config(ModelsRankedConfig)
    output, votes = Path(config.output_dir), Path(config.assets) / "data" / "mt_bench_human.csv"
    files = write_outputs(votes, output / "outputs")
    two = [files[model] for model in MODELS]
    judge = ["compare.py", "--adapter", config.adapter]
    run(*judge, "--outputs", *two, "--output_dir", output / "two")
    run(*judge, "--outputs", *files.values(), "--output_dir", output / "all", "--max_battles", config.max_battles)
    annotators = write_annotators(votes, output)
    run(
        "validate.py",
        "--predictions",
        annotators,
        "--test_file",
        votes,
        "--output_dir",
        output / "votes",
        "--overwrite",
    )
    blocks = [*show_two(output, two), *show_all(output)]
    print("", *blocks, sep="\n\n", flush=True)
    if config.record:
        record("models_ranked", *blocks)


def write_outputs(votes: Path, folder: Path) -> dict[str, Path]:
    """A file for each model, with its answers to all prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    answers: dict[str, dict[str, list]] = {}
    for battle in read_battles(votes)[0]:
        for side in ("a", "b"):
            answers.setdefault(battle[f"model_{side}"], {})[json.dumps(battle["prompt"])] = battle[f"response_{side}"]
    files = {model: folder / f"{model}.jsonl" for model in sorted(answers)}
    for model, file in files.items():
        rows = [{"prompt": json.loads(prompt), "output": turns} for prompt, turns in answers[model].items()]
        file.write_text("".join(json.dumps({**row, "model": model}) + "\n" for row in rows))
    return files


def write_annotators(votes: Path, output: Path) -> Path:
    """Predictions of the votes that are all alike: what the report says of annotators does not depend on them."""
    path = output / "even.csv"
    lines = [f"{battle['id']},0.34,0.33,0.33" for battle in read_battles(votes)[0]]
    path.write_text("\n".join([",".join(["id", *PROBABILITIES]), *lines]) + "\n")
    return path


def show_two(output: Path, files: list[Path]) -> list[str]:
    """The win rates of two models, at equal lengths by this project and by alpaca_eval."""
    (pair,) = json.loads((output / "two" / "comparison.json").read_text())["pairs"]
    table = load_predictions(str(output / "two" / "predictions.parquet"))
    mean = table[table["order"] == "mean"].set_index("id")[PROBABILITIES]
    battles, _ = pair_outputs([read_outputs(str(file)) for file in files])
    lengths = {name: [sum(map(len, b[name])) for b in battles] for name in ("response_a", "response_b")}
    points = [float(mean.loc[b["id"], PROBABILITIES[0]] + mean.loc[b["id"], PROBABILITIES[2]] / 2) for b in battles]
    rows = {"points": points, "length": lengths["response_a"], "other_length": lengths["response_b"]}
    theirs = subprocess.run(
        [environment(output / "alpaca_eval"), "-c", WORKER], input=json.dumps(rows), capture_output=True, text=True,
        check=True,
    ).stdout.split()[-1]  # fmt: skip
    first, second = pair["models"]
    controlled = pair["length_controlled_win_rate"]
    return [
        f"{first} against {second}, {pair['num_battles']} conversations: win rate {interval(pair['win_rate'])}, at "
        f"equal lengths {interval(controlled)}. At equal lengths alpaca_eval 0.6.6's `make_dmatrix_for_model` and "
        f"`fit_LogisticRegressionCV` give {float(theirs):.5f} for this project's {controlled['value']:.5f}. "
        f"{pair['flip_rate']['value']:.0%} of the verdicts flip."
    ]


def show_all(output: Path) -> list[str]:
    """Ratings by annotators and by the judge, and how far the orders agree."""
    figures = json.loads((output / "all" / "comparison.json").read_text())
    votes = json.loads((output / "votes" / "metrics.json").read_text())["ratings"]["models"]
    by_judge = {row["model"]: row for row in figures["models"]}
    rows = [
        [
            row["model"], whole(row["annotators"]), whole(by_judge[row["model"]]["rating"]),
            whole(by_judge[row["model"]]["style_controlled_rating"]),
        ]
        for row in votes
    ]  # fmt: skip
    pairs = [(row["annotators"]["value"], by_judge[row["model"]]["rating"]["value"]) for row in votes]
    ranks = [statistic(*zip(*pairs, strict=True)).statistic for statistic in (spearmanr, kendalltau)]
    header = ["model", "rating by annotators", f"by the judge, {figures['num_battles']} battles", "at equal style"]
    return [
        markdown_table(header, rows),
        f"Rank correlation of the judge's ratings with the annotators': Spearman {ranks[0]:.2f}, Kendall "
        f"{ranks[1]:.2f}. {figures['flip_rate']['value']:.0%} of its verdicts flip.",
    ]


def whole(figure: dict) -> str:
    return format_figure(figure, ".0f")


def environment(folder: Path) -> Path:
    """The Python of an environment with alpaca_eval, which is made if it is missing."""
    python = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        (folder / "installed").touch()
    return python


if __name__ == "__main__":
    run_recipe(main)
