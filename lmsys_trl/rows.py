"""Battle + tokenizer + maximum length -> rows of tokens and labels. The only tokenization in the project."""

from functools import lru_cache
from typing import NamedTuple

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .prompts import INSTRUCTION, LETTERS, OPTIONS, round_scaffold, turn_text

IGNORED = -100  # the label of tokens that are not scored
COLUMNS = ("prompt", "response_a", "response_b")  # the parts of a round, in a row's order


class Part(NamedTuple):
    """A stretch of a row."""

    name: str  # "prompt", "response_a" or "response_b"; "frame" around them; "answer" for the letter and the end token
    round: int | None  # from 1; of the frame where it belongs to a round
    kept: int  # tokens
    whole: int  # tokens before the cut


class Frame(NamedTuple):
    """What stands around the rounds of every row, as token ids."""

    head: list[int]  # what the chat template puts before the message, and the instruction
    tail: list[int]  # the options, and what the chat template puts after the message
    letters: dict[str, int]  # winner -> id of its letter


def load_tokenizer(
    name_or_path: str, pad_token: str | None = None, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """
    Load a tokenizer and check that rows can be built with it.

    Args:
        name_or_path (`str`): A folder or a Hub id.
        pad_token (`str`, *optional*): The token to pad with, where the tokenizer's own is its end token.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        ValueError: With all that [`check_tokenizer`] finds.
    """
    tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision, trust_remote_code=False)
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise ValueError(f"pad_token: {pad_token!r} is not in the vocabulary of {name_or_path}")
        tokenizer.pad_token = pad_token
    check_tokenizer(tokenizer)
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Check what [`encode_battle`] relies on.

    Raises:
        ValueError: If a letter is not one token of its own, or another one in the answer's place, if the template
            doubles the start token, or if padding and the end of the answer are the same token. One message names all.
    """
    name, problems = tokenizer.name_or_path, []
    if not tokenizer.chat_template:
        raise ValueError(f"tokenizer {name}: has no chat template. Use an instruction-tuned model's tokenizer")
    before, after = rendered_template(tokenizer)
    letters = {letter: _ids(tokenizer, letter) for letter in LETTERS.values()}
    if any(len(ids) != 1 for ids in letters.values()) or len({tuple(ids) for ids in letters.values()}) != len(letters):
        problems.append(f"the letters must be single and distinct tokens, but are {letters}")
    elif any(_ids(tokenizer, after + letter) != _ids(tokenizer, after) + ids for letter, ids in letters.items()):
        problems.append("a letter becomes another token in the answer's place, so its probability can't be read there")
    if tokenizer.bos_token_id is not None and _ids(tokenizer, before)[:2] == [tokenizer.bos_token_id] * 2:
        problems.append(f"the chat template starts with two {tokenizer.bos_token}. Use a template with one")
    if tokenizer.eos_token_id is None:
        problems.append("has no end token. Set eos_token in its tokenizer_config.json")
    elif tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        problems.append(
            f"its pad token ({tokenizer.pad_token}) must be another one than its end token ({tokenizer.eos_token}). "
            "Set pad_token in the recipe to a token that texts never use: '<|endoftext|>' for SmolLM2, "
            "'<|finetune_right_pad_id|>' for Llama-3.1"
        )
    if problems:
        raise ValueError("".join(f"tokenizer {name}: {problem}\n" for problem in problems).rstrip())


def encode_battle(battle: dict, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict]:
    """
    Turn a battle into rows of whole rounds, from the last round backwards; what does not fit begins a new row.

    A round that alone is too long stands in a row of its own and is cut: a fifth of the room to the prompt and two
    fifths to each answer; what one part leaves unused goes to the answers that need it, evenly, then to the prompt. A
    part that is cut keeps its beginning. Every person's text is tokenized once and alone, and control tokens in it
    stay text. (The rule is that of the 38th place in LMSYS - Chatbot Arena Human Preference Predictions.)

    Args:
        battle (`dict`): `prompt`, `response_a`, `response_b`: lists with one text or None a turn; `winner`:
            "model_a", "model_b", "tie" or None (may be missing).
        tokenizer (`PreTrainedTokenizerBase`): As loaded by [`load_tokenizer`].
        max_length (`int`): Tokens in a row at most, with template, letter and end token. Rows without a winner leave
            the room of the letter and the end token free, so that training and prediction see the same prompt.

    Returns:
        `list[dict]`: The rows, that of the last round last, each with `input_ids` and `labels` of equal length. The
        labels are -100 but for the letter and the end token; without a winner there is neither, and the row ends
        where the answer begins.

    Raises:
        ValueError: If the turns differ in number, the winner is unknown, or `max_length` leaves no room for the
            fixed parts.
    """
    return encode_battles([battle], tokenizer, max_length)[0]


def encode_battles(battles: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[list[dict]]:
    """The rows of each battle, as from [`encode_battle`]. All texts are tokenized in one call, each of them once."""
    frame = _frame(tokenizer, tokenizer.chat_template)
    encoded = []
    for battle, rounds in zip(battles, _tokenized_rounds(battles, tokenizer), strict=True):
        completion, winner = [], battle.get("winner")
        if winner is not None:
            if winner not in frame.letters:
                expected = ", ".join(frame.letters)
                raise ValueError(f"battle {battle.get('id')}: winner {winner!r} is none of {expected}, and not None")
            completion = [frame.letters[winner], tokenizer.eos_token_id]
        rows = []
        for row in _pack(rounds, tokenizer, max_length):
            row_ids = list(frame.head)
            for k, lengths in row:
                scaffold = _scaffold(tokenizer, k + 1)
                for piece, text, length in zip(scaffold, rounds[k], lengths, strict=False):
                    row_ids += piece
                    row_ids += text if length == len(text) else text[:length]
                row_ids += scaffold[-1]
            row_ids += frame.tail
            rows.append({"input_ids": row_ids + completion, "labels": [IGNORED] * len(row_ids) + completion})
        encoded.append(rows)
    return encoded


def rows_in_parts(battles: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[list[list[Part]]]:
    """What the rows of [`encode_battles`] consist of: for each battle and row the parts in their order."""
    frame = _frame(tokenizer, tokenizer.chat_template)
    divided = []
    for battle, rounds in zip(battles, _tokenized_rounds(battles, tokenizer), strict=True):
        rows = []
        for row in _pack(rounds, tokenizer, max_length):
            parts = [Part("frame", None, len(frame.head), len(frame.head))]
            for k, lengths in row:
                *before, after = map(len, _scaffold(tokenizer, k + 1))
                for piece, name, kept, text in zip(before, COLUMNS, lengths, rounds[k], strict=True):
                    parts += [Part("frame", k + 1, piece, piece), Part(name, k + 1, kept, len(text))]
                parts.append(Part("frame", k + 1, after, after))
            parts.append(Part("frame", None, len(frame.tail), len(frame.tail)))
            if battle.get("winner") is not None:
                parts.append(Part("answer", None, 2, 2))
            rows.append(parts)
        divided.append(rows)
    return divided


def battles_to_conversations(
    battles: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[list[dict]]:
    """
    The rows of [`encode_battle`] in words, as prompt-completion conversations for trl's `SFTTrainer`.

    Returns:
        `list[list[dict]]`: For each battle one conversation a row: `prompt` with the user message, `completion` with
        the letter (empty without a winner), and `num_tokens` of the row with both. A text that was cut in the midst
        of a character keeps that character.
    """
    frame = _frame(tokenizer, tokenizer.chat_template)
    texts = list(dict.fromkeys(text for battle in battles for one_round in _rounds(battle) for text in one_round))
    offsets = dict(zip(texts, _tokenize(texts, tokenizer, return_offsets_mapping=True)["offset_mapping"], strict=True))
    converted = []
    for battle in battles:
        letter = LETTERS.get(battle.get("winner"))
        rounds = _rounds(battle)
        conversations = []
        for row in _pack([[offsets[text] for text in one_round] for one_round in rounds], tokenizer, max_length):
            message, num_tokens = INSTRUCTION, len(frame.head) + len(frame.tail) + 2 * bool(letter)
            for k, lengths in row:
                pieces = round_scaffold(k + 1)
                for piece, text, length in zip(pieces, rounds[k], lengths, strict=False):
                    message += piece + _beginning(text, offsets[text], length)
                message += pieces[-1]
                num_tokens += sum(map(len, _scaffold(tokenizer, k + 1))) + sum(lengths)
            conversations.append(
                {
                    "prompt": [{"role": "user", "content": message + OPTIONS}],
                    "completion": [{"role": "assistant", "content": letter}] if letter else [],
                    "num_tokens": num_tokens,
                }
            )
        converted.append(conversations)
    return converted


def _rounds(battle: dict) -> list[tuple[str, str, str]]:
    turns = [battle[column] or [None] for column in COLUMNS]
    if len({len(column) for column in turns}) > 1:
        raise ValueError(
            f"battle {battle.get('id')}: prompt, response_a and response_b have {len(turns[0])}, {len(turns[1])} and "
            f"{len(turns[2])} turns; they must have as many"
        )
    return [tuple(turn_text(turn) for turn in one_round) for one_round in zip(*turns, strict=True)]


def _tokenized_rounds(battles: list[dict], tokenizer: PreTrainedTokenizerBase) -> list[list[tuple[list[int], ...]]]:
    rounds_of = [_rounds(battle) for battle in battles]
    texts = list(dict.fromkeys(text for rounds in rounds_of for one_round in rounds for text in one_round))
    ids = dict(zip(texts, _tokenize(texts, tokenizer)["input_ids"], strict=True))
    return [[tuple(ids[text] for text in one_round) for one_round in rounds] for rounds in rounds_of]


def _tokenize(texts: list[str], tokenizer: PreTrainedTokenizerBase, **options):
    return tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
        **options,
    )


def _pack(rounds: list[tuple], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[list[tuple]]:
    frame = _frame(tokenizer, tokenizer.chat_template)
    room = max_length - len(frame.head) - len(frame.tail) - 2  # the letter and the end token
    scaffolds = [sum(map(len, _scaffold(tokenizer, k + 1))) for k in range(len(rounds))]
    if scaffolds[-1] > room:
        raise ValueError(
            f"max_length={max_length} is too short: the fixed parts take {max_length - room + scaffolds[-1]}"
        )
    return pack_rounds([tuple(map(len, one_round)) for one_round in rounds], scaffolds, room)


def pack_rounds(lengths: list[tuple[int, int, int]], scaffolds: list[int], room: int) -> list[list[tuple]]:
    """
    Share rounds out over rows, from the last one backwards.

    Args:
        lengths (`list[tuple[int, int, int]]`): Of each round's prompt and answers.
        scaffolds (`list[int]`): What stands around each round.
        room (`int`): The longest row.

    Returns:
        `list[list[tuple]]`: Rows of pairs: the round's place, and how much of its three texts is kept.
    """
    rows, left = [], 0
    for k in range(len(lengths) - 1, -1, -1):
        kept = lengths[k]
        needed = scaffolds[k] + sum(kept)
        if needed > room:
            kept = cut_lengths(*kept, room - scaffolds[k])
            needed = scaffolds[k] + sum(kept)
        if not rows or needed > left:
            rows.insert(0, [])
            left = room
        rows[0].insert(0, (k, kept))
        left -= needed
    return rows


def cut_lengths(prompt: int, response_a: int, response_b: int, room: int) -> tuple[int, int, int]:
    """
    How many tokens a round's parts keep of their lengths, in `room` tokens all together. Exchanging the answers
    exchanges what they keep.
    """
    kept_prompt = min(prompt, room // 5)
    kept_a, kept_b = min(response_a, room * 2 // 5), min(response_b, room * 2 // 5)
    unused = room - kept_prompt - kept_a - kept_b
    need_a, need_b = response_a - kept_a, response_b - kept_b
    more_a = min(need_a, max(unused // 2, unused - need_b))
    more_b = min(need_b, max(unused // 2, unused - need_a))
    more_prompt = min(prompt - kept_prompt, unused - more_a - more_b)
    return kept_prompt + more_prompt, kept_a + more_a, kept_b + more_b


def _beginning(text: str, offsets: list[tuple[int, int]], num_tokens: int) -> str:
    return text if num_tokens == len(offsets) else text[: offsets[num_tokens - 1][1] if num_tokens else 0]


def letter_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Winner -> id of its letter."""
    return _frame(tokenizer, tokenizer.chat_template).letters


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def rendered_template(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What the chat template puts before and after the one user message, as text."""
    marker = "[[message]]"
    # Llama-3.1's template writes the date of today unless it is given one: rows would change from day to day.
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": marker}], tokenize=False, add_generation_prompt=True, date_string="26 Jul 2024"
    )
    if rendered.count(marker) != 1:
        raise ValueError(f"tokenizer {tokenizer.name_or_path}: its chat template does not show a user message once")
    before, after = rendered.split(marker)
    return before, after


@lru_cache(maxsize=16)
def _frame(tokenizer: PreTrainedTokenizerBase, chat_template: str) -> Frame:
    before, after = rendered_template(tokenizer)
    return Frame(
        head=_ids(tokenizer, before) + _ids(tokenizer, INSTRUCTION),
        tail=_ids(tokenizer, OPTIONS) + _ids(tokenizer, after),
        letters={winner: _ids(tokenizer, letter)[0] for winner, letter in LETTERS.items()},
    )


@lru_cache(maxsize=1024)
def _scaffold(tokenizer: PreTrainedTokenizerBase, k: int) -> tuple[list[int], ...]:
    return tuple(_ids(tokenizer, piece) for piece in round_scaffold(k))
