"""Turns of a rollout: the policy's text, and the observation that answered it."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from jaxsearch.protocol.tags import ToolTags
from jaxsearch.trajectory import Segment

# Replaces the observation of another tool in judged text. `str.split` and `str.strip`
# treat it as white space, so format rules ignore it.
TOOL_MARK = "\x1f"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """Policy text and the observation after it.

    Attributes:
      text: the policy's text, without TOOL_MARK.
      observation: the texts of the observation; empty if there is none.
      stop_tag: the last stop tag of the protocol in the text; "" if there is none. Two
        turns with an empty observation in between are joined, so the first stop tag may
        belong to an earlier turn.
    """

    text: str
    observation: Sequence[str]
    stop_tag: str

    def text_without_call(self, tools: Sequence[ToolTags]) -> str:
        """The text without the call that ended the turn, if it was one of `tools`."""
        for tool in tools:
            if tool.call.close == self.stop_tag:
                before, _, after = self.text.rpartition(tool.call.close)
                text, opened, _ = before.rpartition(tool.call.open)
                return f"{text} {after}" if opened else self.text
        return self.text


def turns(segments: Sequence[Segment], stop_tags: Sequence[str]) -> Iterator[Turn]:
    """The turns of a rollout, in order."""
    text = ""
    for is_policy, run in itertools.groupby(segments, lambda s: s.is_policy):
        texts = [segment.text for segment in run]
        if is_policy:
            text = "".join(texts)
        else:
            yield _turn(text, texts, stop_tags)
            text = ""
    if text:
        yield _turn(text, (), stop_tags)


def _turn(text: str, observation: Sequence[str], stop_tags: Sequence[str]) -> Turn:
    found = [tag for tag in stop_tags if tag in text]
    return Turn(
        text=text.replace(TOOL_MARK, " "),
        observation=observation,
        stop_tag=max(found, key=text.rfind, default=""),
    )
