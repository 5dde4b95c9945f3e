"""Columns that may hold the vote, and what its values may mean."""

import re
from collections import Counter, defaultdict

from .columns import WINNER_COLUMNS
from .source import DROP, VOTE_FIELDS, vote_key

MAX_VALUES = 12  # of a vote, apart from the names of models
# What the name of a vote's column has in it, the likeliest first.
VOTE_NAMES = (
    "vote", "winner", "prefer", "verdict", "choice", "selected", "better", "best", "label", "judg", "rating",
    "annotat", "result", "outcome", "pick",
)  # fmt: skip
ANNOTATOR_NAMES = (
    "annotator", "judge", "rater", "worker", "labeler", "labeller", "user", "expert", "evaluator"
)  # fmt: skip
PROBABILITY_NAMES = ("prob", "probability", "p", "better", "prefer", "vote", "win", "winner", "label")
FIRST = ("a", "1", "left", "first", "one", "x", "model_a", "response_a", "answer_a")
SECOND = ("b", "2", "right", "second", "two", "y", "model_b", "response_b", "answer_b")
TIES = ("tie", "c", "same", "equal", "both", "draw", "even", "neither", "none", "0", "1.5", "tie (bothbad)",
        "both_bad", "bothbad", "no preference")  # fmt: skip

SYMBOLS = re.compile(r"(a|b|1|2)([<>=])\2*(?!\1)(?:a|b|1|2)")  # A>>B, B>A, A=B


