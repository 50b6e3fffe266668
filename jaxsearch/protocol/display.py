"""Blocks of a rollout for display: thoughts, queries, passages, answers."""

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jaxsearch.protocol.tags import TagPair
from jaxsearch.trajectory import Segment


class SpanKind(enum.StrEnum):
    """The purpose of a span of text."""

    THINK = "think"
    SEARCH = "search"
    RESULT = "result"
    ANSWER = "answer"
    OTHER = "other"

    @property
    def verb(self) -> str:
        """The label of a line on the terminal, a verb with the policy as subject."""
        return _VERBS[self]

    @property
    def heading(self) -> str:
        """The heading of a block in the report."""
        return _HEADINGS[self]


_VERBS: Mapping[SpanKind, str] = {
    SpanKind.THINK: "thinks",
    SpanKind.SEARCH: "searches",
    SpanKind.RESULT: "reads",
    SpanKind.ANSWER: "answers",
    SpanKind.OTHER: "writes",
}
_HEADINGS: Mapping[SpanKind, str] = {
    SpanKind.THINK: "Thinking",
    SpanKind.SEARCH: "Search",
    SpanKind.RESULT: "Passages",
    SpanKind.ANSWER: "Answer",
    SpanKind.OTHER: "Text",
}


# How vocabularies spell the token that ends a row: <|im_end|>, </s>, <eos>.
END_TOKEN = re.compile(r"<[^<>\s]*>\s*$")


class Piece(NamedTuple):
    """Text or one tag, by one author."""

    text: str
    is_policy: bool
    is_tag: bool


class Block(NamedTuple):
    """Consecutive pieces with the same purpose."""

    kind: SpanKind
    pieces: list[Piece]


def blocks(
    segments: Sequence[Segment],
    pairs: Iterable[tuple[SpanKind, TagPair]],
    *,
    opened: SpanKind = SpanKind.OTHER,
) -> list[Block]:
    """Splits the text of a rollout into blocks; every character is in exactly one.

    A tag opens or closes a block wherever it occurs, so forged passages appear as
    RESULT blocks written by the policy. Authors are those of the segments.

    Args:
      pairs: the tags of the protocol, with the purpose of their spans.
      opened: the kind of text that is not between tags.
    """
    opening = {pair.open: kind for kind, pair in pairs}
    closing = {pair.close: kind for kind, pair in pairs}
    tag = re.compile("|".join(map(re.escape, [*opening, *closing])))
    found = [Block(opened, [])]
    is_open = [opened]
    for segment in segments:
        end = 0
        for match in tag.finditer(segment.text):
            _add(found, is_open[-1], segment.text[end : match.start()], segment)
            end = match.end()
            piece = Piece(match[0], segment.is_policy, True)
            if kind := opening.get(match[0]):
                is_open.append(kind)
                _begin(found, kind)
                found[-1].pieces.append(piece)
                continue
            found[-1].pieces.append(piece)
            _close(is_open, closing[match[0]])
        _add(found, is_open[-1], segment.text[end:], segment)
    return [block for block in found if block.pieces]


def with_end_tag(blocks: Sequence[Block]) -> list[Block]:
    """The blocks with the policy's end token as a tag at the end of what it ends.

    Without it, the token alone would be a block of text after the answer.
    """
    if not blocks:
        return []
    *before, last = blocks
    piece = last.pieces[-1]
    match = END_TOKEN.search(piece.text)
    if piece.is_tag or not piece.is_policy or match is None:
        return list(blocks)
    text = piece.text[: match.start()]
    kept = [*last.pieces[:-1]] + ([piece._replace(text=text)] if text else [])
    end = Piece(match[0], True, True)
    if before and not any(one.text.strip() for one in kept):
        previous = before[-1]
        return [*before[:-1], previous._replace(pieces=[*previous.pieces, *kept, end])]
    return [*before, last._replace(pieces=[*kept, end])]


def unmarked(segments: Sequence[Segment]) -> list[Block]:
    """One block per segment, for a rollout whose protocol is not available."""
    return [
        Block(
            SpanKind.OTHER if segment.is_policy else SpanKind.RESULT,
            [Piece(segment.text, segment.is_policy, False)],
        )
        for segment in segments
    ]


def _close(is_open: list[SpanKind], kind: SpanKind) -> None:
    """Closes the last open span of this kind and all spans opened inside it."""
    if kind in is_open:
        del is_open[len(is_open) - 1 - is_open[::-1].index(kind) :]
    if not is_open:
        # The span was opened by the prompt and has no opening tag in the text.
        is_open.append(SpanKind.OTHER)


def _add(found: list[Block], kind: SpanKind, text: str, segment: Segment) -> None:
    # White space between two tags does not start a block.
    if text.strip() and found[-1].kind is not kind:
        _begin(found, kind)
    if text:
        found[-1].pieces.append(Piece(text, segment.is_policy, False))


def _begin(found: list[Block], kind: SpanKind) -> None:
    if any(piece.text.strip() for piece in found[-1].pieces):
        found.append(Block(kind, []))
    else:
        found[-1] = Block(kind, found[-1].pieces)
