"""Public benchmarks of judges and reward models -> battles, with the answer that is right, or the vote."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from ..artifacts import file_fingerprint, strip_local_paths
from ..battle import WINNERS, prompt_group, replace_surrogates, swap_battle, vote_for, winner_of
from ..errors import NUM_SHOWN, UserError
from .columns import DroppedRow, Reading, RowError, cells_at, shorten
from .downloads import download
from .files import find_files, read_rows
from .formats import FORMATS
from .rows import ballots, digest, to_battle

KEPT = ("id", "item", "subset", "group", "prompt", "response_a", "response_b", "vote")


@dataclass(frozen=True)
class Benchmark:
    """
    A benchmark.

    Args:
        title (`str`): What it is called.
        dataset (`str`): Its data set on the Hub.
        split (`str`): The split that is used.
        file (`str`): The pattern of that split's files.
        columns (`tuple[str]`): The columns that are read.
        read (`Callable`): Row -> battles with `subset`. Several are one item, which is right if all of them are. A row
            that is no part of the score is a [`DroppedRow`].
        score (`str`): What its own score is: the mean over `sections` of the accuracy in the mean of both orders
            ("sections"), that accuracy ("accuracy"), the accuracy in both orders at once ("consistent"), or the
            agreement of verdicts with votes where neither is a tie ("agreement").
        sections (`Mapping`): Of "sections": the weight of each subset in its section.
        caveat (`str`): Why the score cannot be compared with published ones; empty if it can.
    """

    title: str
    dataset: str
    split: str
    file: str
    columns: tuple[str, ...]
    read: Callable[[dict], list[dict]]
    score: Literal["sections", "accuracy", "consistent", "agreement"]
    sections: Mapping[str, Mapping[str, float]]
    caveat: str = ""


# The weights are the numbers of prompts, except that math-prm (447) weighs as much as code: EXAMPLE_COUNTS and
# SUBSET_MAPPING in rewardbench/constants.py of allenai/reward-bench.
REWARD_BENCH = {
    "Chat": {
        "alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95, "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154,
        "xstest-should-respond": 250, "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164, "hep-python": 164,
        "hep-rust": 164,
    },
}  # fmt: skip
REWARD_BENCH_2 = {name: {name: 1.0} for name in ("Factuality", "Precise IF", "Math", "Safety", "Focus")}
# By what a source begins with, as in run_judge.py of ScalerLab/JudgeBench.
JUDGE_BENCH = {
    "mmlu-pro": "knowledge", "livebench-reasoning": "reasoning", "livebench-math": "math", "livecodebench": "coding"
}  # fmt: skip
JUDGE_BENCH_LABELS = {"A>B": "model_a", "B>A": "model_b"}


def _text(row: dict, column: str) -> str:
    if not isinstance(row[column], str):
        raise RowError(f"column {column}: expected a text", f", found {shorten(row[column], 20)}")
    return replace_surrogates(row[column])[0]


def _pair(prompt: str, response_a: str, response_b: str, winner: str, subset: str) -> dict:
    """One turn. Texts are taken as they are, whatever they look like."""
    texts = {"prompt": [prompt], "response_a": [response_a], "response_b": [response_b]}
    return {**texts, "vote": vote_for(winner), "subset": subset}


def _known(subset: str, sections: Mapping[str, Mapping[str, float]]) -> str:
    if not any(subset in section for section in sections.values()):
        raise RowError("column subset: not one of the benchmark's", f": {shorten(subset, 20)}")
    return subset


def _reward_bench(row: dict) -> list[dict]:
    subset = _known(_text(row, "subset"), REWARD_BENCH)
    return [_pair(_text(row, "prompt"), _text(row, "chosen"), _text(row, "rejected"), "model_a", subset)]


def _reward_bench_2(row: dict) -> list[dict]:
    """The chosen answer against each of the rejected ones."""
    if row["subset"] == "Ties":
        raise DroppedRow("of the subset Ties, which needs a score for each answer")
    subset = _known(_text(row, "subset"), REWARD_BENCH_2)
    answers = [*cells_at(row, "chosen.*"), *cells_at(row, "rejected.*")]
    if len(answers) != 4 or not all(isinstance(answer, str) for answer in answers):
        raise RowError("columns chosen and rejected: expected lists of one text and of three")
    right, *wrong = (replace_surrogates(answer)[0] for answer in answers)
    return [_pair(_text(row, "prompt"), right, answer, "model_a", subset) for answer in wrong]


def _judge_bench(row: dict) -> list[dict]:
    source, label = _text(row, "source"), row["label"]
    subset = next((name for prefix, name in JUDGE_BENCH.items() if source.startswith(prefix)), None)
    if subset is None or label not in JUDGE_BENCH_LABELS:
        raise RowError("columns source and label: not those of JudgeBench", f": {shorten([source, label], 40)}")
    answers = _text(row, "response_A"), _text(row, "response_B")
    return [_pair(_text(row, "question"), *answers, JUDGE_BENCH_LABELS[label], subset)]


def _ppe(row: dict) -> list[dict]:
    winner = "tie" if str(row["winner"]).startswith("tie") else row["winner"]
    if winner not in WINNERS:
        raise RowError("column winner: expected model_a, model_b or tie", f", found {shorten(row['winner'], 20)}")
    subset = "English" if row["language"] == "English" else "other languages"
    return [_pair(_text(row, "prompt"), _text(row, "response_1"), _text(row, "response_2"), winner, subset)]


def _mt_bench(row: dict) -> list[dict]:
    if not str(row["judge"]).startswith("expert"):  # as in compute_agreement.py of FastChat
        raise DroppedRow("a vote of the authors")
    return [{**_in_format(row, "mt_bench"), "subset": f"turn {row['turn']}"}]


def _helpsteer3(row: dict) -> list[dict]:
    domain = "".join(filter(str.isprintable, _text(row, "domain")))[:40]  # it is shown in tables
    return [{**_in_format(row, "helpsteer3"), "subset": domain}]


def _in_format(row: dict, name: str) -> dict:
    """A row in one of the formats of votes -> its battle."""
    fmt = FORMATS[name]
    (ballot,) = ballots(row, fmt, lenient=False)
    battle = to_battle(row, "", ballot, fmt, name, Reading())
    if winner_of(battle["vote"]) is None:
        raise RowError("the vote is not for A, B or a tie")
    return battle


_JUDGE_BENCH_COLUMNS = ("question", "response_A", "response_B", "label", "source")
BENCHMARKS = {
    "rewardbench": Benchmark(
        "RewardBench", "allenai/reward-bench", "filtered", "data/filtered-*",
        ("prompt", "chosen", "rejected", "subset"), _reward_bench, "sections", REWARD_BENCH,
    ),
    "rewardbench-2": Benchmark(
        "RewardBench 2", "allenai/reward-bench-2", "test", "data/test-*",
        ("prompt", "chosen", "rejected", "subset"), _reward_bench_2, "sections", REWARD_BENCH_2,
        "the mean without Ties, of which the published average is a sixth",
    ),
    "judgebench-gpt": Benchmark(
        "JudgeBench, answers of GPT-4o", "ScalerLab/JudgeBench", "gpt", "data/gpt-*", _JUDGE_BENCH_COLUMNS,
        _judge_bench, "consistent", {},
    ),
    "judgebench-claude": Benchmark(
        "JudgeBench, answers of Claude", "ScalerLab/JudgeBench", "claude", "data/claude-*", _JUDGE_BENCH_COLUMNS,
        _judge_bench, "consistent", {},
    ),
    "ppe": Benchmark(
        "PPE human preference", "lmarena-ai/PPE-Human-Preference-V1", "test", "data/test-*",
        ("prompt", "response_1", "response_2", "winner", "language"), _ppe, "accuracy", {},
    ),
    "mt-bench": Benchmark(
        "MT-bench human judgments", "lmsys/mt_bench_human_judgments", "human", "data/human-*",
        ("question_id", "model_a", "model_b", "winner", "judge", "turn", "conversation_a", "conversation_b"),
        _mt_bench, "agreement", {},
    ),
    "helpsteer3": Benchmark(
        "HelpSteer3 preference", "nvidia/HelpSteer3", "validation", "preference/validation*",
        ("domain", "context", "response1", "response2", "overall_preference"), _helpsteer3, "accuracy", {},
        "no definition of a score on these votes was found",
    ),
}  # fmt: skip


def check_benchmarks(names: list[str], file: str | None) -> list[str]:
    """Problems with the names of benchmarks, and with a file in their place."""
    problems = []
    for name in dict.fromkeys(names):
        if name not in BENCHMARKS:
            nearest = get_close_matches(name, BENCHMARKS, n=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"There are {', '.join(BENCHMARKS)}"
            problems.append(f"benchmark: there is no {name}. {hint}")
        if names.count(name) > 1:
            problems.append(f"benchmark: {name} is given twice")
    if file and len(names) != 1:
        problems.append("file: holds one benchmark. Name it alone with benchmark")
    return problems


def load_benchmark(name: str, path: str | None = None) -> tuple[list[dict], dict]:
    """
    Read a benchmark, complete: a row that cannot be read is an error.

    Args:
        name (`str`): One of [`BENCHMARKS`].
        path (`str`, *optional*): A file, a folder laid out as the data set, or `hub:owner/name[@revision]`. Default:
            its data set on the Hub.

    Returns:
        `tuple[list[dict], dict]`: Battles in the order of the rows, with `id`, `item` (the number of their row, from
        1), `subset`, `group` and `vote`; and where they came from: `path`, `revision`, `license`, `sha256`, and
        `dropped`, the number of rows that are left out by reason.

    Raises:
        UserError: If it cannot be downloaded, lacks a column, or a row is broken.
    """
    benchmark, battles = BENCHMARKS[name], list[dict]()
    source = path or f"hub:{benchmark.dataset}"
    folder, origin = download(source, benchmark.file)
    dropped, errors, number = Counter[str](), dict[str, list[int]](), 0
    files = find_files(folder, benchmark.file)
    for file in files:
        rows: Iterator[Any] = read_rows(file, max_size_gb=4, max_nesting=100)
        columns = next(rows)
        missing = [column for column in benchmark.columns if column not in columns]
        if missing:
            raise UserError(
                f"{source}: {file.name} is not of {name}: no column {', '.join(missing)}. It has "
                f"{shorten(', '.join(map(str, columns)), 200)}"
            )
        for row, problem in rows:
            number += 1
            try:
                if problem is not None:
                    raise RowError(problem)
                battles += _numbered(benchmark.read(row), number, benchmark)
            except DroppedRow as error:
                dropped[error.reason] += 1
            except RowError as error:
                errors.setdefault(str(error), []).append(number)
            except KeyError as error:
                errors.setdefault(f"column {error.args[0]}: missing", []).append(number)
            except Exception as error:  # whatever is in a row
                errors.setdefault(f"cannot be read: {type(error).__name__}", []).append(number)
    if errors or not battles:
        lines = [f"{reason}: {len(at)} rows, the first is {at[0]}" for reason, at in errors.items()]
        raise UserError(lines[:NUM_SHOWN] or ["there are no rows"], f"{source} is not {name}:")
    hashes = {file.name: file_fingerprint(file.path) for file in files}
    origin = {"path": strip_local_paths(source), "revision": None, **origin}
    return battles, {**origin, "sha256": hashes, "dropped": dict(dropped)}


def _numbered(battles: list[dict], number: int, benchmark: Benchmark) -> list[dict]:
    """The battles of a row with their ids. Where the right answer has a column of its own, a hash makes it A or B."""
    numbered = []
    for k, battle in enumerate(battles, start=1):
        battle_id = f"{number}-{k}" if len(battles) > 1 else str(number)
        battle |= {"id": battle_id, "item": number, "group": prompt_group(battle)}
        swapped = "chosen" in benchmark.columns and digest(battle_id) % 2
        numbered.append(swap_battle(battle) if swapped else battle)
    return [{key: battle[key] for key in KEPT} for battle in numbered]
