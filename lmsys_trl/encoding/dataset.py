"""A data set of battles -> a data set of examples, through a cache that can't be stale."""

import json
import math
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from .. import battle as battle_module
from ..battle import WINNERS, swap_battle
from ..data.columns import TURN_COLUMNS
from ..data.dataset import data_fingerprint
from . import examples as examples_module
from . import template, tokens, turns
from . import tokenizer as tokenizer_module
from .examples import battles_to_conversations, encode_battles
from .template import PROMPT_VERSION
from .tokenizer import pipeline_fingerprint, rendered_template

_TOKENS = List(Value("int32"))
# One order of a battle's answers, as the trainer takes it; the other order's names begin with "swapped_".
ORDER_FEATURES = Features({"input_ids": _TOKENS, "labels": _TOKENS, "votes": List(Value("float32"))})
TEACHER_FEATURES = Features({"teachers": List(List(Value("float32")))})
_MESSAGES = List({"role": Value("string"), "content": Value("string")})
CONVERSATION_FEATURES = Features(
    {"id": Value("string"), "prompt": _MESSAGES, "completion": _MESSAGES, "num_tokens": Value("int32")}
)
_COLUMNS = ("id", *TURN_COLUMNS, "vote", "teachers")  # what examples are made of
# The code and the libraries that examples depend on.
_MODULES = (battle_module, examples_module, template, tokenizer_module, tokens, turns)
_LIBRARIES = ("transformers", "tokenizers")


def encode_dataset(
    battles: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    swap: str = "none",
    prompt_version: str = PROMPT_VERSION,
) -> Dataset:
    """
    The last example of each battle that has a vote or teachers, as tokens and labels.

    Args:
        battles (`Dataset`): Battles with [`BATTLE_SCHEMA`], with or without a column of [`join_teachers`].
        tokenizer (`PreTrainedTokenizerBase`): As loaded by [`load_tokenizer`].
        max_length (`int`): Maximum tokens in an example.
        swap (`str`): "none"; "all" for each battle and its swapped copy, an example each; or "paired" for both in one
            example, the copy under the same names after "swapped_", so that they stay together.
        prompt_version (`str`): As for [`encode_battle`].

    Returns:
        `Dataset`: `id`, `input_ids`, `labels` (the letter is that of the most likely winner), `votes` (the fraction of
        each winner, zeros without a vote), `teachers` (if the battles have them; NaN for unknown ones), and `length`
        in tokens.
    """
    with_teachers = "teachers" in battles.column_names
    order = Features({**ORDER_FEATURES, **(TEACHER_FEATURES if with_teachers else {})})
    features = example_features(order, swap == "paired")
    num_teachers = max((len(triples or ()) for triples in battles["teachers"][:]), default=0) if with_teachers else 0

    def last_examples(labelled: list[dict]) -> list[dict]:
        return _last_examples(labelled, tokenizer, max_length, prompt_version, num_teachers)

    def encode_batch(batch: dict) -> pa.Table:
        learnable = [battle for battle in _unbatch(batch) if battle["vote"] or battle.get("teachers")]
        examples = last_examples(learnable)
        if swap != "none":
            copies = last_examples(list(map(swap_battle, learnable)))
            if swap == "all":
                examples = [example for pair in zip(examples, copies, strict=True) for example in pair]
            else:
                for example, copy in zip(examples, copies, strict=True):
                    example |= {f"swapped_{name}": copy[name] for name in order}
        return _batch(examples, features)

    settings = {"max_length": max_length, "swap": swap, "prompt_version": prompt_version}
    return _map(battles, encode_batch, features, tokenizer, **settings)


def example_features(order: Features, paired: bool) -> Features:
    """The columns of [`encode_dataset`], with those of one order of a battle's answers, or of both."""
    swapped = {f"swapped_{name}": feature for name, feature in order.items()} if paired else {}
    return Features({"id": Value("string"), **order, "length": Value("int32"), **swapped})


def _last_examples(
    battles: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int, prompt_version: str, num_teachers: int
) -> list[dict]:
    """The last example of each battle, with its targets. Without a vote its letter is that of the teachers' mean."""
    labelled = [{**battle, "vote": battle["vote"] or np.mean(battle["teachers"], axis=0)} for battle in battles]
    encoded_battles = encode_battles(labelled, tokenizer, max_length, prompt_version)
    return [
        {
            "id": battle["id"],
            **encoded[-1],
            "votes": battle["vote"] or [0.0] * len(WINNERS),
            "teachers": battle.get("teachers") or [[math.nan] * len(WINNERS)] * num_teachers,
            "length": len(encoded[-1]["input_ids"]),
        }
        for battle, encoded in zip(battles, encoded_battles, strict=True)
    ]


def conversation_dataset(
    battles: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, which: str = "last"
) -> Dataset:
    """
    The examples of battles as prompt-completion conversations for trl's `SFTTrainer`.

    Args:
        battles, tokenizer, max_length: As for [`encode_dataset`].
        which (`str`): The "last" example of each battle, or "all".
    """

    def convert_batch(batch: dict) -> pa.Table:
        rows = _unbatch(batch)
        chosen = slice(-1, None) if which == "last" else slice(None)
        converted = zip(rows, battles_to_conversations(rows, tokenizer, max_length), strict=True)
        return _batch(
            [
                {"id": battle["id"], **conversation}
                for battle, conversations in converted
                for conversation in conversations[chosen]
            ],
            CONVERSATION_FEATURES,
        )

    return _map(battles, convert_batch, CONVERSATION_FEATURES, tokenizer, max_length=max_length, which=which)


def _map(battles: Dataset, function, features: Features, tokenizer: PreTrainedTokenizerBase, **settings) -> Dataset:
    """`Dataset.map`, cached under a fingerprint of all that examples depend on: data, tokenizer, settings and code."""
    battles = battles.select_columns([name for name in battles.column_names if name in _COLUMNS])
    files = [__file__, *(str(module.__file__) for module in _MODULES)]
    depends_on = [
        data_fingerprint(battles), pipeline_fingerprint(tokenizer), rendered_template(tokenizer),
        tokenizer.eos_token_id, function.__qualname__, settings, list(map(version, _LIBRARIES)),
        [Path(file).read_text(encoding="utf-8") for file in files],
    ]  # fmt: skip
    fingerprint = sha256(json.dumps(depends_on).encode()).hexdigest()
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "lmsys_trl"
    folder.mkdir(parents=True, exist_ok=True)
    return battles.map(
        function,
        batched=True,
        remove_columns=battles.column_names,
        features=features,
        cache_file_name=str(folder / f"{fingerprint}.arrow"),
        new_fingerprint=fingerprint,
        load_from_cache_file=True,
        desc="Encoding",
    )


def _unbatch(batch: dict) -> list[dict]:
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def _batch(rows: list[dict], features: Features) -> pa.Table:
    """Rows as columns of known types, which `datasets` would else find out number by number."""
    return pa.Table.from_pydict({name: [row[name] for row in rows] for name in features}, features.arrow_schema)
