"""An adapter that gives probabilities: what `judge.json` says of it, loading it, both orders, temperature."""

import json
import warnings
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import torch
from peft import PeftModel
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .adapters import adapter_folder, read_judge_file
from .base_models import architecture, base_folder, find_base, hub_revision, load_base, weights_fingerprint
from .batching import pad_left, token_batches
from .battle import WINNERS, swap_battle
from .prompts import LETTERS, PROMPT_VERSION
from .rows import encode_battle, letter_ids, load_tokenizer, rendered_template

ORDERS = {"none": ("ab",), "swap": ("ab", "ba", "mean")}  # --tta -> the orders in a predictions file


def describe_judge(
    tokenizer: PreTrainedTokenizerBase,
    base: Path,
    base_model_id: str | None,
    max_length: int,
    inference_max_length: int,
    temperature: float,
    precision: dict,
) -> dict:
    """
    What [`Judge.from_pretrained`] must know of an adapter, for its `judge.json`.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The one that made the rows.
        base (`Path`): The folder of the base model.
        base_model_id (`str`, *optional*): Its name on the Hub.
        max_length (`int`), inference_max_length (`int`): Tokens in a row at most, in training and at prediction.
        temperature (`float`): What the letters' logits are divided by.
        precision (`dict`): `dtype`, `autocast` (bool), `attn_implementation` and `quantization` of the training.
    """
    return {
        "prompt_version": PROMPT_VERSION,
        "letters": {winner: {"letter": LETTERS[winner], "id": i} for winner, i in letter_ids(tokenizer).items()},
        "max_length": max_length,
        "inference_max_length": inference_max_length,
        "temperature": temperature,
        "base_model": {
            "id": base_model_id,
            "revision": hub_revision(base),
            "fingerprint": weights_fingerprint(base),
            "architecture": architecture(base),
        },
        "tokenizer": _tokenizer_fingerprints(tokenizer),
        "precision": precision,
    }


