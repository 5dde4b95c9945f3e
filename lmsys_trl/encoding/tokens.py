"""Turns of battles -> their tokens, as each version of the prompt has them. The only tokenization in the project."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from ..data.columns import TURN_COLUMNS
from ..errors import UserError
from .template import CODE_VERSION, LETTERS, TEMPLATES
from .tokenizer import SETTING, rendered_template, token_ids


class Turn(NamedTuple):
    """The token ids of a turn: a header, a text, and so on in turns, and the last header."""

    headers: Sequence[np.ndarray]  # four, which are never truncated
    texts: Sequence[Any]  # of TURN_COLUMNS, arrays too


class PromptIds(NamedTuple):
    """The token ids that all examples share."""

    prefix: np.ndarray  # what stands before the message, and the instruction
    suffix: np.ndarray  # the options, and what stands after the message
    letters: dict[str, int]  # winner -> id of its letter


def prompt_ids(tokenizer: PreTrainedTokenizerBase, version: str) -> PromptIds:
    """The token ids that all examples of a version of the prompt share."""
    return _prompt_ids(tokenizer, tokenizer.chat_template, version)


@lru_cache(maxsize=16)
def _prompt_ids(tokenizer: PreTrainedTokenizerBase, chat_template: str, version: str) -> PromptIds:
    template = TEMPLATES[version]
    before, after = _code_frame(tokenizer) if version == CODE_VERSION else rendered_template(tokenizer)
    return PromptIds(
        prefix=as_array(token_ids(tokenizer, before) + token_ids(tokenizer, template.instruction)),
        suffix=as_array(token_ids(tokenizer, template.options) + token_ids(tokenizer, after)),
        letters={winner: token_ids(tokenizer, letter)[0] for winner, letter in LETTERS.items()},
    )


def _code_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What the reference solution's code writes before and after the message: for Llama not its chat template."""
    vocabulary = tokenizer.get_vocab()
    if "<start_of_turn>" in vocabulary:
        return rendered_template(tokenizer)
    if "<|start_header_id|>" in vocabulary:
        return (
            "<|begin_of_text|><|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
            "<|eot_id|>\n<|start_header_id|>assistant<|end_header_id|>",
        )
    raise UserError(
        f"prompt_version: {CODE_VERSION} is written for Gemma and Llama-3, and {tokenizer.name_or_path} is neither"
    )


def turn_texts(battles: list[dict], version: str, max_characters: int) -> list[tuple[tuple[str, ...], ...]]:
    """
    The three texts of each turn of each battle, as they are written in the prompt, without what no example can hold.

    Raises:
        UserError: If the numbers of turns of a battle differ.
    """

    @cache  # texts repeat where several people have voted on them
    def write(text: str | None) -> str:
        return TEMPLATES[version].turn_text(text and text[:max_characters])[:max_characters]

    written = []
    for battle in battles:
        columns = [battle[column] or [None] for column in TURN_COLUMNS]
        if not len(columns[0]) == len(columns[1]) == len(columns[2]):
            raise UserError(
                f"battle {battle.get('id')}: prompt, response_a and response_b have {len(columns[0])}, "
                f"{len(columns[1])} and {len(columns[2])} turns; all must have the same number"
            )
        written.append(tuple(zip(*(map(write, column) for column in columns), strict=True)))
    return written


def most_characters(tokenizer: PreTrainedTokenizerBase, room: int) -> int:
    """Characters of which `room` tokens are certain: a text of many megabytes is not tokenized as a whole."""
    return (max(room, 0) + 1) * _longest_token(tokenizer)


