"""Battle + tokenizer + maximum length -> examples of tokens and labels."""

import math
from itertools import chain
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..battle import WINNERS
from ..data.columns import TURN_COLUMNS
from ..errors import UserError
from .template import LETTERS, PROMPT_VERSION, TEMPLATES
from .tokens import (
    PromptIds,
    Turn,
    as_array,
    header_ids,
    most_characters,
    prompt_ids,
    tokenize_turns,
    tokenize_with_offsets,
    turn_texts,
)
from .turns import Lengths, fit_turns

IGNORED = -100  # the label of tokens that are not scored


class Span(NamedTuple):
    """A part of an example, several tokens in a row."""

    name: str  # "prefix", "header", "prompt", "response_a", "response_b", "suffix" or "answer"
    turn: int | None  # counted from 1; None outside of turns
    kept: int  # tokens in the example
    total: int  # tokens before truncation


def encode_battle(
    battle: dict, tokenizer: PreTrainedTokenizerBase, max_length: int, prompt_version: str = PROMPT_VERSION
) -> list[dict]:
    """
    Encode a battle as examples of complete turns, from the last turn backwards; a turn that does not fit begins a new
    example.

    A turn that is too long for any example gets one of its own and is truncated: a fifth of the room goes to the
    prompt and two fifths to each answer; what one text leaves unused goes to the answers that need it, evenly, then
    to the prompt. A truncated text keeps its beginning. Every text is tokenized once and alone, and control tokens
    in it stay text. This is how the reference solution truncates.

    Args:
        battle (`dict`): `prompt`, `response_a`, `response_b`: lists with one text or None a turn; `vote`: the
            fractions of A, B and tie, or None (may be missing).
        tokenizer (`PreTrainedTokenizerBase`): As loaded by [`load_tokenizer`].
        max_length (`int`): Maximum tokens in an example, with template, letter and end token. Examples without a vote
            leave room for the letter and the end token, so that training and prediction see the same prompt.
        prompt_version (`str`): The version of the prompt, see `template.py`.

    Returns:
        `list[dict]`: The examples, that of the last turn last, each with `input_ids` and `labels` of equal length. All
        labels are -100 except those of the letter, which is that of the most likely winner, and of the end token.
        Without a vote there is neither, and the example ends where the answer begins.

    Raises:
        UserError: If the numbers of turns differ, the vote is not three fractions, or `max_length` leaves no room for
            the template.
    """
    (examples,) = encode_battles([battle], tokenizer, max_length, prompt_version)
    return [{name: example[name].tolist() for name in ("input_ids", "labels")} for example in examples]


def encode_battles(
    battles: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int, prompt_version: str = PROMPT_VERSION
) -> list[list[dict]]:
    """
    The examples of each battle, as from [`encode_battle`], but with arrays, and with what [`text_lengths`] needs. All
    texts are tokenized in one call, each once; battles with the same turns and the same winner share their examples.
    """
    fixed = prompt_ids(tokenizer, prompt_version)
    room, end = _room(fixed, max_length), tokenizer.eos_token_id
    completions = {winner: as_array([letter, end]) for winner, letter in fixed.letters.items()} | {None: as_array([])}
    tokenized = tokenize_turns(battles, tokenizer, prompt_version, room)
    winners = list(map(_likely_winner, battles))
    examples = {}
    for turns, winner in zip(tokenized, winners, strict=True):
        if (id(turns), winner) not in examples:
            examples[id(turns), winner] = _examples(turns, fixed, completions[winner], room, max_length)
    return [examples[id(turns), winner] for turns, winner in zip(tokenized, winners, strict=True)]


def _examples(turns: list[Turn], fixed: PromptIds, completion: np.ndarray, room: int, max_length: int) -> list[dict]:
    examples = []
    for fitted in _fit(turns, room, max_length):
        parts = [fixed.prefix]
        for k, lengths in fitted:
            headers, texts = turns[k]
            for header, text, length in zip(headers, texts, lengths, strict=False):
                parts += header, text[:length]
            parts.append(headers[-1])
        ids = np.concatenate([*parts, fixed.suffix, completion])
        labels = np.full(len(ids), IGNORED, np.int32)
        labels[len(ids) - len(completion) :] = completion
        examples.append({"input_ids": ids, "labels": labels, "of": (turns, fitted)})
    return examples


def text_lengths(example: dict) -> list[int]:
    """
    Of an example of [`encode_battles`]: the tokens of the prompts, and how many it keeps; the same of both answers;
    and the turns not in it. The order is that of [`LENGTH_COLUMNS`].
    """
    turns, fitted = example["of"]
    # Plain sums: arrays of so few numbers take a quarter as long as the tokenizer.
    lengths = zip(*(map(len, turns[k].texts) for k, _ in fitted), strict=True)
    kept = zip(*(kept for _, kept in fitted), strict=True)
    columns = zip(map(sum, lengths), map(sum, kept), strict=True)
    return [*chain.from_iterable(columns), len(turns) - len(fitted)]


