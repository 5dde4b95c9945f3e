"""An adapter that gives probabilities: what `judge.json` says of it, loading it, both orders, temperature."""

import json
import warnings
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .adapters import adapter_folder, read_judge_file
from .base_models import architecture, base_folder, find_base, hub_revision, load_base, weights_fingerprint
from .battle import WINNERS
from .forecasts import battle_forecasts, in_all_orders, shown_rows
from .inference import letter_logits, put_on
from .orders import parse_tta, second_order
from .parts import Parts
from .predictions import PROBABILITIES, predictions_table
from .prepared import data_fingerprint
from .prompts import LETTERS, PROMPT_VERSION
from .provenance import file_fingerprint
from .rows import letter_ids, load_tokenizer, rendered_template

NEEDED = ("id", "prompt", "response_a", "response_b")
PROGRESS = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}, ends {eta:%b %d %H:%M}]"


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
    {'winner_model_a': 0.8576288265681818, 'winner_model_b': 0.06220305445768161, 'winner_tie': 0.08016811897413664}
    ```
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: dict,
        adapter_name: str | None = None,
        identity: dict | None = None,
    ):
        self.model, self.tokenizer, self.settings = model.eval(), tokenizer, settings
        self.adapter_name = adapter_name  # None: the model has no other adapter
        self.identity = identity or {}  # fingerprints of adapter and base, and the precision

    @classmethod
    def from_pretrained(
        cls,
        adapter: str | Path,
        model_name_or_path: str | None = None,
        precision: dict | None = None,
        beside: "Judge | None" = None,
    ) -> "Judge":
        """
        Load an adapter on its base model.

        The base is taken from `model_name_or_path` if given, else from the folder in `models/` that holds the same
        weights, else from the Hub. Other weights of the same architecture are used with a warning.

        Args:
            adapter (`str` or `Path`): The output folder of `recipes/sft.py`, or another name that [`adapter_folder`]
                knows: `owner/name[@revision]` on the Hub, `file.zip`, `kaggle:owner/name`.
            model_name_or_path (`str`, *optional*): A folder or Hub id of the base model.
            precision (`dict`, *optional*): What differs from the training: `dtype`, `autocast`, `quantization` (the
                arguments of `BitsAndBytesConfig`, or None), `attn_implementation`. A judge that was trained with eager
                attention, as suits a backward pass on a CPU, uses sdpa unless told, where its model can.
            beside (`Judge`, *optional*): A judge on the same base model in the same precision. The adapter is put on
                that one's loaded base, and nothing is loaded again.

        Raises:
            ValueError: If the folder is no judge, or base model, tokenizer or template are not those it learned with,
                or if `beside` has another base.
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
        base = find_base_of(settings["base_model"], model_name_or_path)
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
        trained_with = settings["precision"]
        if trained_with["attn_implementation"] == "eager":
            trained_with = {**trained_with, "attn_implementation": None}
        precision = {**trained_with, **(precision or {})}
        identity = {
            "adapter": file_fingerprint(adapter / "adapter_model.safetensors"),
            "adapter_config": file_fingerprint(adapter / "adapter_config.json"),
            "base": fingerprint,
            "precision": precision,
        }
        if beside is not None:
            if any(beside.identity[key] != identity[key] for key in ("base", "precision")):
                raise ValueError(f"{adapter}: its base model or precision is not that of the judge beside it")
            name = f"judge{len(beside.model.peft_config)}"
            beside.model.load_adapter(str(adapter), adapter_name=name)
            return cls(beside.model, tokenizer, settings, name, identity)
        try:
            model = load_base(
                base, precision["dtype"], precision["attn_implementation"], quantization=precision["quantization"]
            )
        except (ImportError, ValueError) as error:  # such as flash attention where there is none
            raise ValueError(f"base model {base} cannot be loaded with {precision}: {error}") from error
        model = PeftModel.from_pretrained(model, str(adapter))
        if torch.accelerator.is_available() and not precision["quantization"]:
            model = model.to(torch.accelerator.current_accelerator())
        return cls(model, tokenizer, settings, model.active_adapter, identity)

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
        return self.predict_dataset([battle], tta=tta, progress=False)[PROBABILITIES].iloc[-1].to_dict()

    def predict_battles(self, battles: list[dict], **options) -> list[dict]:
        """The table of [`~Judge.predict_dataset`] as a list of rows, with None for what is missing."""
        table = self.predict_dataset(battles, **options).astype(object)
        return table.where(table.notna(), None).to_dict("records")

    def predict_dataset(
        self,
        battles: Dataset | list[dict],
        tta: str | np.ndarray = "none",
        rows: str = "last",
        max_length: int | None = None,
        max_tokens_per_batch: int | None = None,
        calibrated: bool = True,
        parts: Path | None = None,
        battles_per_part: int = 512,
        processes: PartialState | None = None,
        progress: bool = True,
    ) -> pd.DataFrame:
        """
        Forecasts for many battles: softmax over the letters' logits at the last position of a battle's row, at the
        judge's temperature, calibrated if it has a calibration.

        Battles are taken in stretches. Within one, rows are sorted by length and batched by tokens, so memory does not
        grow with the number of battles beyond that of the table, and of `battles` if it is a list.

        A calibration is fitted on whole forecasts of one kind. That of one order is applied to the letters as they
        were shown, so to "ab" and, before it is turned back, to "ba"; that of both orders to the average of the two
        without calibration.

        Args:
            battles (`Dataset` or `list[dict]`): Rows of [`BATTLE_FEATURES`], of which `id`, `prompt`, `response_a`
                and `response_b` are needed. A vote is passed on and not looked at.
            tta (`str` or `ndarray`): "none"; "swap" to predict both orders and their average; "uncertain:SHARE" or
                "longest:SHARE" to give the second order to some, see [`second_order`]; or a truth value for each
                battle, whether it gets one.
            rows (`str`): "last" row of each battle, or "all" to average over its rows.
            max_length (`int`, *optional*): Tokens in a row at most (`inference_max_length` of `judge.json`).
            max_tokens_per_batch (`int`, *optional*): Tokens in a forward pass, with padding (4096; on a CPU 512, which
                gains little from several rows at once and pays for their padding).
            calibrated (`bool`): Use the calibration that recipes/calibrate.py stored, if it did.
            parts (`Path`, *optional*): A folder for the forecasts as they come. A call that was killed and is made
                again goes on after what is there, in whatever number of processes. Needs a `Dataset`.
            battles_per_part (`int`): Battles in a stretch, for each process.
            processes (`PartialState`, *optional*): All of them make this call, share the work, and get the table.
            progress (`bool`): Show how many of how many, the rate, and when it ends.

        Returns:
            `DataFrame`: The columns of a predictions file, battles in the order given: `id`, `order` ("ab" as given,
            "ba" exchanged, "mean" of both; always in terms of the battle as given), `winner_model_a`,
            `winner_model_b`, `winner_tie`, `winner` (the vote), `num_tokens` of what was read in the order given,
            `fold`, and `group` (a hash of the first prompt unless the battle has one). With any `tta` but "none"
            each battle has a "mean", which is "ab" where there is no second order. `attrs["judge"]` says by whom.

        Raises:
            ValueError: If an argument is none of the above, `max_length` is longer than the model's context, `parts`
                are those of something else, or a forecast is not a number.
        """
        if isinstance(tta, str):
            parse_tta(tta)
        if rows not in ("last", "all"):
            raise ValueError(f"rows: {rows!r} is none of last, all")
        columns = battles.column_names if isinstance(battles, Dataset) else next(iter(battles), NEEDED)
        missing = [name for name in NEEDED if name not in columns]
        if missing:
            raise ValueError(f"battles: no {', '.join(missing)}. recipes/predict.py reads files of other formats")
        max_length = self._checked_length(max_length)
        temperature = self.settings["temperature"]
        record = {**self.identity, "temperature": temperature, "max_length": max_length, "rows": rows}
        in_parts = Parts(parts, {**record, "data": data_fingerprint(battles)} if parts else {}, processes)
        num_processes = processes.num_processes if processes else 1
        letters = [self.settings["letters"][winner]["id"] for winner in WINNERS]
        precision = self.identity.get("precision", self.settings["precision"])
        if self.adapter_name is not None:
            put_on(self.model, self.adapter_name)

        def forecast(order: str, places: np.ndarray) -> pd.DataFrame | None:
            left = in_parts.missing(order, places)
            with tqdm(
                total=len(places), initial=len(places) - len(left), unit=" battles", desc=f"Predicting {order}",
                disable=not progress or not len(places) or (processes is not None and not processes.is_main_process),
                smoothing=0, bar_format=PROGRESS,
            ) as bar:  # fmt: skip
                for start in range(0, len(left), battles_per_part * num_processes):
                    stretch = left[start : start + battles_per_part * num_processes]
                    shown = [battles[int(place)] for place in stretch]
                    inputs, owners = shown_rows(shown, order, self.tokenizer, max_length, rows)
                    logits = letter_logits(
                        self.model, inputs, letters, self.tokenizer.pad_token_id, precision["autocast"],
                        max_tokens_per_batch, processes, partial(_advance, bar, bar.n, len(shown)),
                    )  # fmt: skip
                    table = battle_forecasts(shown, order, logits / temperature, owners)
                    num_tokens = np.bincount(owners, [len(ids) for ids in inputs]).astype(int)
                    in_parts.add(order, table.assign(num_tokens=num_tokens, place=stretch))
            return in_parts.table(order, places)

        given = forecast("ab", np.arange(len(battles)))
        if given is None:
            return predictions_table([])
        if isinstance(tta, str):
            ids = given["id"].fillna("").to_numpy(dtype=str)
            chosen = second_order(tta, given[PROBABILITIES].to_numpy(), given["num_tokens"].to_numpy(), ids)
        else:
            chosen = tta
        exchanged = forecast("ba", np.flatnonzero(chosen))
        calibrations = self.settings.get("calibration", {}) if calibrated else {}
        with_mean = not isinstance(tta, str) or tta != "none"
        predictions = in_all_orders(given, exchanged, calibrations, with_mean)
        predictions.attrs["judge"] = {**record, "calibrated": bool(calibrations)}
        return predictions

    def _checked_length(self, max_length: int | None) -> int:
        max_length = max_length or self.settings["inference_max_length"]
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if context is not None and max_length > context:
            raise ValueError(
                f"max_length: rows of {max_length} tokens are longer than the {context} that the base model can read. "
                f"Give {context} or less"
            )
        return max_length


def _advance(bar: tqdm, start: int, num_battles: int, share: float) -> None:
    bar.update(start + int(share * num_battles) - bar.n)


def find_base_of(base_model: dict, model_name_or_path: str | None = None) -> Path:
    """The folder of the base model that `judge.json` describes, or of the one that is named."""
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