class Judge:
    """
    A trained judge of chat answers.

    Example:

    ```python
    >>> from lmsys_trl import Judge

    >>> judge = Judge.from_pretrained("runs/demo")
    >>> refusal = "I'm sorry, but I can't help with that."
    >>> judge.predict(prompt=["What is 2 + 2?"], response_a=["It is 4."], response_b=[refusal])
    {'winner_model_a': 0.8726186648942842, 'winner_model_b': 0.029178741053617147, 'winner_tie': 0.09820259405209865}
    ```
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: dict):
        self.model, self.tokenizer, self.settings = model.eval(), tokenizer, settings

    @classmethod
    def from_pretrained(cls, adapter: str | Path, model_name_or_path: str | None = None) -> "Judge":
        """
        Load an adapter on its base model.

        The base is taken from `model_name_or_path` if given, else from the folder in `models/` that holds the same
        weights, else from the Hub. Other weights of the same architecture are used with a warning.

        Args:
            adapter (`str` or `Path`): The output folder of `recipes/sft.py`, or another name that [`adapter_folder`]
                knows: `owner/name[@revision]` on the Hub, `file.zip`, `kaggle:owner/name`.
            model_name_or_path (`str`, *optional*): A folder or Hub id of the base model.

        Raises:
            ValueError: If the folder is no judge, or base model, tokenizer or template are not those it learned with.
        """
        adapter = adapter_folder(adapter)
        settings = read_judge_file(adapter)
        if settings["prompt_version"] != PROMPT_VERSION:
            raise ValueError(
                f"{adapter}: trained with prompt version {settings['prompt_version']}, and this is {PROMPT_VERSION}. "
                "Use the version of lmsys-trl that its judge.json names"
            )
        if not (adapter / "adapter_model.safetensors").is_file():
            raise ValueError(f"{adapter}: no adapter_model.safetensors. Pickled adapters are not loaded")
        tokenizer = load_tokenizer(str(adapter))
        _refuse_other(f"the tokenizer in {adapter}", _tokenizer_fingerprints(tokenizer), settings["tokenizer"])
        base = _find_base_of(settings["base_model"], model_name_or_path)
        _refuse_other(f"base model {base}", architecture(base), settings["base_model"]["architecture"])
        if (base / "tokenizer.json").is_file():
            own = load_tokenizer(str(base), pad_token=tokenizer.pad_token)
            _refuse_other(f"the tokenizer of base model {base}", _tokenizer_fingerprints(own), settings["tokenizer"])
        fingerprint = weights_fingerprint(base)
        if fingerprint != settings["base_model"]["fingerprint"]:
            warnings.warn(
                f"{adapter} was trained on other weights: {settings['base_model']['id']} with fingerprint "
                f"{settings['base_model']['fingerprint'][:12]}, and {base} has {fingerprint[:12]}",
                stacklevel=2,
            )
        precision = settings["precision"]
        model = load_base(
            base, precision["dtype"], precision["attn_implementation"], quantization=precision["quantization"]
        )
        model = PeftModel.from_pretrained(model, str(adapter))
        if torch.accelerator.is_available() and not precision["quantization"]:
            model = model.to(torch.accelerator.current_accelerator())
        return cls(model, tokenizer, settings)

    def predict(
        self, prompt: Sequence[str | None], response_a: Sequence[str | None], response_b: Sequence[str | None],
        tta: str = "none",
    ) -> dict[str, float]:  # fmt: skip
        """
        The forecast for one battle.

        Args:
            prompt, response_a, response_b (`Sequence[str]`): One text a turn.
            tta (`str`): "none", or "swap" to average both orders of the answers.

        Returns:
            `dict[str, float]`: `winner_model_a`, `winner_model_b` and `winner_tie`; they sum to 1.
        """
        texts = {"prompt": prompt, "response_a": response_a, "response_b": response_b}
        battle = {"id": None, **{key: [text] if isinstance(text, str) else list(text) for key, text in texts.items()}}
        prediction = self.predict_battles([battle], tta=tta, progress=False)[-1]
        return {f"winner_{winner}": prediction[f"winner_{winner}"] for winner in WINNERS}

    def predict_battles(
        self, battles: list[dict], tta: str = "none", max_tokens_per_batch: int = 4096, progress: bool = True
    ) -> list[dict]:
        """
        Forecasts for many battles: softmax over the letters' logits at the last position of each battle's last row.

        Args:
            battles (`list[dict]`): Rows of [`BATTLE_FEATURES`]; a vote is passed on and not looked at.
            tta (`str`): "none", or "swap" to predict both orders and their average.
            max_tokens_per_batch (`int`): Tokens in a forward pass, with padding.
            progress (`bool`): Show how many of how many, the rate, and the time left.

        Returns:
            `list[dict]`: The rows of a predictions file, battles in the order given: `id`, `order` ("ab" as given,
            "ba" exchanged, "mean" of both; always in terms of the battle as given), `winner_model_a`,
            `winner_model_b`, `winner_tie`, `winner` (the vote), `num_tokens` and `fold` (None).
        """
        if tta not in ORDERS:
            raise ValueError(f"tta={tta!r}: expected one of {', '.join(ORDERS)}")
        unlabelled = [{**battle, "winner": None} for battle in battles]
        if tta == "swap":
            unlabelled += [swap_battle(battle) for battle in unlabelled]
        max_length = self.settings["inference_max_length"]
        rows = [encode_battle(battle, self.tokenizer, max_length)[-1] for battle in unlabelled]
        probabilities = (
            self._letter_logits(rows, max_tokens_per_batch, progress) / self.settings["temperature"]
        ).softmax(-1)
        forecasts = {"ab": probabilities[: len(battles)]}
        if tta == "swap":
            forecasts["ba"] = probabilities[len(battles) :][:, [1, 0, 2]]  # B's chance in its own place
            forecasts["mean"] = (forecasts["ab"] + forecasts["ba"]) / 2
        return [
            {
                "id": battle["id"],
                "order": order,
                **{f"winner_{winner}": p for winner, p in zip(WINNERS, forecasts[order][i].tolist(), strict=True)},
                "winner": battle.get("winner"),
                "num_tokens": len(rows[i]["input_ids"]),
                "fold": None,
            }
            for i, battle in enumerate(battles)
            for order in ORDERS[tta]
        ]

    @torch.inference_mode()
    def _letter_logits(self, rows: list[dict], max_tokens: int, progress: bool) -> torch.Tensor:
        """The logits of A, B and C after each row, of shape `(rows, 3)`, in double precision."""
        letters = [self.settings["letters"][winner]["id"] for winner in WINNERS]
        logits = torch.empty(len(rows), len(letters), dtype=torch.float64)
        device = self.model.device
        with tqdm(total=len(rows), unit="row", desc="Predicting", disable=not progress) as bar:
            for batch in token_batches([len(row["input_ids"]) for row in rows], max_tokens):
                inputs = pad_left([{"input_ids": rows[i]["input_ids"]} for i in batch], self.tokenizer.pad_token_id)
                with torch.autocast(device.type, torch.bfloat16, enabled=self.settings["precision"]["autocast"]):
                    outputs = self.model(
                        **{key: tensor.to(device) for key, tensor in inputs.items()}, logits_to_keep=1, use_cache=False
                    )
                logits[batch] = outputs.logits[:, -1, letters].double().cpu()
                bar.update(len(batch))
        return logits


def _find_base_of(base_model: dict, model_name_or_path: str | None) -> Path:
    if model_name_or_path is not None:
        return base_folder(model_name_or_path)
    folder = find_base(base_model["fingerprint"])
    if folder is None and base_model["id"] is None:
        raise ValueError(
            f"no folder in models/ has the base model's weights (fingerprint {base_model['fingerprint'][:12]}), and "
            "its Hub id is not known. Name it with --model_name_or_path"
        )
    return folder or base_folder(base_model["id"], base_model.get("revision"))


def _tokenizer_fingerprints(tokenizer: PreTrainedTokenizerBase) -> dict:
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return {
        "vocabulary": sha256(vocabulary.encode()).hexdigest(),
        "template": sha256("".join(rendered_template(tokenizer)).encode()).hexdigest(),
    }


def _refuse_other(what: str, found: dict, expected: dict) -> None:
    differences = [f"{key} {found[key]} instead of {expected[key]}" for key in expected if found[key] != expected[key]]
    if differences:
        raise ValueError(f"{what} is not the one that the judge was trained with: {'; '.join(differences)}")
