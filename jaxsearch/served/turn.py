"""Reads turns from a server's answers, in the form of our own sampler's turns."""

import enum
from collections.abc import Sequence
from typing import NamedTuple

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.protocol import Protocol
from jaxsearch.rollouts.stop import stop_table
from jaxsearch.served.completions import Answer

_UNKNOWN = float("nan")


class Ending(enum.Enum):
    """How a turn ended."""

    TAG = "tag"  # with a stop tag
    END = "end"  # with an end token
    LENGTH = "length"  # at a token budget


class ServedTurn(NamedTuple):
    """A turn.

    Attributes:
      ids: its tokens, including those that complete a tag or end the row.
      logprobs: one per id, in nats; NaN where the server reported none.
      ending: how it ended.
      num_cut: number of sampled tokens after the end of the turn; they are not in
        `ids`.
    """

    ids: list[int]
    logprobs: list[float]
    ending: Ending
    num_cut: int


class TurnReader:
    """Reads turns from answers.

    The ids of an answer are used unchanged, even if the last token has characters after
    the tag. If a server returns only text, the text is encoded. A stop tag or end token
    that a server removed is added again.

    Args:
      tokenizer: the tokenizer of the served model.
      stop_tags: strings that end a turn.
      protocol: the protocol; if a server does not report the stop tag, its opening
        tags determine it.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop_tags: Sequence[str], protocol: Protocol
    ):
        self._tokenizer = tokenizer
        self._stop_tags = tuple(stop_tags)
        self._opening = {
            pair.close: pair.open
            for _, pair in protocol.pairs
            if pair.close in self._stop_tags
        }
        self._table = stop_table(tokenizer.id_bytes, stop_tags, tokenizer.num_ids)
        self._max_token_len = max(map(len, tokenizer.id_bytes))
        self._end_ids = frozenset(tokenizer.end_ids)

    def read(self, answer: Answer, room: int) -> ServedTurn:
        """The turn of an answer.

        Args:
          answer: the server's answer.
          room: the longest turn, in tokens.
        """
        if answer.ids is None:
            # Encoding megabytes, of which a turn has no room, would take minutes.
            text = answer.text[: (room + 1) * self._max_token_len]
            ids = self._tokenizer.encode(text)
        else:
            ids = list(answer.ids)
        # A text that is encoded again may have other tokens.
        is_aligned = len(answer.logprobs) == len(ids)
        logprobs = answer.logprobs if is_aligned else []
        found = self._ended(ids, logprobs, room)
        if found is not None:
            return found
        if answer.finish == "length":
            return _turn(ids[:room], logprobs, Ending.LENGTH)
        tag = self._cut_tag(answer, ids)
        if tag is None:
            ids = self._with_end(ids, answer.matched)
            ending = Ending.END if len(ids) <= room else Ending.LENGTH
            return _turn(ids[:room], logprobs, ending)
        whole = self._with_tag(answer, ids, tag)
        # The tag may change the last tokens of a text that is encoded again.
        same = [one == other for one, other in zip(whole, ids, strict=False)]
        logprobs = logprobs[: [*same, False].index(False)]
        found = self._ended(whole, logprobs, room)
        return found or _turn(whole[:room], logprobs, Ending.LENGTH)

    def _ended(
        self, ids: Sequence[int], logprobs: Sequence[float], room: int
    ) -> ServedTurn | None:
        """The turn up to the first end token or whole tag; None if there is none."""
        state, complete = 0, len(self._table) - 1
        for number, one in enumerate(ids[:room], start=1):
            # Ids beyond the vocabulary, which a padded embedding has, spell nothing.
            if one < self._table.shape[1]:
                state = self._table[state, one]
            ending = Ending.END if one in self._end_ids else Ending.TAG
            if ending is Ending.END or state == complete:
                turn = _turn(list(ids[:number]), logprobs, ending)
                return turn._replace(num_cut=len(ids) - number)
        return None

    def _cut_tag(self, answer: Answer, ids: Sequence[int]) -> str | None:
        """The tag that a server stopped at and removed; None for an end token.

        If the server does not report it, it is the closing tag of the turn's last open
        span.
        """
        if answer.matched is not None:
            return answer.matched if answer.matched in self._stop_tags else None
        text = answer.text if answer.ids is None else self._tokenizer.decode(ids)
        opened = {close: text.rfind(tag) for close, tag in self._opening.items()}
        still = {c: at for c, at in opened.items() if at >= 0 and text.rfind(c) < at}
        return max(still, key=lambda close: still[close], default=None)

    def _with_tag(self, answer: Answer, ids: list[int], tag: str) -> list[int]:
        """The ids of the turn with the removed tag.

        A vocabulary may have the tag only after a space.
        """
        tokenizer = self._tokenizer
        text = answer.text if answer.ids is None else tokenizer.decode(ids)
        rest = _rest(text, tag)
        for end in (rest, f" {rest}"):
            if answer.ids is None:
                whole = tokenizer.encode(text + end)
            else:
                whole = [*ids, *tokenizer.encode(end)]
            if tag in tokenizer.decode(whole):
                break
        return whole

    def _with_end(self, ids: list[int], matched: str | int | None) -> list[int]:
        """The ids with the end token that the server stopped at."""
        end = self._tokenizer.end_id
        if isinstance(matched, int) and matched < self._tokenizer.num_ids:
            # Only the server may know this end token.
            end = matched
        return ids if ids and ids[-1] == end else [*ids, end]


def _turn(ids: list[int], logprobs: Sequence[float], ending: Ending) -> ServedTurn:
    """A turn, with NaN for each token whose log-prob the server did not report."""
    known = logprobs[: len(ids)]
    unknown = [_UNKNOWN] * (len(ids) - len(known))
    return ServedTurn(ids, [*known, *unknown], ending, num_cut=0)


def _rest(text: str, tag: str) -> str:
    """The rest of a tag that begins at the end of a text."""
    begun = next(n for n in range(len(tag), -1, -1) if text.endswith(tag[:n]))
    return tag[begun:]
