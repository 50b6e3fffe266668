"""Verdicts on a file of predictions: from the record, the cache, or the model."""

import collections
import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.bad_rows import Note, print_note
from jaxsearch.chat import Completion
from jaxsearch.local_paths import check_local
from jaxsearch.remote.connection import UnauthorizedError
from jaxsearch.search.index import RefusedSearchError
from jaxsearch.verdicts.agreement import agreement, cohens_kappa
from jaxsearch.verdicts.cache import VerdictCache, verdict_key
from jaxsearch.verdicts.model import VerdictModel
from jaxsearch.verdicts.predictions import (
    Prediction,
    read_predictions,
    verdicts_in,
)
from jaxsearch.verdicts.prompt import VerdictPrompt, read_prompt
from jaxsearch.verdicts.record import VerdictFile
from jaxsearch.verdicts.settings import VerdictSettings, default_cache
from jaxsearch.verdicts.verdict import VERDICTS, Opinion, Verdict, opinion

# A missing answer is wrong, whatever a model would say.
_NO_PREDICTION = Opinion("wrong", "no prediction")
# After this many refusals without a reply, the endpoint seems to refuse all requests.
_MAX_REFUSED = 5

Progress = Callable[
    [str, int], contextlib.AbstractContextManager[Callable[[int], None]]
]
"""(title, total) -> context of a progress bar, which yields a function that counts."""


class VerdictsError(RuntimeError):
    """Some predictions have no verdict; the message has their number and the reason."""


def verdicts_to(
    out: Path,
    predictions: Path,
    settings: VerdictSettings,
    *,
    agree_with: str = "",
    progress: Progress,
    note: Note = print_note,
) -> dict[str, Any]:
    """Asks a model for verdicts on predictions, and appends them to a file.

    The same call continues from there. Equal requests are sent once, and
    cached verdicts are not requested.

    Args:
      out: file of verdicts, as `VerdictFile` writes it.
      predictions: file of predictions, as `read_predictions` reads it.
      settings: the model, and settings of requests.
      agree_with: field of the file with verdicts to compare with; "" for none.
      progress: shows the number of predictions with a verdict.
      note: receives lines for the user.

    Returns:
      The counts of `_summary`. For this call also `requests`, their tokens, `usd` (None
      without a price), and `cached`, the number of verdicts from the cache.

    Raises:
      ValueError: for bad input, or if the endpoint refuses the key or every request.
      NoReplyError: if it gives no reply for now; earlier verdicts are kept.
      VerdictsError: if it refuses some requests, or no reply has a verdict.
    """
    check_local(predictions, "the file")
    check_local(out, "--out")
    asked = read_predictions(predictions, note)
    theirs = verdicts_in(asked, agree_with, predictions) if agree_with else None
    prompt = read_prompt(settings.prompt)
    keys = {one.line: _key(one, settings.model, prompt) for one in asked}
    cache = VerdictCache(settings.cache or default_cache())
    model = VerdictModel(settings)
    record = VerdictFile(out, settings.model, asked, keys)
    usage = _Usage()
    with contextlib.closing(record), progress("verdicts", len(asked)) as advance:
        advance(len(record.verdicts))

        def add(them: Sequence[Prediction], found: Opinion) -> None:
            for one in them:
                record.add(one, found)
            advance(len(them))

        waiting = collections.defaultdict(list)
        for one in asked:
            if one.line in record.verdicts:
                continue
            if one.prediction:
                waiting[keys[one.line]].append(one)
            else:
                add([one], _NO_PREDICTION)
        for key, found in cache.get(waiting).items():
            usage.cached += len(waiting[key])
            add(waiting.pop(key), found)
        messages = {
            key: prompt.filled(one.question, one.golden_answers, one.prediction)
            for key, (one, *_) in waiting.items()
        }
        for key, reply in _replies(model, messages, settings.concurrency):
            usage.add(reply)
            found = opinion(reply.text)
            if found.verdict is not None:
                cache.put({key: found})
            add(waiting[key], found)
    if not any(record.verdicts.values()):
        raise VerdictsError(
            f"none of {len(asked):,} replies has a verdict; {out} has the replies; try "
            "another model or prompt"
        )
    return _summary(asked, record.verdicts, theirs) | usage.counts(settings)


@dataclasses.dataclass
class _Usage:
    """The usage of a call so far."""

    cached: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, reply: Completion) -> None:
        self.requests += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def counts(self, settings: VerdictSettings) -> dict[str, Any]:
        usd = settings.usd(self.prompt_tokens, self.completion_tokens)
        return dataclasses.asdict(self) | {"usd": usd}


def _key(one: Prediction, model: str, prompt: VerdictPrompt) -> str:
    return verdict_key(
        model, prompt.text, one.question, one.golden_answers, one.prediction
    )


def _replies(
    model: VerdictModel, messages: Mapping[str, str], concurrency: int
) -> Iterator[tuple[str, Completion]]:
    """Yields the model's reply to each message, as they arrive.

    Raises:
      ValueError: if the endpoint refuses the key, or every request.
      NoReplyError: if it gives no reply for now.
      VerdictsError: after all other replies, if it refuses some requests.
    """
    refused: list[str] = []
    num_replies = 0
    with concurrent.futures.ThreadPoolExecutor(concurrency) as threads:
        futures = {
            threads.submit(model.ask, text): key for key, text in messages.items()
        }
        try:
            for future in concurrent.futures.as_completed(futures):
                try:
                    reply = future.result()
                except UnauthorizedError as error:
                    raise ValueError(str(error)) from None
                except RefusedSearchError as error:
                    refused.append(str(error))
                    if not num_replies and len(refused) == _MAX_REFUSED:
                        raise ValueError(refused[0]) from None
                    continue
                num_replies += 1
                yield futures[future], reply
        finally:
            model.stop.set()
            threads.shutdown(wait=False, cancel_futures=True)
    if refused:
        raise VerdictsError(
            f"{len(refused):,} of {len(messages):,} requests were refused: {refused[0]}"
            "; the other verdicts are kept, and the same command retries these"
        )


def _summary(
    asked: Sequence[Prediction],
    verdicts: Mapping[int, Verdict | None],
    theirs: Mapping[int, Verdict] | None,
) -> dict[str, Any]:
    """Counts of verdicts, and their agreement with those in the file.

    Returns:
      `n`, the number of predictions; `correct`, `wrong`, `unclear` and `no_verdict`,
      their numbers; `without_prediction`, the number of missing predictions, which are
      wrong without a request; `accuracy`, the share of `correct` among those with a
      verdict. If the file has verdicts: `agreement` and `kappa` with them, and the
      number of pairs, `compared`.
    """
    counts = collections.Counter(verdicts.values())
    num_given = len(verdicts) - counts[None]
    summary: dict[str, Any] = {
        "n": len(asked),
        **{name: counts[name] for name in VERDICTS},
        "no_verdict": counts[None],
        "without_prediction": sum(not one.prediction for one in asked),
        "accuracy": counts["correct"] / num_given,
    }
    if theirs is not None:
        pairs = [(v, theirs[line]) for line, v in verdicts.items() if v is not None]
        ours, others = zip(*pairs, strict=True)
        summary |= {
            "agreement": agreement(ours, others),
            "kappa": cohens_kappa(ours, others),
            "compared": len(pairs),
        }
    return summary
