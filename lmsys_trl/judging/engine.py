"""Judges whose base model is run by an engine in another process: vLLM, or a server with its interface."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..errors import UserError
from ..models.base import context_length, load_model_config
from ..models.head import FROZEN
from ..models.probes import read_probes
from ..options import EngineConfig
from ..terminal import logger
from .judge import Judge
from .loading import JudgeParts, load_parts
from .predict import PredictionOptions
from .server_engine import ServerEngine
from .vllm_engine import VllmEngine

NUM_AT_ONCE = 256  # examples that an engine gets at a time; it makes batches of them itself


class Engine(Protocol):
    """Computes log probabilities elsewhere."""

    name: str

    def log_probabilities(self, examples: list[list[int]]) -> list[list[float]]:
        """Of the letters, after each example."""
        ...


class EngineJudge(Judge):
    """
    A judge whose base model runs elsewhere: [`Judge`] in all but where it computes.

    Args:
        parts (`JudgeParts`): As from [`load_parts`].
        engine (`Engine`): What computes.
        tolerance (`float`): How far its probabilities on the judge's probes may be from those after training.

    Raises:
        UserError: If they are farther.
    """

    def __init__(self, parts: JudgeParts, engine: Engine, tolerance: float):
        self.tokenizer, self.settings, self.engine = parts.tokenizer, parts.settings, engine
        self.adapter_name = None
        self.identity = {**parts.identity, "precision": {**parts.identity["precision"], "engine": engine.name}}
        self._turn = threading.Lock()
        self._context_length = context_length(load_model_config(parts.base))
        self._compare_probes(parts.adapter, tolerance)

    def letter_logits(
        self, examples: list[np.ndarray], options: PredictionOptions, on_progress: Callable[[float], None]
    ) -> torch.Tensor:
        """The log probabilities of the letters: logits less a constant, which a softmax over the letters ignores."""
        found: list[list[float]] = []
        for start in range(0, len(examples), NUM_AT_ONCE):
            chunk = [example.tolist() for example in examples[start : start + NUM_AT_ONCE]]
            found += self.engine.log_probabilities(chunk)
            on_progress(len(found) / len(examples))
        return torch.tensor(found, dtype=torch.float64).reshape(-1, len(self.settings.token_ids))

    @property
    def context_length(self) -> int | None:
        """How many tokens the base model can read."""
        return self._context_length

    def _compare_probes(self, adapter: Path, tolerance: float) -> None:
        probes = read_probes(adapter)
        if probes is None:
            logger.warning("%s has no probes, so the engine's probabilities are not compared with training's", adapter)
            return
        found = torch.tensor(self.engine.log_probabilities(probes.input_ids)).softmax(-1).numpy()
        difference = float(np.abs(found - np.array(probes.probabilities)).max())
        logger.info("%s: probabilities on the judge's probes differ by %.4f at most", self.engine.name, difference)
        if not difference <= tolerance:
            raise UserError(
                f"engine: on the judge's probes a probability is {difference:.3f} away from what it was after "
                f"training, more than engine_tolerance ({tolerance}). Is it another base model, adapter or data type?"
            )


def check_engine_config(config: EngineConfig, num_processes: int = 1) -> list[str]:
    """Problems with the options of an engine, in one process or several."""
    needed = {"vllm": ("engine_python",), "server": ("base_url", "served_model")}.get(config.engine, ())
    others = {
        "transformers": ("engine_python", "engine_options", "merged_model", "base_url", "served_model"),
        "vllm": ("base_url", "served_model"),
        "server": ("engine_python", "engine_options"),
    }[config.engine]
    problems = [f"{name}: missing, which engine {config.engine} needs" for name in needed if not getattr(config, name)]
    problems += [f"{name}: is not for engine {config.engine}" for name in others if getattr(config, name)]
    if config.base_url and not config.base_url.startswith(("http://", "https://")):
        problems.append(f"base_url: expected an address such as http://localhost:8000/v1, found {config.base_url}")
    if num_processes > 1 and config.engine != "transformers":
        problems.append(
            f"engine: {config.engine} is asked by one process, and there are {num_processes}. Start one, and give "
            "vLLM tensor_parallel_size or data_parallel_size"
        )
    problems += [
        f"engine_options: expected name=value, such as tensor_parallel_size=2, found {option}"
        for option in config.engine_options
        if "=" not in option
    ]
    return problems


def judge_on_engine(
    config: EngineConfig, adapter: str, model_name_or_path: str | None, precision: dict, max_length: int | None
) -> EngineJudge:
    """
    Load a judge whose base model is run by an engine.

    Args:
        config (`EngineConfig`): Which engine, without problems.
        adapter (`str`), model_name_or_path (`str`, *optional*), precision (`dict`): As for [`Judge.from_pretrained`].
        max_length (`int`, *optional*): Maximum tokens in an example. Default: as in `judge.json`.

    Raises:
        UserError: If the engine does not start, cannot load the judge, or computes something else.
    """
    parts = load_parts(adapter, model_name_or_path, precision)
    if parts.settings.head != FROZEN and config.merged_model is None:
        raise UserError(
            f"{adapter}: its head was trained ({parts.settings.head}), which engines do not load with an adapter. "
            f"Export the judge with lmsys-trl merge --adapter {adapter} --output_dir merged, and give --merged_model "
            "merged"
        )
    if config.engine == "server":
        return EngineJudge(
            parts, ServerEngine(str(config.base_url), parts, str(config.served_model)), config.engine_tolerance
        )
    options = {name: _value(value) for name, _, value in (option.partition("=") for option in config.engine_options)}
    length = max_length or parts.settings.inference_max_length
    engine = VllmEngine(str(config.engine_python), parts, config.merged_model, length, options)
    return EngineJudge(parts, engine, config.engine_tolerance)


def _value(text: str):
    """What JSON makes of it, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
