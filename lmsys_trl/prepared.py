"""A data set made by recipes/prepare.py: loading it, and encoding it through a cache that can't be stale."""

import json
import math
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import datasets
import httpx2
import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, List, Value, load_dataset
from huggingface_hub import DatasetCard, HfApi
from huggingface_hub.errors import HFValidationError
from transformers import PreTrainedTokenizerBase
from yaml import YAMLError

from . import battle, prompts, rows
from .battle import BATTLE_FEATURES, WINNERS, swap_battle
from .rows import battles_to_conversations, encode_battles, rendered_template

_TOKENS = List(Value("int32"))
# What one order of a battle's answers is to the trainer; the other order's names begin with "swapped_".
ORDER_FEATURES = Features({"input_ids": _TOKENS, "labels": _TOKENS, "votes": List(Value("float32"))})
TEACHERS = {"teachers": List(List(Value("float32")))}
_MESSAGES = List({"role": Value("string"), "content": Value("string")})
CONVERSATION_FEATURES = Features(
    {"id": Value("string"), "prompt": _MESSAGES, "completion": _MESSAGES, "num_tokens": Value("int32")}
)


def load_battles(name: str) -> DatasetDict:
    """
    Load a data set.

    Args:
        name (`str`): A folder made by recipes/prepare.py, or the name of one on the Hub.

    Raises:
        ValueError: If there is none, or it is of another kind.
    """
    try:
        battles = load_dataset(name)
    except (OSError, ValueError, HFValidationError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"dataset_name: {name} is no data set, neither a folder nor on the Hub ({reason}). Make it with "
            f"recipes/prepare.py --output_dir {name}"
        ) from error
    missing = sorted(set(BATTLE_FEATURES) - set(battles["train"].column_names if "train" in battles else []))
    if missing:
        raise ValueError(f"dataset_name: {name} has no columns {', '.join(missing)}. Make it with recipes/prepare.py")
    return battles


def dataset_facts(name: str) -> dict:
    """Of a data set as for [`load_battles`] its `id` and `revision` on the Hub and its `license`, None if unknown."""
    facts = dict.fromkeys(("id", "revision", "license"))
    folder = Path(name)
    with suppress(OSError, ValueError, KeyError, YAMLError, httpx2.HTTPError):  # facts are nothing to fail for
        if folder.is_dir():
            facts["license"] = DatasetCard.load(folder / "README.md").data.license
            record = json.loads((folder / "prepare.json").read_text(encoding="utf-8"))
            facts["id"] = record["configuration"].get("push_to_hub")
        else:
            info = HfApi().dataset_info(name)
            facts |= {"id": info.id, "revision": info.sha, "license": info.card_data and info.card_data.license}
    return facts


def data_fingerprint(dataset: Dataset) -> str:
    """A hash of what a data set holds, wherever it lies."""
    digest = sha256()
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
            writer.write_table(table.replace_schema_metadata().combine_chunks())
        digest.update(sink.getvalue())
    return digest.hexdigest()


def encode(battles: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, swap: str = "none") -> Dataset:
    """
    The last row of each battle that has a vote or a teacher, as tokens and labels.

    Args:
        battles (`Dataset`): Rows of [`BATTLE_FEATURES`], with a column of [`join_teachers`] or without.
        tokenizer (`PreTrainedTokenizerBase`): As loaded by [`load_tokenizer`].
        max_length (`int`): Tokens in a row at most.
        swap (`str`): "none"; "all" for each battle and its swapped twin, a row each; or "paired" for both in one row,
            the twin under the same names after "swapped_", so that they stay together.

    Returns:
        `Dataset`: `id`, `input_ids`, `labels` (the letter is that of the most likely winner), `votes` (the share of
        each winner, zeros without a vote), `teachers` (where the battles have them; NaN for unknown ones), and
        `length` in tokens.
    """
    order = Features({**ORDER_FEATURES, **(TEACHERS if "teachers" in battles.column_names else {})})
    features = Features({"id": Value("string"), **order, "length": Value("int32")})
    if swap == "paired":
        features |= {f"swapped_{name}": feature for name, feature in order.items()}
    num_teachers = (
        max((len(triples or ()) for triples in battles["teachers"][:]), default=0) if "teachers" in order else 0
    )

    def encode_batch(batch: dict) -> dict:
        targets = [_with_targets(row, num_teachers) for row in _unbatch(batch)]
        learnable = [row for row in targets if row["winner"] is not None]
        rows = _last_rows(learnable, tokenizer, max_length)
        if swap != "none":
            twins = _last_rows([swap_battle(row) for row in learnable], tokenizer, max_length)
            if swap == "all":
                rows = [either for pair in zip(rows, twins, strict=True) for either in pair]
            else:
                for row, twin in zip(rows, twins, strict=True):
                    row |= {f"swapped_{name}": twin[name] for name in order}
        return _batch(rows, features)

    return _map(battles, encode_batch, features, tokenizer, max_length=max_length, swap=swap)


def _with_targets(battle: dict, num_teachers: int) -> dict:
    """The battle with its vote as shares, and the most likely winner where no vote names one."""
    shares = battle.get("soft_label") or [float(battle["winner"] == winner) for winner in WINNERS]
    teachers = battle.get("teachers")
    winner = battle["winner"]
    if winner is None and (any(shares) or teachers):
        likely = shares if any(shares) else np.mean(teachers, axis=0)
        winner = WINNERS[int(np.argmax(likely))]
    return {**battle, "winner": winner, "soft_label": shares, "teachers": teachers or [[math.nan] * 3] * num_teachers}


def _last_rows(battles: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict]:
    rows = [encoded[-1] for encoded in encode_battles(battles, tokenizer, max_length)]
    return [
        {
            "id": battle["id"],
            **row,
            "votes": battle["soft_label"],
            "teachers": battle["teachers"],
            "length": len(row["input_ids"]),
        }
        for battle, row in zip(battles, rows, strict=True)
    ]


def converse(battles: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, which: str = "last") -> Dataset:
    """
    The rows of battles as prompt-completion conversations for trl's `SFTTrainer`.

    Args:
        battles, tokenizer, max_length: As for [`encode`].
        which (`str`): "last" row of each battle, or "all".
    """

    def convert_batch(batch: dict) -> dict:
        battles = _unbatch(batch)
        converted = zip(battles, battles_to_conversations(battles, tokenizer, max_length), strict=True)
        chosen = slice(-1, None) if which == "last" else slice(None)
        return _batch([{"id": b["id"], **row} for b, rows in converted for row in rows[chosen]], CONVERSATION_FEATURES)

    return _map(battles, convert_batch, CONVERSATION_FEATURES, tokenizer, max_length=max_length, which=which)


def _map(battles: Dataset, function, features: Features, tokenizer: PreTrainedTokenizerBase, **settings) -> Dataset:
    """`Dataset.map`, cached under a fingerprint of all that the rows depend on: data, tokenizer, settings and code."""
    files = [__file__, *(module.__file__ for module in (battle, prompts, rows))]
    code = [Path(file).read_text(encoding="utf-8") for file in files]
    depends_on = [
        data_fingerprint(battles), tokenizer.backend_tokenizer.to_str(), rendered_template(tokenizer),
        tokenizer.eos_token_id, function.__qualname__, settings, code,
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


def _batch(rows: list[dict], features: Features) -> dict:
    return {name: [row[name] for row in rows] for name in features}