def example_spans(
    battles: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int, prompt_version: str = PROMPT_VERSION
) -> list[list[list[Span]]]:
    """The spans of each example of [`encode_battles`], in order, by battle and example."""
    fixed = prompt_ids(tokenizer, prompt_version)
    room = _room(fixed, max_length)
    prefix, suffix = len(fixed.prefix), len(fixed.suffix)
    divided = []
    for battle, turns in zip(battles, tokenize_turns(battles, tokenizer, prompt_version, room), strict=True):
        examples = []
        for fitted in _fit(turns, room, max_length):
            spans = [Span("prefix", None, prefix, prefix)]
            for k, lengths in fitted:
                *before, after = map(len, turns[k].headers)
                for header, name, kept, text in zip(before, TURN_COLUMNS, lengths, turns[k].texts, strict=True):
                    spans += [Span("header", k + 1, header, header), Span(name, k + 1, kept, len(text))]
                spans.append(Span("header", k + 1, after, after))
            spans.append(Span("suffix", None, suffix, suffix))
            if _likely_winner(battle) is not None:
                spans.append(Span("answer", None, 2, 2))
            examples.append(spans)
        divided.append(examples)
    return divided


def battles_to_conversations(
    battles: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[list[dict]]:
    """
    The examples of [`encode_battle`] as text: prompt-completion conversations for trl's `SFTTrainer`.

    Returns:
        `list[list[dict]]`: For each battle one conversation an example: `prompt` with the user message, `completion`
        with the letter (empty without a vote), and `num_tokens` of the example with both. A text that was truncated
        inside a character keeps that character.
    """
    fixed, template = prompt_ids(tokenizer, PROMPT_VERSION), TEMPLATES[PROMPT_VERSION]
    room = _room(fixed, max_length)
    max_characters = most_characters(tokenizer, room)
    written = turn_texts(battles, PROMPT_VERSION, max_characters)
    texts = list(dict.fromkeys(text for turns in written for turn in turns for text in turn))
    encoded = tokenize_with_offsets(texts, tokenizer)
    offsets = {text: encoding.offsets for text, encoding in zip(texts, encoded, strict=True)}
    converted = []
    for battle, turns in zip(battles, written, strict=True):
        winner = _likely_winner(battle)
        letter = None if winner is None else LETTERS[winner]
        tokens = [
            Turn(header_ids(tokenizer, PROMPT_VERSION, k), [offsets[text] for text in turn])
            for k, turn in enumerate(turns, start=1)
        ]
        conversations = []
        for fitted in _fit(tokens, room, max_length):
            message = template.instruction
            num_tokens = len(fixed.prefix) + len(fixed.suffix) + 2 * bool(letter)
            for k, lengths in fitted:
                headers = template.turn_headers(k + 1)
                for header, text, length in zip(headers, turns[k], lengths, strict=False):
                    message += header + _beginning(text, offsets[text], length)
                message += headers[-1]
                num_tokens += sum(map(len, tokens[k].headers)) + sum(lengths)
            conversations.append(
                {
                    "prompt": [{"role": "user", "content": message + template.options}],
                    "completion": [{"role": "assistant", "content": letter}] if letter else [],
                    "num_tokens": num_tokens,
                }
            )
        converted.append(conversations)
    return converted


def letter_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Winner -> id of its letter."""
    return prompt_ids(tokenizer, PROMPT_VERSION).letters


def _likely_winner(battle: dict) -> str | None:
    """The winner with the largest fraction of the vote, the first of several; None without a vote."""
    vote = battle.get("vote")
    if vote is None:
        return None
    is_triple = not isinstance(vote, str) and len(vote) == len(WINNERS)
    if not is_triple or not math.isclose(sum(vote), 1, abs_tol=1e-3) or min(vote) < 0:
        raise UserError(
            f"battle {battle.get('id')}: vote {vote!r}, expected the fractions of {', '.join(WINNERS)}, which sum to 1"
        )
    return WINNERS[list(vote).index(max(vote))]


def _room(fixed: PromptIds, max_length: int) -> int:
    """Maximum tokens in the turns of an example, which leave room for the letter and the end token."""
    return max_length - len(fixed.prefix) - len(fixed.suffix) - 2


def _fit(turns: list[Turn], room: int, max_length: int) -> list[list[tuple[int, Lengths]]]:
    """Tokenized turns -> those of each example, as from [`fit_turns`]."""
    header_lengths = [sum(map(len, turn.headers)) for turn in turns]
    if header_lengths[-1] > room:
        raise UserError(
            f"max_length={max_length} is too short: the fixed parts take {max_length - room + header_lengths[-1]}"
        )
    lengths = [(len(prompt), len(response_a), len(response_b)) for _, (prompt, response_a, response_b) in turns]
    return fit_turns(lengths, header_lengths, room)


def _beginning(text: str, offsets: list[tuple[int, int]], num_tokens: int) -> str:
    return text if num_tokens == len(offsets) else text[: offsets[num_tokens - 1][1] if num_tokens else 0]
