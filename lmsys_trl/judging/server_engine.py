"""A server with the interface of OpenAI's completions, such as `vllm serve`."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2

from ..errors import UserError
from .loading import JudgeParts

CONCURRENCY, ATTEMPTS = 32, 5  # requests at a time, and tries of each
TIMEOUT = 600  # seconds without an answer, after which a server hangs: it is not asked again
MAX_LOG = 1e-3  # of a log probability: 0, and what rounding adds


class ServerEngine:
    """
    A server with OpenAI's completions, such as `vllm serve`. It must return the letters' log probabilities.

    Args:
        base_url (`str`): Such as `http://localhost:8000/v1`.
        parts (`JudgeParts`): Whose letters are asked for.
        model (`str`): The name under which the server has the judge: of the merged model, or of the adapter.

    Raises:
        UserError: If the server does not answer, or leaves out a letter.
    """

    def __init__(self, base_url: str, parts: JudgeParts, model: str):
        self.name = f"server {model}"
        self._url, self._model = f"{base_url.rstrip('/')}/completions", model
        self._letters = [(letter["id"], letter["letter"]) for letter in parts.settings.letters.values()]
        key = os.environ.get("OPENAI_API_KEY", "")
        if not (key.isascii() and key.isprintable()):
            raise UserError(
                "OPENAI_API_KEY: holds characters that no key has, such as the end of a line. Set it again"
            )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._hangs = threading.Event()  # for the other requests in turn
        self._client = httpx2.Client(headers=headers, timeout=httpx2.Timeout(TIMEOUT, connect=10))

    def log_probabilities(self, examples: list[list[int]]) -> list[list[float]]:
        """Of the letters, after each example."""
        pool = ThreadPoolExecutor(CONCURRENCY)
        try:
            return list(pool.map(self._one, examples))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error nobody waits for the others

    def _one(self, example: list[int]) -> list[float]:
        answer = self._post(
            {
                "model": self._model, "prompt": example, "max_tokens": 1, "temperature": 1.0, "logprobs": 20,
                # vLLM's: exactly these tokens, by their ids. Others ignore it.
                "logprob_token_ids": [token for token, _ in self._letters], "return_tokens_as_token_ids": True,
            }
        )  # fmt: skip
        try:
            known = dict(answer["choices"][0]["logprobs"]["top_logprobs"][0])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"base_url: {self._url} returns no log probabilities: {str(answer)[:200]}") from error
        return list(self._find(known))

    def _find(self, known: dict) -> Iterator[float]:
        for token, letter in self._letters:
            value = known.get(f"token_id:{token}", known.get(letter))
            if value is None:
                raise UserError(
                    f"base_url: {self._url} returns the log probabilities of {len(known)} tokens, and {letter!r} is "
                    "not among them. Use a server with logprob_token_ids, such as vLLM's"
                )
            if not isinstance(value, int | float) or not value <= MAX_LOG:  # nor NaN
                raise UserError(
                    f"base_url: {self._url} returns {str(value)[:60]!r} for {letter!r}, which is no log probability: "
                    "a number of at most 0"
                )
            yield float(value)

    def _post(self, body: dict) -> dict:
        for attempt in range(ATTEMPTS):
            if self._hangs.is_set():
                raise UserError(f"base_url: {self._url} hangs")
            if attempt:
                time.sleep(2 ** (attempt - 1))
            try:
                response = self._client.post(self._url, json=body)
            except httpx2.InvalidURL as error:
                raise UserError(f"base_url: {self._url} is no address: {error}") from error
            except httpx2.ReadTimeout as error:
                self._hangs.set()
                raise UserError(f"base_url: {self._url} has not answered for {TIMEOUT} s: it hangs") from error
            except httpx2.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if response.status_code == 200:
                return self._parse(response)
            problem = f"status {response.status_code}: {response.text[:300]}"
            if response.status_code < 500 and response.status_code != 429:
                break
        raise UserError(f"base_url: {self._url} does not answer: {problem}")

    def _parse(self, response: httpx2.Response) -> dict:
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise UserError(f"base_url: {self._url} returns no JSON: {response.text[:200]!r}") from error
