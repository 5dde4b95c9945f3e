"""An adapter that was trained elsewhere -> a judge."""

import shutil
from pathlib import Path

from ..artifacts import provenance
from ..battle import WINNERS
from ..encoding.tokenizer import load_tokenizer
from ..errors import raise_problems
from .adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, resolve_adapter
from .base import hub_id, resolve_base
from .judge_file import JudgeFile


def import_adapter(
    adapter: str,
    model_name_or_path: str,
    output_dir: str,
    letters: list[str],
    max_length: int,
    temperature: float,
    pad_token: str | None,
    base_model_id: str | None,
    dtype: str,
    attn_implementation: str | None,
    given: dict,
) -> None:
    """
    Copy an adapter and its base model's tokenizer, and write the `judge.json` that says how to predict with it.

    Args:
        adapter (`str`): As for [`resolve_adapter`].
        model_name_or_path (`str`): As for [`resolve_base`].
        output_dir (`str`): A new or empty folder.
        letters (`list[str]`): The tokens it answers with, in the order of `WINNERS`.
        max_length (`int`), temperature (`float`): As in [`JudgeFile`].
        pad_token (`str`, *optional*): As for [`load_tokenizer`].
        base_model_id (`str`, *optional*): The base model's name on the Hub, if `model_name_or_path` is a folder.
        dtype (`str`), attn_implementation (`str`, *optional*): As for [`load_base`].
        given (`dict`): The configuration, as returned by [`parse_config`].

    Raises:
        UserError: With all problems at once.
    """
    source, base, folder = resolve_adapter(adapter), resolve_base(model_name_or_path), Path(output_dir)
    tokenizer = load_tokenizer(str(base), pad_token)
    ids = [tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in letters]
    problems = []
    if folder.exists() and any(folder.iterdir()):
        problems.append(f"output_dir: {folder} is not empty")
    if not (source / ADAPTER_WEIGHTS).is_file():
        problems.append(f"adapter {source}: no {ADAPTER_WEIGHTS}. Pickled adapters are not loaded")
    if any(len(tokens) != 1 for tokens in ids) or not len(ids) == len(WINNERS) == len({tokens[0] for tokens in ids}):
        problems.append(f"letters: expected three different tokens, found {' '.join(letters)}, which are {ids}")
    raise_problems(problems)
    precision = {"dtype": dtype, "autocast": False, "attn_implementation": attn_implementation, "quantization": None}
    judge_file = JudgeFile.describe(
        tokenizer, base, base_model_id or hub_id(model_name_or_path), max_length, max_length, temperature, precision
    )
    judge_file.letters = {
        winner: {"letter": letter, "id": token} for winner, letter, (token,) in zip(WINNERS, letters, ids, strict=True)
    }
    for key, value in provenance(given).items():
        setattr(judge_file, key, value)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(source / name, folder / name)
    tokenizer.save_pretrained(folder)
    judge_file.save(folder)
