"""`judge.json`: what must be known of an adapter to predict with it as it was trained."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from operator import itemgetter
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..artifacts import read_json, write_json
from ..battle import WINNERS
from ..encoding.examples import letter_ids
from ..encoding.template import LETTERS
from ..encoding.tokenizer import collector_paused, rendered_template
from ..errors import UserError, collect_problems, raise_problems
from .adapter import JUDGE_FILE, resolve_adapter
from .base import architecture, hub_revision, weights_fingerprint
from .head import FROZEN
from .judge_schema import find_problems


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
        tokenizer (`dict`): Fingerprints of `vocabulary`, `template` and `pipeline`.
        precision (`dict`): `dtype`, `autocast` (bool), `attn_implementation` and `quantization` of the training.
        dataset (`dict`): The fingerprint of each split it was trained with.
        votes (`dict`): `id` and `revision` of the data set on the Hub, and its `license`.
        head (`str`): What the letters' logits are computed by: the base model's "lm_head", or three rows that were
            trained with the adapter and began as those of the "letters" or as "new" ones.
        fold (`int`, *optional*): The fold it was not trained on.
        earlier (`list[dict]`): `dataset` and `fold` of the judges that its training started from, one after the other.
        calibration (`dict`): "position", and by order "ab" or "mean": `temperature`, `biases` and what they were
            fitted on.
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
    head: str = FROZEN
    dataset: dict[str, str] = field(default_factory=dict)
    votes: dict = field(default_factory=dict)
    fold: int | None = None
    earlier: list[dict] = field(default_factory=list)
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
        prompt_version: str,
        max_length: int,
        inference_max_length: int,
        temperature: float,
        precision: dict,
        head: str = FROZEN,
    ) -> "JudgeFile":
        """
        Describe a judge before it is trained.

        Args:
            tokenizer (`PreTrainedTokenizerBase`): The one that made the examples.
            base (`Path`): The folder of the base model.
            base_model_id (`str`, *optional*): Its name on the Hub.
            prompt_version, max_length, inference_max_length, temperature, precision, head: As for [`JudgeFile`].
        """
        return cls(
            prompt_version=prompt_version,
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
            head=head,
        )

    @classmethod
    def load(cls, adapter: str | Path) -> "JudgeFile":
        """
        Read the `judge.json` of an adapter, named as for [`resolve_adapter`].

        Raises:
            UserError: If there is none, if it is damaged, or if a key is missing, unknown, or has a value that makes
                no sense. Names all of them and says what to do.
        """
        path = resolve_adapter(adapter) / JUDGE_FILE
        try:
            content = read_json(path)
        except FileNotFoundError:
            raise UserError(
                f"adapter {adapter}: no {JUDGE_FILE}; has its training finished? If it was made elsewhere, "
                "lmsys-trl import makes a judge of it"
            ) from None
        raise_problems([f"adapter {adapter}: {JUDGE_FILE} {problem}" for problem in find_problems(content)])
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
            "head": (self.head, other.head),
            "vocabulary of the tokenizer": (self.tokenizer["vocabulary"][:12], other.tokenizer["vocabulary"][:12]),
            "chat template": (self.tokenizer["template"][:12], other.tokenizer["template"][:12]),
        }
        if self.tokenizer.get("pipeline") and other.tokenizer.get("pipeline"):
            pipelines = (self.tokenizer["pipeline"][:12], other.tokenizer["pipeline"][:12])
            pairs["normalizer, pre-tokenizer or merges"] = pipelines
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
    files: dict[str, JudgeFile] = {}
    problems: list[str] = []
    for adapter in dict.fromkeys(adapters):
        with collect_problems(problems):
            files[adapter] = JudgeFile.load(adapter)
    raise_problems(problems)
    return files


def tokenizer_fingerprints(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """
    Hashes of the vocabulary, of what the chat template puts around a message, and of all that makes tokens of a text:
    normalizer, pre-tokenizer and merges. Judges of version 0.1.0 lack the last one.
    """
    with collector_paused():
        pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
        parts = {
            "vocabulary": json.dumps(sorted(tokenizer.get_vocab().items(), key=itemgetter(0))),
            "template": "".join(rendered_template(tokenizer)),
            "pipeline": json.dumps([pipeline[key] for key in ("normalizer", "pre_tokenizer", "model")]),
        }
    return {name: sha256(part.encode()).hexdigest() for name, part in parts.items()}