def words_of(name: str) -> list[str]:
    """The words of a column's name: `Answer-1Text` -> answer, 1, text."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name.rpartition(".")[2] if "." in name else name)
    return re.findall(r"[a-z]+|\d+", spaced.lower())


def find_vote(
    paths: list[str], cells: dict[str, list], columns: dict, marks: tuple[str, ...], paired: set[str]
) -> tuple[dict, dict, list[str]]:
    """
    The column of the vote.

    Args:
        paths (`list[str]`): The columns that may be it.
        cells (`dict`): The cells of each column.
        columns (`dict`): The columns that are known already.
        marks (`tuple[str]`): What tells the names of the columns of both answers apart, such as 0 and 1.
        paired (`set[str]`): Columns of which each answer has one, such as its score. They are no votes.

    Returns:
        `tuple[dict, dict, list[str]]`: The field and column of the vote, what its values mean, and what is not sure.
    """
    best: tuple[float, str | None, dict] = (0, None, {})
    for path in paths:
        given = [cell for cell in cells[path] if cell is not None]
        is_annotator = any(name in words_of(path) for name in ANNOTATOR_NAMES)
        # Of a person, how many were for a tie, or of a model.
        is_other = {"completed", "tie", "ties"} & set(words_of(path)) or (
            {"model"} & set(words_of(path)) and not _named(path)
        )
        if (
            is_annotator
            or is_other
            or path in paired
            or not given
            or any(isinstance(cell, (list, dict)) for cell in given)
        ):
            continue
        counts = Counter(map(vote_key, given))
        named = [name in "_".join(words_of(path)) for name in VOTE_NAMES]
        meanings = _meanings(list(counts), columns, marks)
        known = sum(counts[vote_key(value)] for value, meaning in meanings.items() if meaning != DROP) / len(given)
        models = {str(cell) for name in ("model_a", "model_b") if name in columns for cell in cells[columns[name]]}
        if models and sum(str(cell) in models for cell in given) > len(given) / 2:
            known, meanings = 1.0, {value: "tie" for value in counts if value in TIES}
        elif len(counts) > MAX_VALUES or len(counts) < 2:
            continue
        elif _is_scale(list(counts)):
            known = 0.5  # it may as well be how sure somebody was
        score = known + (1 - named.index(True) / len(named) if any(named) else 0)
        if known > 0 and score > max(best[0], 0.8):
            best = (score, path, meanings)
    _, vote, meanings = best
    if vote is None:
        if set(WINNER_COLUMNS[:2]) <= set(paths):  # what is not theirs is the tie's
            return dict(zip(VOTE_FIELDS[1:3], WINNER_COLUMNS[:2], strict=True)), {}, []
        several, meanings = _find_several(paths, cells, columns, marks)
        return ({"vote": several}, meanings, []) if several else _find_probability(paths, cells)
    doubts = []
    unknown = [str(value) for value, meaning in meanings.items() if meaning == DROP]
    if unknown:
        doubts.append(f"votes: what {', '.join(unknown)} means is not known, so such rows are dropped")
    if _is_scale([str(value) for value in meanings]):
        doubts.append(
            f"votes: {vote} is read as a scale from the first answer to the second: turn it round if it is not"
        )
    elif any(isinstance(value, int) for value in meanings):
        doubts.append("votes: numbers mean different things in different files: compare with the rows below")
        if not _named(vote):
            doubts.append(f"vote: {vote} has the values of a vote, but not the name of one")
    return {"vote": vote}, meanings, doubts


def _find_several(paths: list[str], cells: dict[str, list], columns: dict, marks: tuple[str, ...]):
    """Numbered columns of one voter each, and what their values mean."""
    families = defaultdict(list)
    for path in paths:
        families[re.sub(r"\d+", "#", path)].append(path)
    for family in families.values():
        given = [cell for path in family for cell in cells[path] if cell is not None]
        values = sorted(set(map(vote_key, given)))
        if len(family) < 2 or not set(words_of(family[0])) & set(ANNOTATOR_NAMES) or _is_scale(values):
            continue
        meanings = _meanings(values, columns, marks) if 2 <= len(values) <= MAX_VALUES else {"": DROP}
        if DROP not in meanings.values():
            return family, meanings
    return [], {}


def _find_probability(paths: list[str], cells: dict[str, list]) -> tuple[dict, dict, list[str]]:
    for path in paths:
        given = [str(cell) for cell in cells[path] if cell is not None]
        is_fraction = given and all(re.fullmatch(r"0?\.\d+|[01](\.0*)?", cell) for cell in given)
        words = set(words_of(path))
        if is_fraction and len(set(given)) > 2 and words & set(PROBABILITY_NAMES) and not words & set(SECOND):
            return {"vote_a": path}, {}, [f"vote_a: {path} is read as the probability that response_a is better"]
    return {}, {}, ["no column looks like the vote: name vote, and say what its values mean"]


def _named(path: str) -> bool:
    return any(name in "_".join(words_of(path)) for name in VOTE_NAMES)


def _is_scale(values: list[str]) -> bool:
    """Whether these are more whole numbers above zero than the two answers and a tie have."""
    return len(values) > 3 and all(value.isdecimal() for value in values)


def _meanings(values: list[str], columns: dict[str, str], marks: tuple[str, ...]) -> dict:
    """What values of a vote mean, "drop" for those that say nothing."""
    answers = [vote_key(columns.get(name, name).rpartition(".")[2]) for name in ("response_a", "response_b")]
    numbers = {value for value in values if re.fullmatch(r"-?\d+(\.\d+)?", value)}
    middle = (min(map(int, values)) + max(map(int, values))) / 2 if _is_scale(values) else None
    signed = any(value.startswith("-") for value in numbers)
    meanings: dict[str | int, str] = {}
    for value in sorted(values, key=lambda value: (len(value), value)):
        words = {value} if value in numbers else set(words_of(value)) or {value}
        if signed and value in numbers:  # HelpSteer3: below zero the first answer is better
            meaning = "model_a" if float(value) < 0 else "model_b" if float(value) > 0 else "tie"
        elif middle is not None:
            meaning = "model_a" if int(value) < middle else "model_b" if int(value) > middle else "tie"
        elif (sides := SYMBOLS.fullmatch(value)) and sides[2] == "=":
            meaning = "tie"
        elif sides:
            meaning = "model_a" if (sides[1] in FIRST) == (sides[2] == ">") else "model_b"
        elif value in marks:
            meaning = "model_a" if value == marks[0] else "model_b"
        elif value in numbers and numbers == {"0", "1"}:  # SHP: 1 is the first answer
            meaning = "model_a" if value == "1" else "model_b"
        elif value in (answers[0], *FIRST) or (words & set(FIRST) and not words & set(SECOND)):
            meaning = "model_a"
        elif value in (answers[1], *SECOND) or (words & set(SECOND) and not words & set(FIRST)):
            meaning = "model_b"
        else:
            meaning = "tie" if value in TIES or words & {"tie", "same", "equal", "both", "draw", "similar"} else DROP
        meanings[int(value) if re.fullmatch("0|-?[1-9][0-9]*", value) else value] = meaning
    return meanings
