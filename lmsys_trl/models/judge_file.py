"""`judge.json`: what must be known of an adapter to predict with it as it was trained."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..artifacts import write_json
from ..battle import WINNERS
from ..encoding.examples import letter_ids
from ..encoding.template import LETTERS, PROMPT_VERSION
from ..encoding.tokenizer import rendered_template
from ..errors import UserError, raise_problems
from .adapter import JUDGE_FILE, resolve_adapter
from .base import architecture, hub_revision, weights_fingerprint


@dataclass
class JudgeFile:
    """
    The content of `judge.json`.

    Args:
        prompt_version (`str`): The version of the prompt template.
        letters (`dict`): Winner -> `letter` and `id` of its token.
        max_length (`int`), inference_max_length (`int`): Maximum tokens in an example, in training and at prediction.
        temperature (`float`): What the letters' logits are divided by.
        base_model (`dict`): `id` and `revision` on the Hub, `fingerprint` of the weights, `architecture`.
        tokenizer (`dict`): Fingerprints of `vocabulary` and `template`.
        precision (`dict`): `dtype`, `autocast` (bool), `attn_implementation` and `quantization` of the training.
        dataset (`dict`): The fingerprint of each split it was trained with.
        votes (`dict`): `id` and `revision` of the data set on the Hub, and its `license`.
        fold (`int`, *optional*): The fold it was not trained on.
        calibration (`dict`): By order, "ab" or "mean": `temperature`, `biases` and what they were fitted on.
        merged (`list[str]`, *optional*): The adapters it is the average of.
        command (`str`), configuration (`dict`), versions (`dict`): How it was made.
    """

    prompt_version: str
    letters: dict[str, dict]
    max_length: int
    inference_max_length: int
    temperature: float
    base_model: dict
    tokenizer: dict[str, str]
    precision: dict
    dataset: dict[str, str] = field(default_factory=dict)
    votes: dict = field(default_factory=dict)
    fold: int | None = None
    calibration: dict[str, dict] = field(default_factory=dict)
    merged: list[str] | None = None
    command: str | None = None
    configuration: dict = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def describe(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        base: Path,
        base_model_id: str | None,
        max_length: int,
        inference_max_length: int,
        temperature: float,
        precision: dict,
    ) -> "JudgeFile":
        """
        Describe a judge of this version's prompt.

        Args:
            tokenizer (`PreTrainedTokenizerBase`): The one that made the examples.
            base (`Path`): The folder of the base model.
            base_model_id (`str`, *optional*): Its name on the Hub.
            max_length, inference_max_length, temperature, precision: As for [`JudgeFile`].
        """
        return cls(
            prompt_version=PROMPT_VERSION,
            letters={winner: {"letter": LETTERS[winner], "id": i} for winner, i in letter_ids(tokenizer).items()},
            max_length=max_length,
            inference_max_length=inference_max_length,
            temperature=temperature,
            base_model={
                "id": base_model_id,
                "revision": hub_revision(base),
                "fingerprint": weights_fingerprint(base),
                "architecture": architecture(base),
            },
            tokenizer=tokenizer_fingerprints(tokenizer),
            precision=precision,
        )

    @classmethod
    def load(cls, adapter: str | Path) -> "JudgeFile":
        """
        Read the `judge.json` of an adapter, named as for [`resolve_adapter`].

        Raises:
            UserError: If there is none, if it is damaged, or if keys are missing or unknown. Says what to do.
        """
        path = resolve_adapter(adapter) / JUDGE_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"adapter {adapter}: no {JUDGE_FILE}; has its training finished? If it was made elsewhere, "
                "lmsys-trl import makes a judge of it"
            ) from None
        except ValueError as error:
            raise UserError(f"adapter {adapter}: {JUDGE_FILE} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f"adapter {adapter}: {JUDGE_FILE} is damaged: expected a JSON object")
        problems = []
        if missing := [key for key in _required_keys(cls) if not _has(content, key)]:
            problems.append(
                f"adapter {adapter}: {JUDGE_FILE} lacks {', '.join(missing)}. Train it again, or give the adapter to "
                "lmsys-trl import"
            )
        if unknown := content.keys() - {key.name for key in dataclasses.fields(cls)}:
            written_by = (content.get("versions") or {}).get("lmsys-trl", "of another version")
            problems.append(
                f"adapter {adapter}: {JUDGE_FILE} has unknown keys: {', '.join(sorted(unknown))}. Install the "
                f"lmsys-trl that wrote it ({written_by})"
            )
        raise_problems(problems)
        return cls(**content)

    def save(self, folder: Path) -> None:
        """Write `judge.json`, atomically. Its presence says that the training has finished."""
        write_json(folder / JUDGE_FILE, dataclasses.asdict(self))

    @property
    def token_ids(self) -> list[int]:
        """The ids of the letters' tokens, in the order of `WINNERS`."""
        return [self.letters[winner]["id"] for winner in WINNERS]

    def differences(self, other: "JudgeFile") -> list[str]:
        """In what another judge differs that two must share, to start from or to average with it: a line each."""
        pairs = {
            "prompt_version": (self.prompt_version, other.prompt_version),
            "letters": (self._letters, other._letters),
            "vocabulary of the tokenizer": (self.tokenizer["vocabulary"][:12], other.tokenizer["vocabulary"][:12]),
            "chat template": (self.tokenizer["template"][:12], other.tokenizer["template"][:12]),
        }
        lines = [f"{name}: {theirs}, not {ours}" for name, (ours, theirs) in pairs.items() if theirs != ours]
        if other.base_model["fingerprint"] != self.base_model["fingerprint"]:
            lines.append(f"base model: {other._weights}, not {self._weights}")
        return lines

    @property
    def _letters(self) -> str:
        return ", ".join(
            f"{self.letters[winner]['letter']} (token {self.letters[winner]['id']})" for winner in WINNERS
        )

    @property
    def _weights(self) -> str:
        return f"{self.base_model['id'] or 'a local folder'} (weights {self.base_model['fingerprint'][:12]})"


def load_judge_files(adapters: Iterable[str]) -> dict[str, JudgeFile]:
    """
    Read the `judge.json` of several adapters.

    Returns:
        `dict[str, JudgeFile]`: By the adapters' names.

    Raises:
        UserError: With the problems of all adapters.
    """
    files, problems = {}, []
    for adapter in dict.fromkeys(adapters):
        try:
            files[adapter] = JudgeFile.load(adapter)
        except UserError as error:
            problems += error.problems
    raise_problems(problems)
    return files


def _required_keys(cls: type[JudgeFile]) -> list[str]:
    """The keys without a default, and the entries in them that are always read: `base_model.fingerprint`."""
    entries = {
        "letters": [f"{winner}.{entry}" for winner in WINNERS for entry in ("letter", "id")],
        "base_model": ["id", "fingerprint", "architecture"],
        "tokenizer": ["vocabulary", "template"],
        "precision": ["dtype", "autocast", "attn_implementation", "quantization"],
    }
    keys = []
    for key in dataclasses.fields(cls):
        if key.default is key.default_factory is dataclasses.MISSING:
            keys += [f"{key.name}.{entry}" for entry in entries.get(key.name, ())] or [key.name]
    return keys


def _has(content: dict, key: str) -> bool:
    """Whether nested dicts have a key such as `base_model.id`."""
    value: Any = content
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def tokenizer_fingerprints(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Hashes of the vocabulary, and of what the chat template puts around a message."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return {
        "vocabulary": sha256(vocabulary.encode()).hexdigest(),
        "template": sha256("".join(rendered_template(tokenizer)).encode()).hexdigest(),
    }
