"""vLLM, in a process and an environment of its own."""

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from ..errors import UserError
from ..models.adapter_weights import read_lora_config
from .loading import JudgeParts

WORKER = Path(__file__).with_name("vllm_worker.py")
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM knows
NUM_LOG_LINES = 15


class VllmEngine:
    """
    vLLM in its own environment, in a process that lives as long as this object.

    Args:
        python (`str`): The Python of an environment with vLLM.
        parts (`JudgeParts`): Whose base and adapter are loaded.
        merged_model (`str`, *optional*): A complete model, as `merge` writes it, instead of these two.
        max_length (`int`): Maximum tokens in an example.
        options (`dict`): Further arguments of `vllm.LLM`.

    Raises:
        UserError: If vLLM does not start.
    """

    def __init__(self, python: str, parts: JudgeParts, merged_model: str | None, max_length: int, options: dict):
        rank = read_lora_config(parts.adapter).r
        lora = {"enable_lora": True, "max_lora_rank": next((known for known in RANKS if known >= rank), rank)}
        engine = {
            "model": str(Path(merged_model or parts.base).resolve()),
            "dtype": parts.identity["precision"]["dtype"],
            "max_model_len": max_length + 1,
            "enable_prefix_caching": True,  # both orders begin alike
            **({} if merged_model else lora),
            **options,
        }
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._turn = threading.Lock()
        # Without our packages; and without the worker's folder, whose modules have names that others use.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"PYTHONSAFEPATH": "1", "VLLM_NO_USAGE_STATS": "1"}
        try:
            self._process = subprocess.Popen(
                [python, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
                env=environment,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"engine_python: {python} cannot be run: {error.strerror}") from error
        adapter = None if merged_model else str(parts.adapter.resolve())
        started = self._ask({"engine": engine, "adapter": adapter, "tokens": parts.settings.token_ids})
        self.name = f"vllm {started['version']}"

    def log_probabilities(self, examples: list[list[int]]) -> list[list[float]]:
        """Of the letters, after each example."""
        return self._ask(examples)

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None and self._process.stdin:
            self._process.stdin.close()
            self._process.wait()

    def _ask(self, question):
        assert self._process.stdin and self._process.stdout
        with self._turn:
            try:
                self._process.stdin.write(json.dumps(question) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except (OSError, ValueError):  # it has ended, or was closed
                line = ""
        if not line:
            self._process.wait()
            self._log.seek(0)
            last = "\n    ".join(line.rstrip() for line in self._log.readlines()[-NUM_LOG_LINES:])
            hint = " Install vllm in the environment of engine_python." if "No module named 'vllm'" in last else ""
            raise UserError(
                f"engine vllm ended with {self._process.returncode}.{hint} The last that it said:\n    {last}"
            )
        return json.loads(line)
