"""A file of votes with columns of its own -> the mapping that one would guess, to be looked at and pasted."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, islice

import yaml

from ..battle import winner_of
from ..errors import UserError
from .columns import TURN_COLUMNS, WINNER_COLUMNS, cell_if_any, is_blank, parsed, shorten
from .downloads import download
from .files import DataFile, find_files, read_rows
from .formats import as_tuple, find_format
from .ledger import Ledger
from .messages import ROLES
from .source import ANSWERS, FIELDS, Source
from .sources import read_source
from .vote_guess import ANNOTATOR_NAMES, find_vote, words_of

NUM_ROWS = 1000  # rows that are looked at
MIN_PROMPT = 12  # characters on average, of a prompt whose column has another name
# What the names of columns have in them, by field, the likeliest first.
NAMES = {
    "prompt": ("prompt", "question", "instruction", "query", "context", "history", "conversation", "user", "input",
               "task", "message", "messages"),
    "id": ("id", "uid", "uuid", "idx", "index", "key"),
    "annotator": ANNOTATOR_NAMES,
    "group": ("group", "post_id", "question_id", "topic", "cluster"),
    "system": ("system",),
}  # fmt: skip
# Marks that tell the names of two columns apart: of the first answer, and of the second.
MARKS = (
    ("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"), ("one", "two"), ("x", "y"),
    ("chosen", "rejected"), ("preferred", "rejected"), ("preferred", "dispreferred"), ("better", "worse"),
    ("winner", "loser"), ("win", "lose"), ("good", "bad"), ("pos", "neg"), ("positive", "negative"),
    ("baseline", "candidate"), ("control", "treatment"), ("old", "new"), ("ours", "theirs"),
)  # fmt: skip
DECIDED = ("chosen", "preferred", "better", "winner", "win", "good", "pos", "positive")


def read_some(file: DataFile, source: Source) -> list[dict]:
    """The first rows of a file, without broken ones."""
    rows = read_rows(file, source.max_size_gb, source.max_nesting)
    next(rows)
    return [row for row, problem in islice(rows, NUM_ROWS) if problem is None]


def suggest(rows: list[dict]) -> tuple[dict, dict, list[str]]:
    """
    Guess where rows have the prompt, the answers, the vote and more, from the names of columns and what they hold.

    Args:
        rows (`list[dict]`): Rows of a file.

    Returns:
        `tuple[dict, dict, list[str]]`: `columns` and `votes` of a [`Source`], and what could not be guessed.
    """
    paths = list(dict.fromkeys(path for row in rows for path in _paths(row)))
    cells = {path: [_cell(row, path) for row in rows] for path in paths}
    texts = {path: sum(len(str(cell)) for cell in cells[path]) / max(len(rows), 1) for path in paths}
    columns: dict = {}
    decided = False
    pairs = _pairs(paths, texts)
    # A number for each answer, such as its score, is no vote.
    paired = {path for both in pairs for path in both}
    pairs = [both for both in pairs if set(both).isdisjoint(WINNER_COLUMNS)]  # neither answers nor names of models
    answers = [both for both in pairs if both != ("model_a", "model_b")]
    pair = max(answers, key=lambda pair: texts[pair[0]] + texts[pair[1]], default=None)
    doubts = _wrapped_rows(rows)
    if pair is None:
        doubts.append("no two columns look like the two answers: name response_a and response_b")
    else:
        decided = any(mark in words_of(pair[0]) for mark in DECIDED)
        are_conversations = any(_is_conversation(cell) for cell in cells[pair[0]])
        fields = ANSWERS[2] if decided else ANSWERS[1] if are_conversations else ANSWERS[0]
        columns |= dict(zip(fields, pair, strict=True))
    names = [both for both in pairs if set(both).isdisjoint(columns.values())]
    models = [pair for pair in names if "model" in pair[0].lower() or "generator" in pair[0].lower()]
    short = [pair for pair in models if max(texts[pair[0]], texts[pair[1]]) < 60]
    if short:
        columns |= dict(zip(("model_a", "model_b"), short[0], strict=True))
    votes: dict = {}
    if not decided:
        free = [path for path in paths if path not in columns.values()]
        vote, votes, said = find_vote(free, cells, columns, _marks(pair) if pair else (), paired)
        columns |= {field: _of_all_entries(where, rows) for field, where in vote.items()}
        doubts += said
    needs_prompt = pair is None or "response_a" in columns
    for field in ("prompt", "id", "annotator", "group", "system"):
        if field == "prompt" and "conversation_a" in columns:
            continue
        taken = {path for where in columns.values() for path in as_tuple(where)}
        free = [path for path in paths if path not in taken]
        found = _by_name(field, free, texts, cells)
        if found is not None and field not in columns:
            columns[field] = found
    if "prompt" not in columns and needs_prompt and pair is not None:
        rest = [path for path in paths if path not in columns.values() and path not in paired]
        longest = max(rest, key=texts.__getitem__, default=None)
        if longest is not None and texts[longest] > MIN_PROMPT:
            columns["prompt"] = longest
            doubts.append(f"prompt: {longest} has the longest texts besides the answers")
    if "prompt" not in columns and needs_prompt:
        doubts.append("no column looks like the prompt: name prompt")
    return {name: columns[name] for name in FIELDS if name in columns}, votes, doubts


def describe(path: str) -> str:
    """
    The mapping that one would guess for a file, and three rows as it would read them.

    Args:
        path (`str`): As `path` of a [`Source`].

    Raises:
        UserError: If it is not a file of rows.
    """
    source = Source(path)
    rows = read_some(find_files(download(path, None)[0])[0], source)
    names, lines = list(dict.fromkeys(name for row in rows for name in row)), []
    has_votes = True
    try:
        find_format(None, names, lenient=False)
        next(read_source(source, Ledger(), lenient=True), None)
        comments = [f"{path} is read without a mapping."]
    except UserError:
        columns, votes, doubts = suggest(rows)
        has_votes = bool({"vote", "vote_a", "chosen"} & set(columns))
        source = replace(source, columns=columns, votes=votes or None)
        lines = [
            f"# A guess at {path}. Look at it, save it as own.yaml, and give it to all that read such files:",
            f"# lmsys-trl prepare own.yaml --sources {shlex.quote(path)} --output_dir data/own",
            as_yaml(columns, votes),
        ]
        comments = [f"Not sure: {doubt}" for doubt in doubts]
    ledger = Ledger()
    try:
        battles = list(islice(read_source(source, ledger, lenient=not has_votes), 3))
    except UserError as error:
        comments += ["It cannot be read in this way:", *str(error).splitlines()]
        battles = []
    for battle in battles:
        comments.append(f"{battle['id']}: {_vote_in_words(battle['vote'])}")
        for name in TURN_COLUMNS:
            comments.append(f"  {name:10} {shorten(' | '.join(text or '' for text in battle[name]), 90)}")
    comments.append(f"Columns that are not read: {', '.join(ledger.unused.get(source.name, [])) or 'none'}")
    return "\n".join([*lines, *(f"# {comment}" for comment in comments)])


def _vote_in_words(vote: list[float] | None) -> str:
    names = {"model_a": "for A", "model_b": "for B", "tie": "tie"}
    if vote is None:
        return "no vote, so it can be predicted only"
    winner = winner_of(vote)
    return names[winner] if winner and max(vote) == 1 else " ".join(f"{fraction:.2f}" for fraction in vote)


def as_yaml(columns: dict, votes: dict) -> str:
    """The keys of a YAML."""
    mapping = {"columns": columns, **({"votes": votes} if votes else {})}
    return yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True).rstrip()


def _paths(row: dict, before: str = "", depth: int = 0) -> Iterator[str]:
    """The paths of a row's cells. Messages are cells."""
    for name, cell in row.items():
        path = f"{before}{name}"
        inner = cell
        if isinstance(cell, list) and cell and isinstance(cell[0], dict) and not {"role", "from"} & set(cell[0]):
            path, inner = f"{path}.0", cell[0]
        if isinstance(inner, dict) and depth < 6 and not {"role", "from"} & set(inner):
            yield from _paths(inner, f"{path}.", depth + 1)
        elif name == "choices" and isinstance(cell, list):  # Label Studio: the choice of one person
            yield f"{path}.0"
        else:
            yield path


