"""Settings for requests to the model that gives verdicts."""

import dataclasses
import math
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from jaxsearch.local_paths import cache_folder

# Environment variable with the endpoint's key.
KEY_VARIABLE = "JUDGE_API_KEY"


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerdictSettings:
    """Settings of `jaxsearch judge`; only `model` and `prompt` affect the verdicts.

    Attributes:
      url: OpenAI-compatible endpoint, without chat/completions.
      model: name of the model at the endpoint.
      prompt: file of the prompt; "" for the packaged prompt.
      concurrency: number of requests in progress at once.
      attempts: attempts per request.
      timeout_s: timeout of one attempt, in seconds.
      cache: folder of the cache; None for one in the user's cache folder.
      price: US dollars per million prompt tokens and per million completion tokens;
        None if unknown.

    Raises:
      ValueError: for a value that is malformed or out of range.
    """

    url: str
    model: str
    prompt: str = ""
    concurrency: int = 32
    attempts: int = 5
    timeout_s: float = 60.0
    cache: Path | None = None
    price: tuple[float, float] | None = None

    def __post_init__(self):
        parts = urllib.parse.urlsplit(self.url)
        if parts.username or parts.password or parts.query:
            # The value is not shown, because it may be a key.
            raise ValueError(
                "--judge-url must not contain a key or password; give the key in the "
                f"environment variable {KEY_VARIABLE}"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "--judge-url must be an address such as http://127.0.0.1:8000/v1, got "
                f"{self.url!r:.80}"
            )
        if not self.model:
            raise ValueError("--judge-model is empty; name a model of the endpoint")
        for name in ("concurrency", "attempts"):
            if vars(self)[name] < 1:
                raise ValueError(
                    f"--judge-{name} must be at least 1, got {vars(self)[name]}"
                )
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"--judge-timeout-s must be positive and finite, got {self.timeout_s}"
            )
        if self.price and not all(0 <= usd < math.inf for usd in self.price):
            raise ValueError(
                "--judge-price must be two prices of 0 or more, got "
                f"{self.price[0]} and {self.price[1]}"
            )

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Cost in US dollars; None without a price."""
        if self.price is None:
            return None
        per_prompt, per_completion = self.price
        total = prompt_tokens * per_prompt + completion_tokens * per_completion
        return total / 1e6


def default_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """The default folder of the cache of verdicts."""
    return cache_folder(environ) / "verdicts"
