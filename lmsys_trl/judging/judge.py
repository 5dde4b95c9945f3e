"""An adapter that gives probabilities: loading it on its base model, and asking it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.dataset import data_fingerprint
from ..errors import UserError
from ..models.adapter_weights import attach_adapter
from ..models.base import context_length, load_base
from ..models.head import FROZEN, install_head, keep_letters
from ..models.judge_file import JudgeFile
from ..predictions.features import feature_matrix
from ..predictions.table import LENGTH_COLUMNS, PROBABILITIES, predictions_table, warn_of_emptied
from ..predictions.tta import select_second_order
from .battles import as_battle, as_battles
from .both_orders import combine_orders
from .compare import compare_answers
from .forward import activate_adapter, letter_logits
from .loading import load_parts
from .predict import PredictionOptions, predict_order
from .rank import Method, rank_candidates
from .resume import Shards

Texts: TypeAlias = str | Sequence[str | None] | None
Battles: TypeAlias = Dataset | pd.DataFrame | list[dict]


class Judge:
    """
    A trained judge of chat answers.

    Example:

    ```python
    >>> from lmsys_trl import Judge

    >>> judge = Judge.from_pretrained("runs/demo")
    >>> refusal = "I'm sorry, but I can't help with that."
    >>> judge.predict(prompt=["What is 2 + 2?"], response_a=["It is 4."], response_b=[refusal])
    {'winner_model_a': 0.8839520398142253, 'winner_model_b': 0.03959074992332453, 'winner_tie': 0.0764572102624503}
    ```
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: JudgeFile,
        adapter_name: str | None = None,
        identity: dict | None = None,
    ):
        self.model, self.tokenizer, self.settings = model.eval(), tokenizer, settings
        self.adapter_name = adapter_name  # None: the model has no adapter
        self.identity = identity or {}  # fingerprints of adapter and base, and the precision
        keep_letters(model, settings.token_ids)
        if adapter_name is not None:
            activate_adapter(model, adapter_name)
        # Judges that share a model activate their adapters in turn; one that has a model of its own needs no turns.
        self._turn = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        adapter: str | Path,
        model_name_or_path: str | None = None,
        precision: dict | None = None,
        share_base_with: "Judge | None" = None,
    ) -> "Judge":
        """
        Load an adapter on its base model.

        The base is taken from `model_name_or_path` if given, else from the folder in `models/` that holds the same
        weights, else from the Hub. Other weights of the same architecture are used with a warning.

        Args:
            adapter (`str` or `Path`): The output folder of `lmsys-trl sft`, or another name that [`resolve_adapter`]
                knows: `owner/name[@revision]` on the Hub, `file.zip`, `kaggle:owner/name`.
            model_name_or_path (`str`, *optional*): A folder or Hub id of the base model.
            precision (`dict`, *optional*): What differs from training: `dtype`, `autocast`, `quantization` (the
                arguments of `BitsAndBytesConfig`, or None), `attn_implementation`. A judge that was trained with eager
                attention, as suits a backward pass on a CPU, uses sdpa by default, where its model can.
            share_base_with (`Judge`, *optional*): A judge on the same base model in the same precision. The adapter
                is added to that one's loaded base, and nothing is loaded again.

        Raises:
            UserError: If the folder is not a judge, if base model, tokenizer or template are not those it learned
                with, or if `share_base_with` has another base.
        """
        adapter, settings, tokenizer, base, identity = load_parts(adapter, model_name_or_path, precision)
        precision = identity["precision"]
        if share_base_with is not None:
            if any(share_base_with.identity[key] != identity[key] for key in ("base", "precision")):
                raise UserError(f"{adapter}: its base model or precision is not that of the judge to share with")
            if {share_base_with.settings.head, settings.head} != {FROZEN}:
                raise UserError(f"{adapter}: a judge with a trained head shares no base model")
            name = f"judge{len(share_base_with.model.peft_config)}"
            with share_base_with._turn:
                attach_adapter(share_base_with.model, adapter, name)
                judge = cls(share_base_with.model, tokenizer, settings, name, identity)
            judge._turn = share_base_with._turn
            return judge
        try:
            model = load_base(
                base, precision["dtype"], precision["attn_implementation"], quantization=precision["quantization"]
            )
        except (AttributeError, ImportError, ValueError) as error:  # a dtype or flash attention that is not there
            raise UserError(f"base model {base} cannot be loaded with {precision}: {error}") from error
        install_head(model, settings.head, settings.token_ids)
        model = attach_adapter(model, adapter)
        if torch.accelerator.is_available() and not precision["quantization"]:
            model = model.to(torch.accelerator.current_accelerator())
        return cls(model, tokenizer, settings, model.active_adapter, identity)

    @property
    def precision(self) -> dict:
        """The precision in which the judge computes."""
        return self.identity.get("precision", self.settings.precision)

    def predict(self, prompt: Texts, response_a: Texts, response_b: Texts, tta: str = "none") -> dict[str, float]:
        """
        Predict the vote on one battle.

        Args:
            prompt, response_a, response_b (`str` or `Sequence[str]`): A text, or one for each turn.
            tta (`str`): "none", or "swap" to average both orders of the answers.

        Returns:
            `dict[str, float]`: `winner_model_a`, `winner_model_b` and `winner_tie`; they sum to 1.
        """
        battle = {"id": None, "prompt": prompt, "response_a": response_a, "response_b": response_b}
        return self.predict_dataset([battle], tta=tta)[PROBABILITIES].iloc[-1].to_dict()

    def compare(self, prompt: Texts, response_a: Texts, response_b: Texts) -> dict:
        """Compare two answers in both orders, with what was not read of them: see [`compare_answers`]."""
        return compare_answers(self, prompt, response_a, response_b)

    def rank(self, prompt: Texts, responses: Sequence[Texts], method: Method = "round_robin") -> dict:
        """Rank several answers to a prompt: `ranking`, best first, and `scores`, see [`rank_candidates`]."""
        candidates = responses if isinstance(responses, str) else list(responses)  # a text is refused
        return rank_candidates(self, [{"prompt": prompt, "responses": candidates}], method)[0]

    def predict_battles(self, battles: Battles, **options) -> list[dict]:
        """The table of [`~Judge.predict_dataset`] as a list of rows, with None for what is missing."""
        table = self.predict_dataset(battles, **options).astype(object)
        return table.where(table.notna(), None).to_dict("records")

    def predict_dataset(self, battles: Battles, **options) -> pd.DataFrame:
        """
        Predict the votes on many battles: softmax over the letters' logits at the last position of a battle's
        example, at the judge's temperature, calibrated if it has a calibration.

        Battles are predicted in shards. Within one, examples are sorted by length and batched by tokens, so memory
        does not grow with the number of battles beyond that of the table, and of `battles` if it is a list.

        A calibration is fitted on predictions of one kind. That of one order is applied to the letters as they were
        shown, so to "ab" and, before it is swapped back, to "ba"; that of both orders to the uncalibrated mean.

        Args:
            battles (`Dataset`, `DataFrame` or `list[dict]`): Battles, of which `id`, `prompt`, `response_a` and
                `response_b` are needed: a text each, or a list with one a turn. A `vote` is passed on.
            options: The fields of [`PredictionOptions`].

        Returns:
            `DataFrame`: The columns of a predictions file, battles in the order given: `id`, `order` ("ab" as given,
            "ba" swapped, "mean" of both; always in terms of the battle as given), `winner_model_a`, `winner_model_b`,
            `winner_tie`, `model_a`, `model_b`, `winner` (the vote), `num_tokens` of what was read in the order given,
            `fold`, and `group`.
            With any `tta` except "none" each battle has a "mean", which is "ab" where there is no second order.
            `attrs["judge"]` says by whom.

        Raises:
            UserError: If a battle or an option is invalid, the shards are those of something else, or a prediction is
                not a number.
        """
        chosen = PredictionOptions(**options)
        battles = as_battles(battles)
        if chosen.folder and not isinstance(battles, Dataset):
            raise UserError("folder: shards are saved for a Dataset only. Make one with Dataset.from_list(battles)")
        chosen.max_length = self._checked_length(chosen.max_length)
        record = {
            **self.identity,
            "temperature": self.settings.temperature,
            "max_length": chosen.max_length,
            "examples": chosen.examples,
        }
        read = {name: getattr(self.settings, name) for name in ("prompt_version", "letters", "tokenizer")}
        data = {"data": data_fingerprint(battles)} if isinstance(battles, Dataset) and chosen.folder else {}
        shards = Shards(chosen.folder, {**record, **read, **data}, chosen.processes)
        with self._active():
            return self._predict(battles, record, shards, chosen)

    @contextmanager
    def _active(self) -> Iterator[None]:
        """Within, the model computes with this judge's adapter, whichever judges and threads share it."""
        if self.adapter_name is None or len(self.model.peft_config) == 1:
            yield
            return
        with self._turn:
            activate_adapter(self.model, self.adapter_name)
            yield

    def _predict(
        self, battles: Dataset | list[dict], record: dict, shards: Shards, chosen: PredictionOptions
    ) -> pd.DataFrame:
        as_given = predict_order(self, battles, "ab", np.arange(len(battles)), shards, chosen)
        if as_given is None:
            return predictions_table([])
        warn_of_emptied(as_given)
        if not chosen.with_lengths:
            as_given = as_given.drop(columns=LENGTH_COLUMNS, errors="ignore")
        if isinstance(chosen.tta, str):
            ids = as_given["id"].fillna("").to_numpy(dtype=str)
            probabilities, num_tokens = as_given[PROBABILITIES].to_numpy(), as_given["num_tokens"].to_numpy()
            second = select_second_order(chosen.tta, probabilities, num_tokens, ids)
        else:
            second = np.asarray(chosen.tta)
            if len(second) != len(battles):
                raise UserError(f"tta: a mask of {len(second)} for {len(battles)} battles")
        swapped = predict_order(self, battles, "ba", np.flatnonzero(second), shards, chosen)
        calibrations = self.settings.calibration if chosen.calibrated else {}
        with_mean = not isinstance(chosen.tta, str) or chosen.tta != "none"
        with_style = any(calibration.get("style") for calibration in calibrations.values())
        features = feature_matrix(map(as_battle, battles)) if with_style else np.empty((len(battles), 0))
        predictions = combine_orders(as_given, swapped, calibrations, with_mean, features)
        predictions.attrs["judge"] = {**record, "calibrated": bool(calibrations)}
        return predictions

    def letter_logits(
        self, examples: list[np.ndarray], options: PredictionOptions, on_progress: Callable[[float], None]
    ) -> torch.Tensor:
        """The logits of the letters after each example: see [`letter_logits`]."""
        return letter_logits(
            self.model,
            examples,
            self.settings.token_ids,
            self.tokenizer.pad_token_id,
            self.precision["autocast"],
            options.max_tokens_per_batch,
            options.processes,
            on_progress,
        )

    @property
    def context_length(self) -> int | None:
        """How many tokens the base model can read."""
        return context_length(self.model.config)

    def _checked_length(self, max_length: int | None) -> int:
        max_length = self.settings.inference_max_length if max_length is None else max_length
        context = self.context_length
        if context is not None and max_length > context:
            raise UserError(
                f"max_length: examples of {max_length} tokens are longer than the {context} that the base model can "
                f"read. Give {context} or less"
            )
        return max_length
