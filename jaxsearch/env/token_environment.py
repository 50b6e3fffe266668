"""A tokenizing environment for the rollout loop: turns in, token ids out."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.checks import (
    check_answers,
    check_observations,
    check_own_tags,
    check_tags_differ,
)
from jaxsearch.env.environment import (
    Done,
    Environment,
    Observation,
    RolloutId,
)
from jaxsearch.env.sanitize import strip_all, strip_tags
from jaxsearch.env.spelled import spelled, strip_spelled
from jaxsearch.protocol import Protocol
from jaxsearch.protocol.tags import closing_tag
from jaxsearch.surrogates import whole_characters
from jaxsearch.trajectory import ToolCall

# No token has more characters, apart from a vocabulary's longest pieces.
_MIN_CHARS_PER_TOKEN = 64
# A truncated passage ends at white space if there is some among its last characters.
_LONGEST_WORD = 40


def all_stop_tags(protocol: Protocol, environment: Environment) -> tuple[str, ...]:
    """Strings that end a turn, of a protocol and of an environment."""
    return tuple(dict.fromkeys((*protocol.stop_tags, *environment.stop_tags)))


class ObservedTokens(NamedTuple):
    """An observation as token ids that are safe to put into a context."""

    ids: list[int]
    call: ToolCall


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenEnvironment:
    """Converts the observations of any environment to token ids.

    Control tags, special tokens and special ids never enter a context through an
    observation, and no observation is longer than its budget.

    Attributes:
      max_observation_len: in tokens; the end of a longer observation's text is cut off,
        but not its closing tag, and it is counted as truncated.

    Raises:
      ValueError: if the tags of the environment are malformed or could be confused with
        each other or the protocol's tags, or the budget is too small for an observation
        without any text.
    """

    environment: Environment
    protocol: Protocol
    tokenizer: Tokenizer
    max_observation_len: int

    def __post_init__(self):
        check_own_tags(self.environment)
        check_tags_differ(self.environment, self.protocol)
        shortest = self.environment.shortest_observations()
        check_observations(self.environment, shortest)
        for observation in shortest:
            self.encode(observation)

    @functools.cached_property
    def stop_tags(self) -> tuple[str, ...]:
        """Strings that end a turn, from the protocol and the environment."""
        return all_stop_tags(self.protocol, self.environment)

    def ends_rollout(self, turn_text: str) -> bool:
        """Whether the protocol ends the rollout with this turn.

        Only the protocol's stop tags can end a rollout, not those of a tool.
        """
        own = self.protocol.own_stop_tags
        if len(self.stop_tags) > len(own):
            tag = closing_tag(turn_text, self.stop_tags)
            if tag and tag not in own:
                return False
        return self.protocol.is_last(turn_text)

    def step(
        self, turns: Sequence[tuple[RolloutId, str]]
    ) -> list[ObservedTokens | Done]:
        """Returns one answer for each turn.

        Raises:
          RuntimeError: if the environment does not answer every turn with an
            observation or `Done`.
        """
        answers = self.environment.step(turns)
        check_answers(self.environment, answers, len(turns))
        # Rollouts of a group often send equal queries and then share an observation.
        encoded = {
            id(answer): self.encode(answer)
            for answer in {id(answer): answer for answer in answers}.values()
            if isinstance(answer, Observation)
        }
        return [
            answer if isinstance(answer, Done) else encoded[id(answer)]
            for answer in answers
        ]

    def encode(self, observation: Observation) -> ObservedTokens:
        """The token ids of an observation, and its completed record.

        Raises:
          ValueError: if the text around the observation alone exceeds the budget.
        """
        # Encoding takes time in proportion to the length, so parts are first cut to
        # more characters than the budget's tokens can have.
        whole = observation.parts
        cut = _cut(whole, self.max_observation_len * self._max_chars_per_token)
        # A tool may answer with what JSON or a cut through a character has left.
        parts = [whole_characters(part) for part in cut]
        parts, num_deleted = strip_all(parts, self._banned_strings)
        ids, num_joined = self._ids(observation, parts)
        was_cut = sum(map(len, cut)) < sum(map(len, whole))
        is_truncated = was_cut or len(ids) > self.max_observation_len
        while len(ids) > self.max_observation_len:
            if not parts:
                raise ValueError(
                    f"max_observation_len is {self.max_observation_len}, but an empty "
                    f"observation of {observation.call.tool!r} already takes "
                    f"{len(ids)} tokens; raise it"
                )
            parts = _shorter(parts, self.max_observation_len / len(ids))
            ids, num_joined = self._ids(observation, parts)
        call = dataclasses.replace(
            observation.call,
            num_deleted_tags=num_deleted + num_joined,
            is_truncated=is_truncated,
        )
        return ObservedTokens(ids, call)

    def _ids(
        self, observation: Observation, parts: Sequence[str]
    ) -> tuple[list[int], int]:
        """Ids of the observation, and the number of tags deleted from its joined text.

        A tokenizer may change a text before splitting it (Unicode normalisation), so
        special ids are removed from its output too, and tags that its ids spell.
        """
        body, num_deleted = strip_tags(observation.body(parts), self._banned_strings)
        ids, num_removed = self._framed_ids(observation, body)
        num_allowed = self._num_frame_tags(observation.opening, observation.closing)
        if self._num_tags(spelled(self.tokenizer, ids)) > num_allowed:
            body, more = strip_spelled(self.tokenizer, body, self._banned_strings)
            num_deleted += more
            ids, num_removed = self._framed_ids(observation, body)
            if self._num_tags(spelled(self.tokenizer, ids)) > num_allowed:
                # Together with the frame, the body still spells one.
                ids, num_removed = self._framed_ids(observation, "")
                num_deleted += 1
        return ids, num_deleted + num_removed

    def _framed_ids(self, observation: Observation, body: str) -> tuple[list[int], int]:
        """Ids of a body in its frame, and the number of removed special ids."""
        ids = self.tokenizer.encode(f"{observation.opening}{body}{observation.closing}")
        banned_ids = self._banned_ids(observation.text(()))
        kept = [i for i in ids if i not in banned_ids]
        return kept, len(ids) - len(kept)

    def _num_frame_tags(self, *frame: str) -> int:
        """Number of tags in the texts around a body, as they are or as ids spell them.

        Without the body, a vocabulary of whole words may not spell them at all.
        """
        texts = [(text, self.tokenizer.encode(text)) for text in frame]
        return sum(
            max(self._num_tags(text), self._num_tags(spelled(self.tokenizer, ids)))
            for text, ids in texts
        )

    def _num_tags(self, text: str) -> int:
        return sum(text.count(tag) for tag in self._banned_strings)

    @functools.cached_property
    def _max_chars_per_token(self) -> int:
        longest = max(map(len, self.tokenizer.id_bytes), default=0)
        # A token may include the white space before it.
        return max(longest + 1, _MIN_CHARS_PER_TOKEN)

    @functools.cached_property
    def _banned_strings(self) -> tuple[str, ...]:
        own = self.protocol.own_stop_tags
        tags = (
            *self.protocol.control_tags,
            *(tag for tag in self.environment.stop_tags if tag not in own),
            *self.environment.control_tags,
            *self.tokenizer.special_strings,
        )
        return tuple(dict.fromkeys(tags))

    @functools.cached_property
    def _banned_ids_by_frame(self) -> dict[str, frozenset[int]]:
        return {}

    def _banned_ids(self, frame: str) -> frozenset[int]:
        """Special ids other than the unknown piece and the ids of the frame."""
        if frame not in self._banned_ids_by_frame:
            allowed = {self.tokenizer.unknown_id, *self.tokenizer.encode(frame)}
            self._banned_ids_by_frame[frame] = self.tokenizer.special_ids - allowed
        return self._banned_ids_by_frame[frame]


def _cut(parts: Sequence[str], max_chars: int) -> list[str]:
    """The parts, cut from the end to at most so many characters in all."""
    cut: list[str] = []
    for part in parts:
        if max_chars <= 0:
            break
        cut.append(part[:max_chars])
        max_chars -= len(cut[-1])
    return cut


def _shorter(parts: Sequence[str], share: float) -> list[str]:
    """The parts, cut from the end to about this share of their characters."""
    total = sum(map(len, parts))
    # Always drop at least one character, so that the caller's loop ends.
    room = min(int(total * share), total - 1)
    kept = []
    for part in parts:
        if room <= 0:
            break
        kept.append(_beginning(part, room))
        room -= len(part)
    return kept


def _beginning(text: str, max_chars: int) -> str:
    """The first `max_chars` characters, cut at a word boundary if one is near.

    Chinese, Japanese and Thai have no white space between words.
    """
    if len(text) <= max_chars:
        return text
    whole_words = re.match(r"(?s).*(?=\s)", text[: max_chars + 1])
    if whole_words and len(whole_words.group()) >= max_chars - _LONGEST_WORD:
        return whole_words.group()
    return text[:max_chars]
