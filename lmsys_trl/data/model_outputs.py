"""Files with the answers of one model each -> battles between models on the same prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path

from ..battle import replace_surrogates
from ..errors import UserError, raise_problems
from .columns import Reading, RowError, cell_at, is_blank
from .files import find_files, read_rows
from .formats import PROMPTS
from .messages import Turns, split_roles
from .rows import digest
from .source import Source
from .splits import sample_by_hash
from .texts import lists_of_turns, read_messages, read_turns

IDS = ("id", "question_id", "uid", "prompt_id", "instruction_id")
ANSWERS = ("output", "response", "answer", "completion", "model_output")
CONVERSATIONS = ("messages", "conversation", "conversations")
MODELS = ("generator", "model", "model_name", "model_id")
NUM_ERRORS_SHOWN = 5
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
    """

    model: str
    path: str
    turns: list[Turns] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)


def read_outputs(path: str) -> ModelOutputs:
    """
    Read the answers of one model: CSV, JSON, JSONL or parquet with a prompt (`prompt`, `instruction`, `question`...)
    and an answer (`output`, `response`, `answer`...) a row, a text each or a list with one text a turn; or with the
    whole conversation as `messages`. `id` and `generator` or `model` may say which prompt it is, and whose answer.

    Raises:
        UserError: If columns are missing, rows are broken, or the file has answers of several models.
    """
    limits = Source(path)
    rows = read_rows(find_files(Path(path))[0], limits.max_size_gb, limits.max_nesting)
    columns, first = next(rows), list(islice(rows, NUM_ROWS_SEEN))
    columns = list(dict.fromkeys([*columns, *(name for row, problem in first if not problem for name in row)]))
    where = {
        name: next((column for column in candidates if column in columns), None)
        for name, candidates in (
            ("id", IDS), ("prompt", PROMPTS), ("answer", ANSWERS), ("messages", CONVERSATIONS), ("model", MODELS)
        )
    }  # fmt: skip
    needed: dict[str, tuple[str, ...]] = {} if where["messages"] else {"prompt": PROMPTS, "answer": ANSWERS}
    if where["answer"]:
        needed = {"prompt": PROMPTS}
    have = ", ".join(map(str, columns)) or "none"
    raise_problems(
        [
            f"{path}: has no column for the {name}, such as {', '.join(candidates[:3])}. Its columns: {have}"
            for name, candidates in needed.items()
            if not where[name]
        ]
    )
    found, problems, names = ModelOutputs(Path(path).name.split(".")[0], path), [], set()
    reading = Reading(images="text")
    texts = [str(where[name]) for name in ("prompt", "answer")]
    try:
        reading.as_lists = bool(where["answer"]) and lists_of_turns(
            [row for row, problem in first if not problem], texts
        )
    except RowError as error:
        raise UserError(f"{path}: {error}") from error
    for number, (row, problem) in enumerate([*first, *rows], 1):
        try:
            if problem:
                raise RowError(problem)
            found.turns.append(_read_row(row, where, reading))
        except (RowError, KeyError) as error:
            what = f"column {error.args[0]}: missing" if isinstance(error, KeyError) else str(error)
            problems.append(f"{path}: row {number}: {what}")
            continue
        row_id = row.get(where["id"])
        found.ids.append(None if is_blank(row_id) else str(row_id))
        names.add(row.get(where["model"]))
    if len(problems) > NUM_ERRORS_SHOWN:
        problems[NUM_ERRORS_SHOWN:] = [f"{path}: and {len(problems) - NUM_ERRORS_SHOWN} more"]
    raise_problems(problems)
    names -= {None, ""}
    if len(names) > 1:
        raise UserError(
            f"{path}: holds answers of {len(names)} models ({', '.join(sorted(map(str, names))[:3])}). Give each of "
            "them a file of its own"
        )
    if not found.turns:
        raise UserError(f"{path}: has no rows")
    found.model = str(names.pop()) if names else found.model
    return found


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
    prompt, answer = (
        [text and replace_surrogates(text)[0] for text in texts] for texts in (turns.prompt, turns.response_a)
    )
    if len(prompt) != len(answer):
        raise RowError(f"{len(prompt)} prompts and {len(answer)} answers, which must be as many")
    if turns.system:
        prompt[0] = "\n\n".join(filter(None, [turns.system, prompt[0]]))
    return Turns(prompt, answer, answer, "")


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
            names = {"id": f"{prompt_id}: {a} - {b}", "model_a": a, "model_b": b}
            texts = {"prompt": prompt, "response_a": answer, "response_b": by_model[b].response_a}
            battles.append({**names, **texts, "vote": None})
    if not battles:
        raise UserError("outputs: no two files have answers to the same prompt, so nothing can be compared")
    notes = []
    if alone := sum(len(by_model) == 1 for by_model in answers.values()):
        notes.append(f"{alone} of {len(answers)} prompts were answered by one model only, and are not compared")
    if max_battles is not None and max_battles < len(battles):
        chosen = sample_by_hash([battle["id"] for battle in battles], max_battles, "compare")
        notes.append(f"{max_battles} of {len(battles)} pairs of answers are compared, a random sample")
        battles = [battles[place] for place in chosen]
    return battles, notes


def _by_prompt(outputs: Sequence[ModelOutputs]) -> dict[str, dict[str, Turns]]:
    """For each prompt, by its id or else a hash of its text, what each model has answered."""
    by_id = all(None not in found.ids for found in outputs)
    answers: dict[str, dict[str, Turns]] = {}
    problems = []
    for found in outputs:
        for number, (row_id, turns) in enumerate(zip(found.ids, found.turns, strict=True), 1):
            text = "\x1e".join(" ".join((turn or "").split()) for turn in turns.prompt)
            known = answers.setdefault(str(row_id) if by_id else f"{digest(text):016x}", {})
            if found.model in known:
                what = "id" if by_id else "prompt"
                problems.append(f"{found.path}: row {number}: an earlier row has the same {what}")
            elif by_id and any(turns.prompt != other.prompt for other in known.values()):
                problems.append(
                    f"{found.path}: row {number}: id {row_id} has another prompt in the file of {[*known][0]}"
                )
            known[found.model] = turns
    if len(problems) > NUM_ERRORS_SHOWN:
        problems[NUM_ERRORS_SHOWN:] = [f"and {len(problems) - NUM_ERRORS_SHOWN} more"]
    raise_problems(problems)
    return answers
