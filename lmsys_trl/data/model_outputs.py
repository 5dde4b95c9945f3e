"""Files with the answers of one model each -> battles between models on the same prompts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from ..battle import replace_surrogates, without_white_space
from ..errors import UserError, first_problems, raise_problems
from .columns import Reading, RowError, cell_at, is_blank, shorten
from .files import SUFFIXES, find_files, read_rows
from .formats import PROMPTS
from .messages import Turns, split_roles
from .rows import digest
from .source import Source
from .splits import sample_by_hash
from .texts import NOT_UTF8, lists_of_turns, read_messages, read_turns

IDS = ("id", "question_id", "uid", "prompt_id", "instruction_id")
ANSWERS = ("output", "response", "answer", "completion", "model_output")
CONVERSATIONS = ("messages", "conversation", "conversations")
MODELS = ("generator", "model", "model_name", "model_id")
NUM_ROWS_SEEN = 100  # that decide how texts are written


@dataclass
class ModelOutputs:
    """
    The answers of one model.

    Args:
        model (`str`): Its name: from the file's column, or the name of the file.
        path (`str`): The file.
        turns (`list[Turns]`): A prompt and its answer each, the answer as `response_a` and `response_b`.
        ids (`list[str | None]`): The ids of the prompts, as the file has them.
        notes (`list[str]`): What is odd about the answers.
    """

    model: str
    path: str
    turns: list[Turns] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_outputs(path: str | Path) -> ModelOutputs:
    """
    Read the answers of one model: CSV, JSON, JSONL or parquet with a prompt (`prompt`, `instruction`, `question`...)
    and an answer (`output`, `response`, `answer`...) a row, a text each or a list with one text a turn; or with the
    whole conversation as `messages`. `id` and `generator` or `model` may say which prompt it is, and whose answer.

    Raises:
        UserError: If columns are missing, rows are broken, or the file has answers of several models.
    """
    path = str(path)
    limits = Source(path)
    columns, *rows = read_rows(find_files(Path(path))[0], limits.max_size_gb, limits.max_nesting)
    if not rows:
        raise UserError(f"{path}: has no rows")
    good = [row for row, problem in rows if not problem]
    where = (
        _find_columns(path, list(dict.fromkeys([*columns, *(name for row in good for name in row)]))) if good else {}
    )
    reading = Reading(images="text")
    try:
        texts = [str(where.get(name)) for name in ("prompt", "answer")]
        reading.as_lists = bool(where.get("answer")) and lists_of_turns(good[:NUM_ROWS_SEEN], texts)
    except RowError as error:
        raise UserError(f"{path}: {error}") from error
    found, problems, names = ModelOutputs(_stem(path), path), [], set()
    for number, (row, problem) in enumerate(rows, 1):
        try:
            if problem:
                raise RowError(problem)
            found.turns.append(_read_row(row, where, reading))
            found.ids.append(_read_id(row.get(where["id"])))
            names.add(_read_name(row.get(where["model"]), where["model"]))
        except (RowError, KeyError) as error:
            what = f"column {error.args[0]}: missing" if isinstance(error, KeyError) else str(error)
            problems.append(f"row {number}: {what}")
    raise_problems([f"{path}: {problem}" for problem in first_problems(problems)])
    names.discard(None)
    if len(names) > 1:
        raise UserError(
            f"{path}: holds answers of {len(names)} models ({', '.join(sorted(map(str, names))[:3])}). Give each of "
            "them a file of its own"
        )
    found.model = str(names.pop()) if names else found.model
    if empty := sum(not any((text or "").strip() for text in turns.response_a) for turns in found.turns):
        found.notes.append(f"{path}: {empty} of {len(found.turns)} answers are empty, and judged as such")
    if reading.changes[NOT_UTF8]:
        found.notes.append(f"{path}: {reading.changes[NOT_UTF8]} texts have {NOT_UTF8}. Is it another encoding?")
    return found


def _find_columns(path: str, columns: list[str]) -> dict[str, str | None]:
    """Which column holds what."""
    where = {
        name: next((column for column in candidates if column in columns), None)
        for name, candidates in (
            ("id", IDS), ("prompt", PROMPTS), ("answer", ANSWERS), ("messages", CONVERSATIONS), ("model", MODELS)
        )
    }  # fmt: skip
    needed: dict[str, tuple[str, ...]] = {} if where["messages"] else {"prompt": PROMPTS, "answer": ANSWERS}
    if where["answer"]:
        needed = {"prompt": PROMPTS}
    raise_problems(
        [
            f"{path}: has no column for the {name}, such as {', '.join(candidates[:3])}. Its columns: "
            f"{', '.join(map(str, columns)) or 'none'}"
            for name, candidates in needed.items()
            if not where[name]
        ]
    )
    return where


def _stem(path: str) -> str:
    """The name of a file without what says how it is written: of `gpt-4.1.jsonl.gz` the `gpt-4.1`."""
    name = Path(path).name
    for suffix in (".gz", ".zip", *SUFFIXES):
        name = name.removesuffix(suffix)
    return name or Path(path).name


def _read_id(cell) -> str | None:
    """An id as text; a number is the same whether or not pandas has made a float of it."""
    return None if is_blank(cell) else re.sub(r"(?<=\d)\.0$", "", replace_surrogates(str(cell))[0])


def _read_name(cell, column: str | None) -> str | None:
    """The name of a model in one line, without what controls a terminal."""
    if is_blank(cell):
        return None
    if not isinstance(cell, str):
        raise RowError(f"column {column}: expected the name of a model", f", found {shorten(cell, 30)}")
    return "".join(char if char.isprintable() else " " for char in replace_surrogates(cell)[0]).strip() or None


def _read_row(row: dict, where: dict[str, str | None], reading: Reading) -> Turns:
    """The prompt and the answer of a row, cleaned of lone surrogates."""
    if where["answer"]:
        names = [str(where["prompt"]), str(where["answer"])]
        prompt, answer = (cell_at(row, name) for name in names)
        if is_blank(prompt):
            raise RowError(f"column {names[0]}: empty")
        turns = read_turns([prompt, answer, answer], [*names, names[1]], reading)
    else:
        name = str(where["messages"])
        messages = read_messages(cell_at(row, name), name, reading)
        turns = split_roles(messages, messages, [name, name])
    prompt, answer = ([_clean(text, reading) for text in texts] for texts in (turns.prompt, turns.response_a))
    if len(prompt) != len(answer):
        raise RowError(f"{len(prompt)} prompts and {len(answer)} answers, which must be as many")
    if turns.system:
        prompt[0] = "\n\n".join(filter(None, [turns.system, prompt[0]]))
    return Turns(prompt, answer, answer, "")


def _clean(text: str | None, reading: Reading) -> str | None:
    if not text:
        return text
    text, num_replaced = replace_surrogates(text)
    reading.changes[NOT_UTF8] += bool(num_replaced)
    return text


def pair_outputs(outputs: Sequence[ModelOutputs], max_battles: int | None = None) -> tuple[list[dict], list[str]]:
    """
    The battles between each two models on the prompts that both have answered. Prompts are the same if they have the
    same id, or without ids the same text.

    Args:
        outputs (`Sequence[ModelOutputs]`): Of at least two models.
        max_battles (`int`, *optional*): A sample of this size, each battle as likely as any other. Default: all.

    Returns:
        `tuple[list[dict], list[str]]`: Battles with `model_a` and `model_b`, in the order of the outputs, and what
        was not used, a line each.

    Raises:
        UserError: If models or prompts are given twice, ids stand for different prompts, or no prompt is in two files.
    """
    models = [found.model for found in outputs]
    repeated = sorted({model for model in models if models.count(model) > 1})
    if repeated:
        raise UserError(f"outputs: several files hold answers of {', '.join(repeated)}. Rename it in one of them")
    answers = _by_prompt(outputs)
    battles: list[dict] = []
    for prompt_id, by_model in answers.items():
        for a, b in combinations([model for model in models if model in by_model], 2):
            prompt, answer, _, _ = by_model[a]
            names = {"id": f"{prompt_id}: {models.index(a)}-{models.index(b)}", "model_a": a, "model_b": b}
            texts = {"prompt": prompt, "response_a": answer, "response_b": by_model[b].response_a}
            battles.append({**names, **texts, "vote": None})
    if not battles:
        examples = [next(iter(found.ids)) or (found.turns[0].prompt[0] or "")[:40] for found in outputs[:2]]
        raise UserError(
            "outputs: no two files have answers to the same prompt, so nothing can be compared. The first prompts are "
            f"{ascii(examples[0])} in {outputs[0].path} and {ascii(examples[1])} in {outputs[1].path}"
        )
    notes = [note for found in outputs for note in found.notes]
    if alone := sum(len(by_model) == 1 for by_model in answers.values()):
        notes.append(f"{alone} of {len(answers)} prompts were answered by one model only, and are not compared")
    if max_battles is not None and max_battles < len(battles):
        chosen = sample_by_hash([battle["id"] for battle in battles], max_battles, "compare")
        notes.append(f"{max_battles} of {len(battles)} pairs of answers are compared, a random sample")
        battles = [battles[place] for place in chosen]
    if left_out := [model for model in models if not any(model in (b["model_a"], b["model_b"]) for b in battles)]:
        notes.append(f"{', '.join(left_out)}: in no battle")
    return battles, notes


def _by_prompt(outputs: Sequence[ModelOutputs]) -> dict[str, dict[str, Turns]]:
    """For each prompt, by its id or else a hash of its text, what each model has answered."""
    by_id = all(None not in found.ids for found in outputs)
    answers: dict[str, dict[str, Turns]] = {}
    problems = []
    for found in outputs:
        for number, (row_id, turns) in enumerate(zip(found.ids, found.turns, strict=True), 1):
            text = without_white_space(turns.prompt)
            known = answers.setdefault(str(row_id) if by_id else f"{digest(text):016x}", {})
            if found.model in known:
                what = "id" if by_id else "prompt"
                problems.append(f"{found.path}: row {number}: an earlier row has the same {what}")
            elif by_id and any(text != without_white_space(other.prompt) for other in known.values()):
                problems.append(
                    f"{found.path}: row {number}: id {row_id} has another prompt in the file of {[*known][0]}"
                )
            known[found.model] = turns
    raise_problems(first_problems(problems))
    return answers
