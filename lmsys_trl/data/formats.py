"""Formats of votes: where a file has the texts and the vote, and what the values of a vote mean."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from ..errors import UserError
from .columns import TURN_COLUMNS, WINNER_COLUMNS, RowError
from .source import ANSWERS, FIELDS, LABELS, VOTE_FIELDS, Meaning, Paths, vote_problem
from .votes import read_preference

PROMPTS = ("prompt", "conversations", "conversation", "context", "instruction", "question", "query", "input")
SYSTEMS = ("system", "system_prompt")
OWN_COLUMNS = ("source", "group", "fold", "swapped_from")  # of the data sets that this project makes


@dataclass(frozen=True)
class Format:
    """
    A format of votes.

    Args:
        columns (`tuple[str]`): The columns that identify it, besides those of the vote.
        vote_columns (`tuple[str]`): The columns of the vote.
        paths (`Mapping`): Where each of [`FIELDS`] is: a path as for [`cell_at`], or several. Several texts are
            joined, several votes become a battle each.
        votes (`Mapping`): What the values of the vote mean, by [`vote_key`].
        without (`tuple[str]`): Columns that a file of this format does not have.
        expand (`Callable`, *optional*): Row -> rows.
        vote (`Callable`, *optional*): Cell and path of a vote -> its fractions.
    """

    columns: tuple[str, ...]
    vote_columns: tuple[str, ...] = ()
    paths: Mapping[str, Paths] = field(default_factory=dict)
    votes: Mapping[str, Meaning] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    expand: Callable[[dict], list[dict]] | None = None
    vote: Callable[[Any, str], list[float]] | None = None

    @cached_property
    def fractions(self) -> list[str]:
        """The paths of the fractions of A, B and tie."""
        return [str(self.paths[name]) for name in VOTE_FIELDS[1:] if name in self.paths]

    @cached_property
    def texts(self) -> list[str]:
        """The paths of the prompt, or of the first part of it, and of both answers."""
        return [as_tuple(self.paths[name])[0] for name in TURN_COLUMNS]

    @cached_property
    def labels(self) -> list[tuple[str, Paths | None]]:
        """The paths of what is known of the models and the language."""
        return [(name, self.paths.get(name)) for name in LABELS if name != "annotator"]

    def used(self) -> set[str]:
        """The columns that are read."""
        paths = [path for where in self.paths.values() for path in as_tuple(where)]
        return {*self.columns, *paths, *(path.split(".")[0] for path in paths)}


def as_tuple(where: Paths) -> tuple[str, ...]:
    """One path or several."""
    return (where,) if isinstance(where, str) else tuple(where)


def _arena_hard_games(row: dict) -> list[dict]:
    """The two games of a judgment: the baseline's answer is A in the first, and B in the second."""
    models = {"model_a": row.get("baseline", "baseline"), "model_b": row.get("model")}
    games = row["games"]
    if not isinstance(games, list):
        raise RowError("column games: expected a list")
    rows = []
    for number, game in enumerate(games):
        shown = game.get("user_prompt") or game.get("prompt")
        shown = shown[-1]["content"] if isinstance(shown, list) and shown else shown
        match = ARENA_HARD_PROMPT.search(shown) if isinstance(shown, str) else None
        if match is None:
            raise RowError("column games: a game does not hold the prompt with both answers")
        names = models if number % 2 == 0 else {"model_a": models["model_b"], "model_b": models["model_a"]}
        question = row.get("question_id") or row.get("uid")
        rows.append(
            {**dict(zip(TURN_COLUMNS, match.groups(), strict=True)), **names, "vote": game.get("score"),
             "annotator": row.get("judge"), "id": f"{question}-{row.get('model')}-{number + 1}"}
        )  # fmt: skip
    return rows


ARENA_HARD_PROMPT = re.compile(
    r"<\|User Prompt\|>\n(.*?)\n\n"
    r"<\|The Start of Assistant A's Answer\|>\n(.*?)\n<\|The End of Assistant A's Answer\|>\n\n"
    r"<\|The Start of Assistant B's Answer\|>\n(.*?)\n<\|The End of Assistant B's Answer\|>",
    re.DOTALL,
)
_CONVERSATIONS = {"conversation_a": "conversation_a", "conversation_b": "conversation_b", "vote": "winner"}
_TURNS = {column: column for column in TURN_COLUMNS}
_FIRST, _SECOND, _TIE = "model_a", "model_b", "tie"

