"""Benchmarks of judges: what is read of each layout, scores computed by hand, and the command."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.hub_server import Blob, LoopbackHub, Repo
from helpers.models import build_judge
from helpers.recipe_server import REPOSITORY, RecipeServer
from helpers.run import recipe
from huggingface_hub import ModelCard, parse_eval_result_entries

from lmsys_trl.battle import winner_of
from lmsys_trl.data.benchmarks import BENCHMARKS, REWARD_BENCH, check_benchmarks, load_benchmark
from lmsys_trl.errors import UserError
from lmsys_trl.predictions.table import PROBABILITIES, predictions_table
from lmsys_trl.publish.benchmarks import render_benchmarks
from lmsys_trl.report.benchmarks import benchmark_figures, format_benchmark, published


def said(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


MT_BENCH = {"question_id": 81, "model_a": "m", "model_b": "n", "conversation_a": said("p", "a", "q", "a2"),
            "conversation_b": said("p", "b", "q", "b2")}  # fmt: skip
# Invented rows in the layout of each data set.
ROWS = {
    "rewardbench": [
        {"prompt": f"p{i}", "chosen": "right", "chosen_model": "m", "rejected": "wrong", "rejected_model": "n",
         "subset": subset, "id": i}
        for i, subset in enumerate(["alpacaeval-easy", "mt-bench-hard", "donotanswer", "math-prm", "hep-go"])
    ],
    "rewardbench-2": [
        {"id": "1", "prompt": "p", "chosen": ["right"], "rejected": ["w1", "w2", "w3"], "num_correct": 1,
         "num_incorrect": 3, "subset": "Math"},
        {"id": "tied:0", "prompt": "q", "chosen": ["r1", "r2"], "rejected": ["w"], "num_correct": 2,
         "num_incorrect": 1, "subset": "Ties"},
    ],
    "judgebench-gpt": [
        {"pair_id": str(i), "original_id": "7", "source": source, "question": f"q{i}", "response_model": "gpt",
         "response_A": "a", "response_B": "b", "label": label}
        for i, (source, label) in enumerate([("mmlu-pro-law", "B>A"), ("livebench-reasoning", "A>B"),
                                             ("livebench-math", "B>A"), ("livecodebench", "A>B")])
    ],
    "judgebench-claude": [
        {"pair_id": "0", "original_id": "7", "source": "mmlu-pro-law", "question": "q", "response_A": "a",
         "response_B": "b", "label": "A>B"},
    ],
    "ppe": [
        {"question_id": "1", "model_a": "m", "model_b": "n", "winner": winner, "prompt": "[{p", "response_1": "a",
         "response_2": "b", "language": language}
        for winner, language in (("model_b", "English"), ("tie (bothbad)", "German"), ("tie", "English"))
    ],
    "mt-bench": [
        {**MT_BENCH, "winner": "model_a", "judge": "expert_1", "turn": 1},
        {**MT_BENCH, "winner": "tie", "judge": "expert_2", "turn": 2},
        {**MT_BENCH, "winner": "model_b", "judge": "author_1", "turn": 2},
    ],
    "helpsteer3": [
        {"domain": "code", "language": "python", "context": said("p", "said", "q"), "response1": "a",
         "response2": "b", "overall_preference": preference, "individual_preference": []}
        for preference in (-2, 0, 3)
    ],
}  # fmt: skip
FILES = {
    "rewardbench": "data/filtered-00000-of-00001.parquet",
    "rewardbench-2": "data/test-00000-of-00001.parquet",
    "judgebench-gpt": "data/gpt-00000-of-00001.jsonl",
    "judgebench-claude": "data/claude-00000-of-00001.jsonl",
    "ppe": "data/test-00000-of-00001.parquet",
    "mt-bench": "data/human-00000-of-00001-0.parquet",
    "helpsteer3": "preference/validation.jsonl",
}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folders(tmp_path):
    """Each benchmark in a folder laid out as its data set, with a file of another split."""
    for name, rows in ROWS.items():
        write(tmp_path / name / FILES[name], rows)
        write(tmp_path / name / "data" / "other-00000-of-00001.jsonl", rows)
    return tmp_path


def test_what_is_read_of_each_layout(folders):
    assert set(ROWS) == set(BENCHMARKS)
    read = {name: load_benchmark(name, str(folders / name)) for name in BENCHMARKS}
    columns = ("id", "item", "subset", "prompt", "response_a", "response_b")
    found = {
        name: [(*(battle[column] for column in columns), winner_of(battle["vote"])) for battle in battles]
        for name, (battles, _) in read.items()
    }
    assert [row[:3] for row in found["rewardbench"]] == [
        ("1", 1, "alpacaeval-easy"), ("2", 2, "mt-bench-hard"), ("3", 3, "donotanswer"), ("4", 4, "math-prm"),
        ("5", 5, "hep-go"),
    ]  # fmt: skip
    assert [row[:3] for row in found["rewardbench-2"]] == [(f"1-{k}", 1, "Math") for k in (1, 2, 3)]
    chosen = [*found["rewardbench"], *found["rewardbench-2"]]  # is A or B
    assert {row[6] for row in chosen} == {"model_a", "model_b"}
    assert all((row[4] if row[6] == "model_a" else row[5]) == ["right"] for row in chosen)
    assert found["judgebench-gpt"] == [
        ("1", 1, "knowledge", ["q0"], ["a"], ["b"], "model_b"), ("2", 2, "reasoning", ["q1"], ["a"], ["b"], "model_a"),
        ("3", 3, "math", ["q2"], ["a"], ["b"], "model_b"), ("4", 4, "coding", ["q3"], ["a"], ["b"], "model_a"),
    ]  # fmt: skip
    assert [row[2:] for row in found["ppe"]] == [
        ("English", ["[{p"], ["a"], ["b"], "model_b"), ("other languages", ["[{p"], ["a"], ["b"], "tie"),
        ("English", ["[{p"], ["a"], ["b"], "tie"),
    ]  # fmt: skip
    assert found["mt-bench"] == [
        ("1", 1, "turn 1", ["p"], ["a"], ["b"], "model_a"),
        ("2", 2, "turn 2", ["p", "q"], ["a", "a2"], ["b", "b2"], "tie"),
    ]
    assert [row[2:] for row in found["helpsteer3"]] == [
        ("code", ["p", "q"], ["said", "a"], ["said", "b"], winner) for winner in ("model_a", "tie", "model_b")
    ]
    assert {name: origin["dropped"] for name, (_, origin) in read.items() if origin["dropped"]} == {
        "rewardbench-2": {"of the subset Ties, which needs a score for each answer": 1},
        "mt-bench": {"a vote of the authors": 1},
    }
    groups = {battle["group"] for battle in read["ppe"][0]}
    assert len(groups) == 1 and len({battle["group"] for battle in read["rewardbench"][0]}) == 5
    rows = [row | {key: json.dumps(row[key]) for key in ("chosen", "rejected")} for row in ROWS["rewardbench-2"]]
    csv = write(folders / "x.csv", rows)
    assert load_benchmark("rewardbench-2", str(csv))[0] == read["rewardbench-2"][0]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rewardbench", {"subset": "hep-cobol"}, "column subset: not one of the benchmark's: 'hep-cobol': 1 rows"),
        ("rewardbench", {"chosen": None}, "column chosen: expected a text, found None"),
        ("rewardbench-2", {"rejected": ["w"]}, "expected lists of one text and of three"),
        ("judgebench-gpt", {"label": "A=B"}, "columns source and label: not those of JudgeBench"),
        ("ppe", {"winner": "m"}, "column winner: expected model_a, model_b or tie, found 'm'"),
        ("judgebench-gpt", {"label": ["A>B"]}, "cannot be read: TypeError: 1 rows, the first is 1"),
        ("mt-bench", {"turn": "one"}, "cannot be read: ValueError: 1 rows, the first is 1"),
        ("mt-bench", {"conversation_a": None}, "is not mt-bench:"),
        ("mt-bench", {"winner": None}, "column winner: no vote: 1 rows, the first is 1"),
        ("helpsteer3", {"overall_preference": 7}, "column overall_preference: expected one of"),
    ],
)
def test_a_broken_row_is_an_error(name, change, message, tmp_path):
    first, *others = ROWS[name]
    path = write(tmp_path / "x.jsonl", [{**first, **change}, *others])
    with pytest.raises(UserError) as error:
        load_benchmark(name, str(path))
    assert message in str(error.value) and f"is not {name}" in str(error.value)


def predictions_of(battles, right, tie=0.0):
    """Predictions in which the right answer, or A, has these probabilities in both orders; the mean is theirs."""
    rows = []
    for battle, pair in zip(battles, right, strict=True):
        for order, p in (("ab", pair[0]), ("ba", pair[1]), ("mean", sum(pair) / 2)):
            a, b = (1 - p - tie, p) if winner_of(battle["vote"]) == "model_b" else (p, 1 - p - tie)
            rows.append({"id": battle["id"], "order": order, **dict(zip(PROBABILITIES, (a, b, tie), strict=True)),
                         "num_tokens": 1, "group": battle["group"]})  # fmt: skip
    return predictions_table(rows)


def values(figures, *path):
    for key in path:
        figures = figures[key]
    return {key: found["value"] for key, found in figures.items()}


def test_reward_bench_by_hand(folders):
    battles, _ = load_benchmark("rewardbench", str(folders / "rewardbench"))
    # Right in both orders, in the first, in the second but not on average, never, in both.
    predictions = predictions_of(battles, [(0.9, 0.8), (0.9, 0.4), (0.1, 0.6), (0.3, 0.2), (0.6, 0.7)])
    figures = benchmark_figures("rewardbench", battles, predictions)
    assert values(figures, "accuracy") == {"ab": 0.6, "ba": 0.6, "mean": 0.6}
    assert figures["consistent_accuracy"]["value"] == 0.4 and figures["flip_rate"]["value"] == 0.4
    sections = {row["section"]: row["value"] for row in figures["sections"]}
    # Of Reasoning math-prm weighs 984 and hep-go 164.
    expected = {"Chat": 1, "Chat Hard": 1, "Safety": 0, "Reasoning": 164 / (984 + 164)}
    assert sections == pytest.approx(expected) and list(expected) == list(REWARD_BENCH)
    score = figures["score"]
    assert score["value"] == pytest.approx((2 + 164 / 1148) / 4) and score["low"] < score["value"] < score["high"]
    assert {row["subset"]: row["value"] for row in figures["subsets"]} == {
        "alpacaeval-easy": 1, "mt-bench-hard": 1, "donotanswer": 0, "math-prm": 0, "hep-go": 1
    }  # fmt: skip
    assert "agreement" not in figures


def test_the_interval_of_a_section_score_is_that_of_the_bootstrap(folders):
    """With one subset in each section and equal sections it is close to that of a plain mean."""
    rows = [{**ROWS["rewardbench"][0], "prompt": f"p{i}", "subset": ("alpacaeval-easy", "donotanswer")[i % 2]}
            for i in range(200)]  # fmt: skip
    battles, _ = load_benchmark("rewardbench", str(write(folders / "x.jsonl", rows)))
    right = [(0.9, 0.9) if np.sin(i) > 0 else (0.1, 0.1) for i in range(200)]
    figures = benchmark_figures("rewardbench", battles, predictions_of(battles, right))
    score, mean = figures["score"], figures["accuracy"]["mean"]
    assert [row["section"] for row in figures["sections"]] == ["Chat", "Safety"]
    assert [score[key] for key in ("value", "low", "high")] == pytest.approx(
        [mean[key] for key in ("value", "low", "high")], abs=0.01
    )


def test_reward_bench_2_is_right_if_all_three_are_beaten(folders):
    rows = [{**ROWS["rewardbench-2"][0], "prompt": str(i), "subset": ("Math", "Focus")[i // 2]} for i in range(4)]
    battles, _ = load_benchmark("rewardbench-2", str(write(folders / "x.jsonl", rows)))
    right = [(0.9, 0.9)] * 3 + [(0.9, 0.9), (0.9, 0.2), (0.2, 0.9)] + [(0.9, 0.9)] * 2 + [(0.1, 0.2)]
    figures = benchmark_figures("rewardbench-2", battles, predictions_of(battles, [*right, *[(0.9, 0.9)] * 3]))
    assert figures["num_items"] == 4 and figures["num_battles"] == 12
    # Of the second item the mean of one pair is above, that of two others is 0.55: right on average only.
    assert values(figures, "accuracy") == {"ab": 0.5, "ba": 0.5, "mean": 0.75}
    assert figures["consistent_accuracy"]["value"] == 0.5 and figures["flip_rate"]["value"] == pytest.approx(2 / 3 / 4)
    assert {row["section"]: row["value"] for row in figures["sections"]} == {"Math": 1, "Focus": 0.5}
    assert figures["score"]["value"] == 0.75 and "sixth" in figures["caveat"]
    equal = benchmark_figures("rewardbench-2", battles, predictions_of(battles, [(0.5, 0.5)] * 12))
    assert equal["accuracy"]["mean"]["value"] == 0.25  # one of four that are equally good
    assert equal["consistent_accuracy"]["value"] == 0


def test_judge_bench_counts_what_is_right_in_both_orders(folders):
    battles, _ = load_benchmark("judgebench-gpt", str(folders / "judgebench-gpt"))
    # A tie's probability is split evenly: 0.3 against 0.2 is a choice, whatever the tie has.
    predictions = predictions_of(battles, [(0.3, 0.3), (0.4, 0.05), (0.3, 0.3), (0.1, 0.1)], tie=0.5)
    figures = benchmark_figures("judgebench-gpt", battles, predictions)
    assert figures["score"]["value"] == figures["consistent_accuracy"]["value"] == 0.5
    assert values(figures, "accuracy") == {"ab": 0.75, "ba": 0.5, "mean": 0.5}
    assert figures["flip_rate"]["value"] == 0.25
    half = benchmark_figures("judgebench-gpt", battles, predictions_of(battles, [(0.9, 0.5), (0.5, 0.1)] * 2))
    assert half["score"]["value"] == 0.5  # right in one order and equal in the other, as JudgeBench's own code counts
    by_subset = {row["subset"]: (row["value"], row["num_items"]) for row in figures["subsets"]}
    assert by_subset == {"knowledge": (1, 1), "reasoning": (0, 1), "math": (1, 1), "coding": (0, 1)}


def votes_of(winners):
    return [{"id": str(i), "item": i, "subset": f"turn {i % 2 + 1}", "group": str(i // 2),
             "vote": [float(winner == name) for name in ("model_a", "model_b", "tie")]}
            for i, winner in enumerate(winners)]  # fmt: skip


def table_of(triples):
    return predictions_table([
        {"id": str(i), "order": order, **dict(zip(PROBABILITIES, triple, strict=True)), "num_tokens": 1, "group": "g"}
        for i, triple in enumerate(triples) for order in ("ab", "ba", "mean")
    ])  # fmt: skip


def test_agreement_with_votes():
    votes = votes_of(["model_a", "model_b", "tie", "model_a", "tie", "model_b"])
    table = table_of([(0.5, 0.3, 0.2), (0.6, 0.3, 0.1), (0.1, 0.2, 0.7), (0.3, 0.2, 0.5), (0.8, 0.1, 0.1),
                      (0.1, 0.8, 0.1)])  # fmt: skip
    figures = benchmark_figures("mt-bench", votes, table)
    # Verdicts A, A, tie, tie, A, B: three of six agree; where neither is a tie, two of three.
    assert values(figures, "agreement") == pytest.approx({"with_ties": 0.5, "without_ties": 2 / 3})
    assert figures["num_votes"] == {"with_ties": 6, "without_ties": 3}
    assert figures["score"]["value"] == pytest.approx(2 / 3)
    assert {row["subset"]: (row["value"], row["num_items"]) for row in figures["subsets"]} == {
        "turn 1": (1, 1), "turn 2": (0.5, 2)
    }  # fmt: skip
    # The score of PPE forces a choice on the four votes that are no ties: the fourth is A with 0.3 against 0.2.
    forced = benchmark_figures("ppe", votes, table)
    assert forced["num_items"] == 4 and forced["score"]["value"] == forced["accuracy"]["mean"]["value"] == 0.75
    assert values(forced, "agreement")["with_ties"] == 0.5
    undecided = benchmark_figures("mt-bench", votes, table_of([(0.1, 0.1, 0.8)] * 6))
    assert undecided["score"]["value"] is None and values(undecided, "agreement")["with_ties"] == pytest.approx(1 / 3)
    assert "none" in format_benchmark({**undecided, "published": []})
    with pytest.raises(UserError, match="none of its 2 votes is for A or B"):
        benchmark_figures("ppe", votes_of(["tie", "tie"]), table_of([(0.1, 0.1, 0.8)] * 2))


def test_published_figures_have_a_source():
    found = {name: published(name) for name in BENCHMARKS}
    assert found["helpsteer3"] == found["judgebench-claude"] == []
    rows = [row for rows in found.values() for row in rows]
    assert len(rows) == 15 and all(40 < row["value"] < 100 for row in rows)
    assert all(row["source"].startswith("https://") and row["date"][:2] == "20" and row["what"] for row in rows)


def test_names():
    assert check_benchmarks(["rewardbench"], None) == []
    assert check_benchmarks(["rewardbench2"], None) == [
        "benchmark: there is no rewardbench2. Did you mean rewardbench-2?"
    ]
    assert check_benchmarks(["ppe", "ppe"], "x")[0] == "benchmark: ppe is given twice"
    assert check_benchmarks(["ppe", "mt-bench"], "x") == ["file: holds one benchmark. Name it alone with benchmark"]
    assert "There are rewardbench, rewardbench-2" in check_benchmarks(["x"], None)[0]


@pytest.fixture(scope="module")
def project(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    build_judge(base, folder / "runs" / "judge")
    return folder


def benchmark(project, base, name, *words, **options):
    return recipe("benchmark.py", "--adapter", "runs/judge", "--model_name_or_path", base, "--output_dir", name,
                  *words, cwd=project, **options)  # fmt: skip


def test_by_name_from_the_hub_and_to_it(project, base):
    with LoopbackHub() as hub:
        for name in ("rewardbench", "rewardbench-2", "judgebench-gpt", "mt-bench"):
            dataset = f"datasets/{BENCHMARKS[name].dataset}"
            content = write(project / name / FILES[name], ROWS[name]).read_bytes()
            blob = Blob(content, lfs=FILES[name].endswith(".parquet"))
            hub.objects |= {blob.sha256: blob} if blob.lfs else {}
            hub.repos[dataset] = Repo(dataset, private=False)
            hub.repos[dataset].add({FILES[name]: blob, "data/gpt4_pair-0.jsonl": Blob(b"?", lfs=False)}, "First")
        server = RecipeServer(project, **hub.environment(project / "home"))

        def run(verb, *words):
            status, output = server.run_script(REPOSITORY / "recipes" / f"{verb}.py", words, project)
            assert status == 0, output
            return output

        names = ["rewardbench", "rewardbench-2", "judgebench-gpt", "mt-bench"]
        output = run("benchmark", "--adapter", "runs/judge", "--model_name_or_path", str(base), "--output_dir", "out",
                     "--benchmark", *names)  # fmt: skip
        assert "rewardbench-2: 3 battles, 1 rows left out: of the subset Ties" in output
        assert "RewardBench  " in output and "subset alpacaeval-easy" in output and "split evenly" in output
        assert "published: GPT-4o, score" in output and "86.7%" in output
        assert "The score cannot be compared with published ones: the mean without Ties" in output
        content = json.loads((project / "out" / "benchmark.json").read_text())
        revision = hub.repos["datasets/allenai/reward-bench"].branches["main"].sha
        data = content["benchmarks"]["rewardbench"]["data"]
        assert data["revision"] == revision and data["path"] == "hub:allenai/reward-bench"
        assert list(data["sha256"]) == ["filtered-00000-of-00001.parquet"]
        assert content["version"] == 1 and content["judge"]["adapter"] and str(project) not in json.dumps(content)
        predictions = pd.read_parquet(project / "out" / "predictions.parquet")
        assert predictions["benchmark"].value_counts().to_dict() == {
            "rewardbench": 15, "rewardbench-2": 9, "judgebench-gpt": 12, "mt-bench": 6
        }  # fmt: skip
        for name in ("rewardbench", "judgebench-gpt"):  # the figures are those of the predictions
            battles, _ = load_benchmark(name, str(project / name))
            own = predictions[predictions["benchmark"] == name]
            again = benchmark_figures(name, battles, own)
            assert again == {key: content["benchmarks"][name][key] for key in again}
        results = {path.name: yaml.safe_load(path.read_text()) for path in (project / "out/.eval_results").iterdir()}
        assert set(results) <= {f"lmsys-trl-{name}.yaml" for name in ("rewardbench", "judgebench-gpt", "mt-bench")}
        (entry,) = parse_eval_result_entries(results["lmsys-trl-rewardbench.yaml"])
        assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == (
            "allenai/reward-bench", "filtered", revision
        )  # fmt: skip
        assert entry.value == round(100 * content["benchmarks"]["rewardbench"]["score"]["value"], 2)

        # The judge goes to the Hub with its results; without them they are removed, and files of others stay.
        push = ["--adapter", "runs/judge", "--hub_model_id", "owner/judge"]
        run("push", *push, "--benchmark", "out")
        repo = hub.repos["owner/judge"]
        files = repo.branches["main"].files
        pushed = {"benchmark/benchmark.json", "benchmark/benchmark.md", ".eval_results/lmsys-trl-rewardbench.yaml"}
        assert pushed <= set(files)
        card = files["README.md"].data.decode()
        assert "## Benchmarks" in card and "### RewardBench 2" in card and "| section Chat | 1 |" not in card
        assert "[2025-07-02](https://github.com/SkyworkAI/Skywork-Reward-V2)" in card and "## Limits" in card
        found = {result.dataset_name: result for result in ModelCard(card).data.eval_results}
        assert found["RewardBench"].dataset_split == "filtered" and found["RewardBench"].dataset_revision == revision
        repo.add({**files, ".eval_results/theirs.yaml": files["README.md"]}, "Others")
        run("push", *push)
        left = set(repo.branches["main"].files)
        assert ".eval_results/theirs.yaml" in left
        assert not {path for path in left if path.startswith(("benchmark/", ".eval_results/lmsys-trl"))}
        server.stop()
        assert b"## Benchmarks" not in repo.branches["main"].files["README.md"].data


def test_from_a_file_resumed_and_refused(project, base):
    write(project / "jb.jsonl", ROWS["judgebench-gpt"])
    words = ["--benchmark", "judgebench-gpt", "--file", "jb.jsonl"]
    assert "JudgeBench, answers of GPT-4o" in benchmark(project, base, "local", *words)
    folder = project / "local"
    first = (folder / "benchmark.json").read_bytes()
    assert json.loads(first)["benchmarks"]["judgebench-gpt"]["data"]["path"] == "jb.jsonl"
    assert not (folder / "predictions.shards").exists() and not (folder / ".eval_results").exists()
    benchmark(project, base, "local", *words)
    assert (folder / "benchmark.json").read_bytes() == first
    output = benchmark(project, base, "local", "--benchmark", "judgebench-claude", *words[2:], fails=True)
    assert "holds another result, made with other values of benchmark" in output

    output = benchmark(project, base, "out2", "--benchmark", "judgebench", "--file", "jb.jsonl", fails=True)
    assert "benchmark: there is no judgebench. Did you mean judgebench-" in output and "Traceback" not in output
    write(project / "short.csv", [{key: row[key] for key in ("question", "label", "source", "response_A")}
                                  for row in ROWS["judgebench-gpt"]])  # fmt: skip
    output = benchmark(project, base, "out2", "--benchmark", "judgebench-gpt", "--file", "short.csv", fails=True)
    assert "short.csv is not of judgebench-gpt: no column response_B. It has" in output and "Traceback" not in output
    output = benchmark(project, base, "out2", "--benchmark", "ppe", "--file", "none.csv", fails=True)
    assert "none.csv: there is no such file" in output
    (project / "theirs").mkdir()
    (project / "theirs" / "predictions.parquet").write_bytes(b"theirs")
    assert "is not a folder of benchmarks" in benchmark(project, base, "theirs", *words, fails=True)


def test_what_a_file_says_fits_into_a_table(folders):
    rows = [{**row, "domain": "a|b\n<script>"} for row in ROWS["helpsteer3"]]
    battles, origin = load_benchmark("helpsteer3", str(write(folders / "x.jsonl", rows)))
    figures = benchmark_figures("helpsteer3", battles, predictions_of(battles, [(0.9, 0.9)] * 3))
    text = render_benchmarks({"helpsteer3": {**figures, "data": origin, "published": []}})
    assert "| subset a\\|b&lt;script> | 2 | 100.0%" in text and "<script" not in text
