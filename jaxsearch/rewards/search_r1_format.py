"""Parsing of rollouts for Search-R1's rewards, and the format of a valid sequence.

The tags are those of the protocol.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Mapping, Sequence

from jaxsearch.protocol import Protocol, TagPair
from jaxsearch.protocol.spans import closed_spans, last_span
from jaxsearch.protocol.turns import TOOL_MARK
from jaxsearch.trajectory import Segment


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParsedRollout:
    """A rollout parsed for the reward rules.

    Attributes:
      prediction: the last answer; None if there is none.
      fault: the first format fault; "" if there is none.
      retrieved: the text of each search result.
    """

    prediction: str | None
    fault: str
    retrieved: tuple[str, ...]


def parse_segments(segments: Sequence[Segment], protocol: Protocol) -> ParsedRollout:
    """Parses a rollout with provenance, of which only the policy's text is judged."""
    text = protocol.policy_text(segments)
    answer = last_span(text, protocol.answer)
    if answer is not None:
        # If an observation interrupts the answer, only the last part is used.
        answer = protocol.last_part(answer)[0]
        answer = answer.rpartition(protocol.result.close)[2].strip()
    return ParsedRollout(
        prediction=answer,
        fault=(
            "information written by the policy"
            if protocol.is_forged(segments)
            else _format_fault(text, protocol)
        ),
        retrieved=tuple(itertools.chain(*protocol.search_results(segments))),
    )


def parse_text(response: str, protocol: Protocol) -> ParsedRollout:
    """Parses a text without provenance, like the reference."""
    answer = last_span(response, protocol.answer)
    return ParsedRollout(
        prediction=None if answer is None else answer.strip(),
        fault=_format_fault(response.replace(TOOL_MARK, " "), protocol),
        retrieved=tuple(closed_spans(response, protocol.result)),
    )


class _Grammar:
    """The tags of a protocol, and the order in which they may follow each other."""

    def __init__(
        self, think: TagPair, search: TagPair, result: TagPair, answer: TagPair
    ):
        tags = (*think, *search, *result, *answer, TOOL_MARK)
        self.tag = re.compile("|".join(map(re.escape, tags)))
        pairs = (think, search, result, answer)
        self.closing = {TOOL_MARK, *(pair.close for pair in pairs)}
        self.followers: Mapping[str, set[str]] = {
            "": {think.open},
            think.open: {think.close},
            think.close: {search.open, answer.open, TOOL_MARK},
            search.open: {search.close},
            search.close: {result.open},
            result.open: {result.close},
            result.close: {think.open},
            TOOL_MARK: {think.open},
            answer.open: {answer.close},
            answer.close: set(),
        }


_grammar = functools.lru_cache(maxsize=16)(_Grammar)


def _format_fault(text: str, protocol: Protocol) -> str:
    """The first tag or text that is out of place; "" if there is none."""
    grammar = _grammar(
        protocol.think, protocol.search, protocol.result, protocol.answer
    )
    before, end = "", 0
    for tag in grammar.tag.finditer(text):
        between = text[end : tag.start()]
        if between.strip() and (not before or before in grammar.closing):
            return f"text outside the tags after {before or 'the start'}"
        if tag.group() not in grammar.followers[before]:
            return f"{tag.group()} after {before or 'the start'}"
        before, end = tag.group(), tag.end()
    if before != protocol.answer.close:
        return f"the last tag is {before or 'missing'}, not {protocol.answer.close}"
    return "text after the answer" if text[end:].strip() else ""