@lru_cache(maxsize=16)
def _longest_token(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(map(len, tokenizer.get_vocab()))


def tokenize_turns(
    battles: list[dict], tokenizer: PreTrainedTokenizerBase, version: str, room: int
) -> list[list[Turn]]:
    """
    Tokenize battles in one call, each text once. Control tokens in texts stay text.

    Args:
        battles (`list[dict]`): As for [`encode_battle`].
        tokenizer (`PreTrainedTokenizerBase`): As loaded by [`load_tokenizer`].
        version (`str`): The version of the prompt: with "lmsys-38th-code" a turn is tokenized as one text,
            with all others texts and headers are tokenized alone.
        room (`int`): Maximum tokens in the turns of an example, beyond which "lmsys-38th-code" tokenizes a turn in
            three parts.

    Returns:
        `list[list[Turn]]`: The turns of each battle.
    """
    max_characters = most_characters(tokenizer, room)
    texts = turn_texts(battles, version, max_characters)
    if version == CODE_VERSION:
        return _tokenize_joined(texts, tokenizer, room)
    unique = list(dict.fromkeys(text for turns in texts for turn in turns for text in turn))
    ids = dict(zip(unique, tokenize(unique, tokenizer), strict=True))

    @cache  # several people vote on the same battle
    def turns_of(turns: tuple[tuple[str, ...], ...]) -> list[Turn]:
        return [
            Turn(header_ids(tokenizer, version, k), [ids[text] for text in turn])
            for k, turn in enumerate(turns, start=1)
        ]

    return list(map(turns_of, texts))


def tokenize(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[np.ndarray]:
    """The token ids of texts of battles, in which control tokens stay text."""
    with SETTING:
        encodings = _backend(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    return [as_array(encoding.ids) for encoding in encodings]


def tokenize_with_offsets(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[Encoding]:
    """The same, with the characters of each token in `offsets`."""
    with SETTING:
        return _backend(tokenizer).encode_batch(texts, add_special_tokens=False)


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """
    The tokenizer that transformers' runs, set as by a call with `split_special_tokens`. Calling it spares the offsets
    and the lists of numbers, a fifth of the time.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


@lru_cache(maxsize=1024)
def header_ids(tokenizer: PreTrainedTokenizerBase, version: str, k: int) -> list[np.ndarray]:
    """The token ids of the headers of turn `k`, counted from 1."""
    return [as_array(token_ids(tokenizer, header)) for header in TEMPLATES[version].turn_headers(k)]


def as_array(ids: list[int]) -> np.ndarray:
    """Token ids as an array, which is joined to others, and written, as a whole and not number by number."""
    return np.array(ids, dtype=np.int32)


def _tokenize_joined(
    texts: list[tuple[tuple[str, ...], ...]], tokenizer: PreTrainedTokenizerBase, room: int
) -> list[list[Turn]]:
    """
    The turns as the reference solution's code tokenizes them: headers and texts as one text, with the empty line
    before the next turn. (No token goes on where that line ends, so that turns can be tokenized one by one.) A turn
    that is too long for any example is three parts instead, each with its heading, which may be truncated, and an
    empty line.
    """
    joined = [[_parts(turn, k < len(turns)) for k, turn in enumerate(turns, start=1)] for turns in texts]
    unique = list(dict.fromkeys(parts for turns in joined for parts in turns))
    encoded = tokenize_with_offsets(["".join(parts) for parts in unique], tokenizer)
    ids = dict(zip(unique, map(_split, unique, encoded), strict=True))
    too_long = [parts for parts, turn in ids.items() if sum(map(len, [*turn.headers, *turn.texts])) > room]
    thirds = ["".join(parts[i : i + 2]).lstrip("\n") for parts in too_long for i in (0, 2, 4)]
    thirds_ids = iter(tokenize(thirds, tokenizer))
    line = as_array(token_ids(tokenizer, "\n\n"))
    ids |= {
        parts: Turn([line[:0], line, line, line], third)
        for parts, *third in zip(too_long, thirds_ids, thirds_ids, thirds_ids, strict=True)
    }
    return [[ids[parts] for parts in turns] for turns in joined]


def _parts(turn: tuple[str, ...], is_followed: bool) -> tuple[str, ...]:
    *headers, last = TEMPLATES[CODE_VERSION].headers
    pairs = zip(headers, turn, strict=True)
    return (*(part for pair in pairs for part in pair), last if is_followed else "")


def _split(parts: tuple[str, ...], encoding: Encoding) -> Turn:
    """A token belongs to the part in which it begins."""
    starts = list(accumulate(map(len, parts[:-1])))
    split: list[list[int]] = [[] for _ in parts]
    for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True):
        split[bisect_right(starts, start)].append(token)
    arrays = list(map(as_array, split))
    return Turn(arrays[0::2], arrays[1::2])