FORMATS = {
    # The LMSYS competition, and lmsys/lmsys-arena-human-preference-55k on the Hub.
    "lmsys": Format(
        TURN_COLUMNS,
        WINNER_COLUMNS,
        _TURNS | dict(zip(VOTE_FIELDS[1:], WINNER_COLUMNS, strict=True)),
    ),
    # The WSDM Cup competition.
    "wsdm": Format(TURN_COLUMNS, ("winner",), _TURNS | {"vote": "winner"}),
    # The data sets that this project makes.
    "lmsys_trl": Format(TURN_COLUMNS, ("vote",), _TURNS | {"vote": "vote"}),
    # lmsys/mt_bench_human_judgments on the Hub. A vote on the first turn is on that turn alone.
    "mt_bench": Format(
        ("conversation_a", "conversation_b", "question_id", "judge", "turn"),
        ("winner",),
        _CONVERSATIONS
        | {
            "id": ("question_id", "model_a", "model_b", "judge", "turn"),
            "annotator": "judge",
            "num_turns": "turn",
            "group": "question_id",
        },
        without=("tstamp", "anony"),
    ),
    # lmsys/chatbot_arena_conversations, lmarena-ai/arena-human-preference-100k and -140k on the Hub.
    "chatbot_arena": Format(
        ("conversation_a", "conversation_b"), ("winner",), _CONVERSATIONS | {"annotator": "judge"}
    ),
    # OpenAI's preference fine-tuning.
    "openai_preference": Format(
        ("input", "preferred_output", "non_preferred_output"),
        paths={"prompt": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output"},
    ),
    # TRL's preference rows, UltraFeedback, argilla, ShareGPT pairs, Alpaca pairs, and the transcripts of HH-RLHF.
    "preference": Format(("chosen", "rejected"), paths={"chosen": "chosen", "rejected": "rejected"}),
    "alpaca_eval": Format(
        ("instruction", "output_1", "output_2"),
        ("preference",),
        {
            "prompt": "instruction",
            "response_a": "output_1",
            "response_b": "output_2",
            "vote": "preference",
            "model_a": "generator_1",
            "model_b": "generator_2",
        },
        vote=read_preference,
    ),
    # The judgments of arena-hard-auto.
    "arena_hard": Format(
        ("games",),
        (),
        _TURNS | {"vote": "vote"},
        {"a>>b": _FIRST, "a>b": _FIRST, "a=b": _TIE, "b>a": _SECOND, "b>>a": _SECOND},
        expand=_arena_hard_games,
    ),
    # nvidia/HelpSteer3 on the Hub.
    "helpsteer3": Format(
        ("context", "response1", "response2"),
        ("overall_preference",),
        {"prompt": "context", "response_a": "response1", "response_b": "response2", "vote": "overall_preference"},
        {str(n): _FIRST if n < 0 else _SECOND if n else _TIE for n in range(-3, 4)},
    ),
    # stanfordnlp/SHP on the Hub. A post has many pairs of answers.
    "shp": Format(
        ("history", "human_ref_A", "human_ref_B"),
        ("labels",),
        {
            "prompt": "history",
            "response_a": "human_ref_A",
            "response_b": "human_ref_B",
            "vote": "labels",
            "group": "post_id",
        },
        {"1": _FIRST, "0": _SECOND},
    ),
    # The test set of PandaLM.
    "pandalm": Format(
        ("instruction", "response1", "response2"),
        ("annotator1",),
        {
            "prompt": ("instruction", "input"),
            "response_a": "response1",
            "response_b": "response2",
            "vote": ("annotator1", "annotator2", "annotator3"),
            "id": "idx",
        },
        {"1": _FIRST, "2": _SECOND, "0": _TIE},
    ),
    # Pairwise comparisons exported from Label Studio.
    "label_studio": Format(
        ("data", "annotations"),
        (),
        {
            "prompt": "data.prompt",
            "response_a": "data.answer1",
            "response_b": "data.answer2",
            "vote": "annotations.*.result.0.value.selected",
        },
        {"left": _FIRST, "right": _SECOND},
    ),
}


def find_format(name: str | None, columns: list[str], lenient: bool) -> Format:
    """
    The format with a name, or the first one whose columns a file has.

    Args:
        name (`str`, *optional*): The name.
        columns (`list[str]`): The columns of the file.
        lenient (`bool`): For prediction: the columns of the vote may be missing.

    Raises:
        UserError: If there is none. Says which columns each format needs, or that only the votes are missing.
    """
    needed = {
        known: fmt.columns if lenient else (*fmt.columns, *fmt.vote_columns)
        for known, fmt in FORMATS.items()
        if name in (None, known)
    }
    missing = {known: [column for column in needed[known] if column not in columns] for known in needed}
    # With a vote first, so that its columns decide where votes may be missing.
    for known, fmt in FORMATS.items():
        has_vote = all(column in columns for column in fmt.vote_columns)
        if missing.get(known) == [] and has_vote and (name or not set(fmt.without) & set(columns)):
            return complete(fmt, columns)
    if without_vote := next((known for known in needed if not missing[known]), None):
        return complete(replace(FORMATS[without_vote], votes={}), columns)
    lack_votes = [known for known in needed if not set(FORMATS[known].columns) - set(columns)]
    nearest = min(lack_votes or needed, key=lambda known: len(missing[known]) / len(needed[known]))
    shown = ascii(", ".join(map(str, columns)))
    formats = [f"\n  {known}: {', '.join((*fmt.columns, *fmt.vote_columns))}" for known, fmt in FORMATS.items()]
    listed = "" if lack_votes else f" The columns of each format are{''.join(formats)}"
    raise UserError(
        f"{'battles without votes' if lack_votes else 'not a file of battles'}. Columns missing: "
        f"{', '.join(missing[nearest])}. It has {shown if len(shown) < 200 else shown[:200] + '...'}. If that is "
        f"where they are, say so with columns: lmsys-trl prepare --suggest FILE prints a mapping.{listed}"
    )


def mapped_format(mapping: Mapping[str, Paths], base: Format | None, columns: list[str], lenient: bool) -> Format:
    """
    A format whose columns have the names that a user gives.

    Args:
        mapping (`Mapping`): A path, or several, for some of [`FIELDS`]. Others are in columns of their own names.
        base (`Format`, *optional*): The format that it changes.
        columns (`list[str]`): The columns of the file.
        lenient (`bool`): For prediction: the vote, and what belongs to it, may be missing.

    Raises:
        UserError: If texts or vote are not mapped, or a column is not in the file. Names all of them.
    """
    known, optional = {*columns}, (*VOTE_FIELDS, *LABELS, "group") if lenient else ()  # files without votes too
    absent = [name for name in mapping if all(known.isdisjoint((p, p.split(".")[0])) for p in as_tuple(mapping[name]))]
    mapping = {name: where for name, where in mapping.items() if name not in absent or name not in optional}
    taken = {path.split(".")[0] for where in mapping.values() for path in as_tuple(where)}
    named = {name: name for name in FIELDS if name in columns and name != "group" and name not in taken}
    paths: dict[str, Paths] = {**(base.paths if base else named), **mapping}
    if votes := [name for name in VOTE_FIELDS if name in mapping] or [name for name in paths if name == "vote"]:
        paths = {name: path for name, path in paths.items() if name not in VOTE_FIELDS or name in votes}
    # The pair of answers that is mapped, else one that the file has under its own names.
    sides = next((pair for pair in ANSWERS if set(pair) & set(mapping)), None)
    sides = sides or next((pair for pair in ANSWERS if set(pair) <= set(paths)), ANSWERS[0])
    others = {name for pair in ANSWERS if pair != sides for name in pair}
    paths = {name: path for name, path in paths.items() if name not in others}
    needed = ("prompt", *sides) if sides == ANSWERS[0] else sides
    problems = [f"columns: {name} is missing. Name its column" for name in needed if name not in paths]
    if not lenient and "chosen" not in sides and not any(name in paths for name in VOTE_FIELDS):
        problems.append("columns: vote is missing. Name its column, or vote_a, vote_b and vote_tie for fractions")
    problems += filter(None, [vote_problem(paths)])
    if sides[0] in paths and paths[sides[0]] == paths.get(sides[1]):
        problems.append(f"columns: {' and '.join(sides)} are both in {paths[sides[0]]}. Name the column of each")
    for name, where in mapping.items():
        for path in as_tuple(where):
            column = path.split(".")[0]
            if path not in columns and column not in columns:
                near = get_close_matches(column, columns, n=1) or [", ".join(columns)]
                problems.append(f"columns: there is no {column} for {name}. Did you mean {near[0]}?")
    if problems:
        raise UserError(problems)
    return complete(replace(base or Format(()), columns=(), vote_columns=(), paths=paths), columns)


def complete(fmt: Format, columns: list[str]) -> Format:
    """The format with the paths that depend on which columns a file has."""
    # Whichever columns the first rows have; not those of texts and votes, which may have such names.
    others = {path for name in fmt.paths if name not in ("id", *LABELS) for path in as_tuple(fmt.paths[name])}
    paths: dict[str, Paths] = {name: name for name in ("id", *LABELS) if name not in others} | dict(fmt.paths)
    if "id" not in columns and "question_id" in columns and "id" not in fmt.paths:
        paths["id"] = "question_id"
    if "chosen" in paths:
        prompt = next((name for name in PROMPTS if name in columns), None)
        both = prompt == "instruction" and "input" in columns
        found = {"prompt": ("instruction", "input") if both else prompt} if prompt else {}
        system = next((name for name in SYSTEMS if name in columns), None)
        paths = found | ({"system": system} if system else {}) | paths
    return replace(fmt, paths=paths)