def _is_conversation(cell) -> bool:
    """Whether a cell holds messages, or their JSON text, the user's first."""
    cell = parsed(cell)
    first = cell[0] if isinstance(cell, list) and cell and isinstance(cell[0], dict) else {}
    return ROLES.get(str(first.get("role", first.get("from")))) in ("user", "system")


def _cell(row: dict, path: str):
    cell = cell_if_any(row, path)
    return None if is_blank(cell) else cell


def _pairs(paths: list[str], texts: dict[str, float]) -> list[tuple[str, str]]:
    """Pairs of columns whose names differ by a mark, the first before the second."""
    pairs = []
    for one, other in combinations(paths, 2):
        words, others = words_of(one), words_of(other)
        if one.rpartition(".")[0] != other.rpartition(".")[0] or len(words) != len(others):
            continue
        different = [(word, word_b) for word, word_b in zip(words, others, strict=True) if word != word_b]
        for first, second in MARKS:
            if different in ([(first, second)], [(second, first)]):
                pairs.append((one, other) if different == [(first, second)] else (other, one))
                break
    return [pair for pair in pairs if texts[pair[0]] and texts[pair[1]]]


def _of_all_entries(where, rows: list[dict]):
    """The path of a vote in the first entry of a list, as that in each entry if there are several."""
    before, first, after = where.partition(".0.") if isinstance(where, str) else ("", "", "")
    several = first and any(isinstance(cell := _cell(row, before), list) and len(cell) > 1 for row in rows)
    return f"{before}.*.{after}" if several else where


def _wrapped_rows(rows: list[dict]) -> list[str]:
    """What to do with a file that is one object around the rows."""
    objects = rows[0].items() if len(rows) == 1 else ()
    lists = [name for name, cell in objects if isinstance(cell, list) and len(cell) > 1 and isinstance(cell[0], dict)]
    lists = [name for name in lists if not {"role", "from"} & set(rows[0][name][0])]
    return [f"the file is one object, read as one row: write the list in {lists[0]} to a file"] if lists else []


def _marks(pair: tuple[str, str]) -> tuple[str, str]:
    """The words that tell the columns of both answers apart."""
    differ = [both for both in zip(words_of(pair[0]), words_of(pair[1]), strict=True) if both[0] != both[1]]
    return differ[0]


def _by_name(field: str, paths: list[str], texts: dict[str, float], cells: dict[str, list]) -> str | None:
    """The column that is named like a field; of ids and groups one that holds what such a column holds."""
    for name in NAMES[field]:
        for path in paths:
            words = words_of(path)
            joined = "_".join(words)
            if name not in words and name != joined and not joined.endswith(f"_{name}"):
                continue
            given = [str(cell) for cell in cells[path] if cell is not None]
            is_label = field not in ("prompt", "system")
            if not given or (is_label and texts[path] > 80) or (not is_label and "id" in words):
                continue
            if field == "id" and len(set(given)) < len(given):
                continue
            if field == "group" and len(set(given)) == len(given):
                continue
            return path
    return None
