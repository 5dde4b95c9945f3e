"""Loading a tokenizer, and checking that examples can be built with it."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..config import find_model_folder
from ..errors import UserError, first_line, raise_problems
from ..hub import download_repository
from .template import LETTERS

MAX_TEMPLATE = 100_000  # characters of a chat template, and of what it writes; those of known models have some 10,000
# A tokenizer has a setting for whether control tokens are text, which threads that share a judge set in turns.
SETTING = threading.Lock()
TOKENIZER_FILES = ["tokenizer*", "special_tokens_map.json", "*.jinja", "config.json"]


def resolve_tokenizer(
    name: str | None, model_name_or_path: str | None, base_model_id: str | None = None, revision: str | None = None
) -> str:
    """
    The folder with a tokenizer's files, for [`load_tokenizer`]. No weights are downloaded.

    Args:
        name (`str`, *optional*): A folder. Default: that of the base model.
        model_name_or_path (`str`, *optional*): The base model: a folder or a Hub id.
        base_model_id (`str`, *optional*): Its name on the Hub, if `model_name_or_path` is a folder.
        revision (`str`, *optional*): Branch, tag or commit of the base model on the Hub.

    Raises:
        UserError: If neither a tokenizer nor a base model is named, or the Hub has none.
    """
    if name:
        return name
    if model_name_or_path is None:
        raise UserError("tokenizer: missing. Give a folder, or model_name_or_path")
    folder = find_model_folder(model_name_or_path)
    if folder is not None:
        return str(folder)
    return str(download_repository(base_model_id or model_name_or_path, "model", revision, TOKENIZER_FILES))


@contextmanager
def collector_paused() -> Iterator[None]:
    """
    Within, Python's garbage collector does not run. It looks at all objects again and again while a vocabulary becomes
    a million of them, which takes as long as reading Gemma's.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def load_tokenizer(
    name_or_path: str, pad_token: str | None = None, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """
    Load a tokenizer and check that examples can be built with it.

    Args:
        name_or_path (`str`): A folder or a Hub id.
        pad_token (`str`, *optional*): The token to pad with, if the tokenizer's own is its end token.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        UserError: If there is none, or with all the problems that [`check_tokenizer`] finds.
    """
    try:
        with collector_paused():
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise anything at damaged files
        raise UserError(f"tokenizer {name_or_path}: missing or damaged: {first_line(error)}") from error
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise UserError(f"pad_token: {pad_token!r} is not in the vocabulary of {name_or_path}")
        tokenizer.pad_token = pad_token
    check_tokenizer(tokenizer)
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Check what [`encode_battle`] relies on.

    Raises:
        UserError: If a letter is not a single token, or becomes another one after the prompt, if the template doubles
            the start token, or if padding and the end of the answer are the same token. Names all problems.
    """
    name, problems = tokenizer.name_or_path, []
    if not tokenizer.is_fast:
        raise UserError(f"tokenizer {name}: is not one of the library tokenizers. Use one that has a tokenizer.json")
    if not tokenizer.chat_template:
        raise UserError(f"tokenizer {name}: has no chat template. Use an instruction-tuned model's tokenizer")
    before, after = rendered_template(tokenizer)
    letters = {letter: token_ids(tokenizer, letter) for letter in LETTERS.values()}
    if any(len(ids) != 1 for ids in letters.values()) or len({tuple(ids) for ids in letters.values()}) != len(letters):
        problems.append(f"the letters must be single and distinct tokens, but are {letters}")
    elif any(
        token_ids(tokenizer, after + letter) != token_ids(tokenizer, after) + ids for letter, ids in letters.items()
    ):
        problems.append("a letter becomes another token in the answer's place, so its probability can't be read there")
    if tokenizer.bos_token_id is not None and token_ids(tokenizer, before)[:2] == [tokenizer.bos_token_id] * 2:
        problems.append(f"the chat template starts with two {tokenizer.bos_token}. Use a template with one")
    if after.count("<think>") > after.count("</think>"):
        problems.append(
            "its chat template opens a thinking part even with enable_thinking=False, and the letter would be one of "
            "its thoughts. Use a model that can answer at once"
        )
    if tokenizer.eos_token_id is None:
        problems.append("has no end token. Set eos_token in its tokenizer_config.json")
    elif tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        problems.append(
            f"its pad token ({tokenizer.pad_token}) must be another one than its end token ({tokenizer.eos_token}). "
            "Set pad_token in the recipe to a token that texts never use: '<|endoftext|>' for SmolLM2, "
            "'<|finetune_right_pad_id|>' for Llama-3.1"
        )
    raise_problems([f"tokenizer {name}: {problem}" for problem in problems])


def rendered_template(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What the chat template writes before and after the one user message, as text."""
    marker, name = "[[message]]", tokenizer.name_or_path
    too_long = f"than {MAX_TEMPLATE:,} characters, which is the limit. Use the base model's own template"
    if len(str(tokenizer.chat_template)) > MAX_TEMPLATE:
        raise UserError(f"tokenizer {name}: its chat template has more {too_long}")
    # Llama-3.1's template writes today's date by default: examples would change from day to day. Templates of
    # reasoning models, such as Qwen3's, close the thinking before the answer if they are asked not to think.
    try:
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": marker}],
            tokenize=False,
            add_generation_prompt=True,
            date_string="26 Jul 2024",
            enable_thinking=False,
        )
    except Exception as error:  # a template is a program
        raise UserError(f"tokenizer {name}: its chat template fails: {first_line(error)}") from error
    if len(rendered) > MAX_TEMPLATE:
        raise UserError(f"tokenizer {name}: its chat template writes more {too_long}")
    if rendered.count(marker) != 1:
        raise UserError(f"tokenizer {name}: its chat template does not show a user message once")
    before, after = rendered.split(marker)
    return before, after


def pipeline_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of all that makes tokens of a text."""
    backend = tokenizer.backend_tokenizer
    # What a program may change of a tokenizer that it has loaded; writing out a large vocabulary takes half a second.
    changeable = (backend.normalizer, backend.pre_tokenizer, backend.post_processor, tokenizer.get_added_vocab())
    return _pipeline_fingerprint(tokenizer, repr(changeable))


@lru_cache(maxsize=16)
def _pipeline_fingerprint(tokenizer: PreTrainedTokenizerBase, changeable: str) -> str:
    return sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The token ids of a text of the template, in which control tokens count as such."""
    with SETTING:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
