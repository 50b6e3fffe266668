"""Verdicts on a file of predictions: from the record, the cache, or the model."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from jaxsearch.bad_rows import Note, print_note
from jaxsearch.chat import Completion
from jaxsearch.local_paths import check_local
from jaxsearch.verdicts.agreement import agreement, cohens_kappa
from jaxsearch.verdicts.cache import VerdictCache, verdict_key
from jaxsearch.verdicts.model import VerdictModel
from jaxsearch.verdicts.predictions import (
    Prediction,
    read_predictions,
    verdicts_in,
)
from jaxsearch.verdicts.prompt import read_prompt
from jaxsearch.verdicts.record import VerdictFile
from jaxsearch.verdicts.replies import VerdictsError, replies
from jaxsearch.verdicts.settings import VerdictSettings, default_cache
from jaxsearch.verdicts.verdict import VERDICTS, Opinion, Verdict, opinion

# A missing answer is wrong, whatever a model would say.
_NO_PREDICTION = Opinion("wrong", "no prediction")

Progress = Callable[
    [str, int], contextlib.AbstractContextManager[Callable[[int], None]]
]
"""(title, total) -> context of a progress bar, which yields a function that counts."""


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
      TryAgainError: if another process writes to the same file.
      VerdictsError: if it refuses some requests, or no reply has a verdict.
    """
    check_local(predictions, "the file")
    check_local(out, "--out")
    asked = read_predictions(predictions, note)
    theirs = verdicts_in(asked, agree_with, predictions) if agree_with else None
    requests = _Requests(asked, settings)
    record = VerdictFile(out, settings.model, asked, requests.keys)
    opinions = requests.opinions(frozenset(record.verdicts))
    with (
        contextlib.closing(record),
        contextlib.closing(opinions),
        progress("verdicts", len(asked)) as advance,
    ):
        advance(len(record.verdicts))
        for them, found in opinions:
            for one in them:
                record.add(one, found)
            advance(len(them))
    if not any(record.verdicts.values()):
        raise VerdictsError(
            f"none of {len(asked):,} replies has a verdict; {out} has the replies; try "
            "another model or prompt"
        )
    return _summary(asked, record.verdicts, theirs) | requests.usage.counts(settings)


class _Requests:
    """The requests for verdicts on predictions.

    Args:
      asked: the predictions.
      settings: the model, and settings of requests.

    Attributes:
      keys: the key of each prediction, by line number.
      usage: the usage so far.
    """

    def __init__(self, asked: Sequence[Prediction], settings: VerdictSettings):
        self._asked = asked
        self._settings = settings
        self._prompt = read_prompt(settings.prompt)
        self._cache = VerdictCache(settings.cache or default_cache())
        self._model = VerdictModel(settings)
        self.usage = _Usage()
        self.keys = {
            one.line: verdict_key(
                settings.model,
                self._prompt.text,
                one.question,
                one.golden_answers,
                one.prediction,
            )
            for one in asked
        }

    def opinions(
        self, done: Set[int]
    ) -> Generator[tuple[Sequence[Prediction], Opinion], None, None]:
        """Yields predictions with equal requests and the opinion on them.

        Args:
          done: line numbers that need no opinion.

        Raises:
          ValueError: if the cache cannot be read or written, or as in `replies`.
          NoReplyError, VerdictsError: as in `replies`.
        """
        waiting = collections.defaultdict(list)
        for one in [one for one in self._asked if one.line not in done]:
            if one.prediction:
                waiting[self.keys[one.line]].append(one)
            else:
                yield [one], _NO_PREDICTION
        for key, found in self._cache.get(waiting).items():
            self.usage.cached += len(waiting[key])
            yield waiting.pop(key), found
        messages = {
            key: self._prompt.filled(one.question, one.golden_answers, one.prediction)
            for key, (one, *_) in waiting.items()
        }
        for key, reply in replies(self._model, messages, self._settings.concurrency):
            self.usage.add(reply)
            found = opinion(reply.text)
            try:
                yield waiting[key], found
            finally:
                # A paid reply is in the cache or in the caller's file, even if one of
                # them cannot be written.
                if found.verdict is not None:
                    self._cache.put({key: found})


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
