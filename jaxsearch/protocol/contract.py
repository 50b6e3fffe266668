"""The base class of protocols: everything that depends on tags, in one object."""

import abc
import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol.display import Block, SpanKind, blocks
from jaxsearch.protocol.spans import first_span, policy_runs, without_spans
from jaxsearch.protocol.tags import TagPair, ToolTags, check_tags, closing_tag
from jaxsearch.protocol.template import PromptTemplate
from jaxsearch.protocol.turns import TOOL_MARK, Turn, turns
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol(abc.ABC):
    """The text format that a policy, its search and its reward share.

    The tags are fields; prompts, parsing, observations, the forgery check, display and
    demonstrations follow from them. To change tags, use `with_tags(...)` or
    `dataclasses.replace(...)`; for another format, write a subclass that overrides
    methods, in most cases only `render`.

    Attributes:
      think, search, answer: tags of thoughts, queries and the final answer. The closing
        tag of a query ends a turn, and the search runs.
      result_open, result_close: the tags of an observation, with the white space around
        them in the context.
      calls: tags of other tools; the closing tag of a call also ends a turn. Rewards
        ignore calls that their tool has answered, and treat a result written by the
        policy as a forgery.
      template: a prompt that replaces the protocol's default.
      opened: tags of the reply that the prompt has written, which count as the policy's
        when a rollout is judged; set by `with_opened`.

    Raises:
      ValueError: if tags are empty, contain white space or contain one another.
    """

    name: str
    think: TagPair
    search: TagPair
    answer: TagPair
    result_open: str
    result_close: str
    calls: tuple[ToolTags, ...] = ()
    template: PromptTemplate | None = None
    opened: str = ""

    def __post_init__(self):
        pairs = {
            "think": self.think,
            "search": self.search,
            "result": self.result,
            "answer": self.answer,
        }
        for i, tool in enumerate(self.calls):
            if not isinstance(tool, ToolTags):
                raise ValueError(
                    f"protocol {self.name!r}: calls[{i}] must be ToolTags, got "
                    f"{tool!r:.80}; write ToolTags(call=TagPair(...), "
                    "result=TagPair(...))"
                )
            pairs |= {f"calls[{i}].{kind}": tags for kind, tags in tool.pairs.items()}
        check_tags(self.name, pairs)

    # ------------------------------------------------------------------------- tags

    @property
    def result(self) -> TagPair:
        """The tags of an observation, without the white space around them."""
        return TagPair(self.result_open.strip(), self.result_close.strip())

    @property
    def pairs(self) -> tuple[tuple[SpanKind, TagPair], ...]:
        """All tags, with the purpose of their spans."""
        return (
            (SpanKind.THINK, self.think),
            (SpanKind.SEARCH, self.search),
            (SpanKind.RESULT, self.result),
            (SpanKind.ANSWER, self.answer),
            *((SpanKind.SEARCH, tool.call) for tool in self.calls),
            *((SpanKind.RESULT, pair) for pair in self._tool_results),
        )

    @property
    def control_tags(self) -> tuple[str, ...]:
        """Strings that are deleted from retrieved text."""
        return tuple(tag for _, pair in self.pairs for tag in pair)

    @property
    def stop_tags(self) -> tuple[str, ...]:
        """Strings that end a turn."""
        return (self.search.close, *(tool.call.close for tool in self.calls))

    @property
    def own_stop_tags(self) -> tuple[str, ...]:
        """The stop tags, without those of other tools."""
        others = {tool.call.close for tool in self.calls}
        return tuple(tag for tag in self.stop_tags if tag not in others)

    @property
    def _tool_results(self) -> tuple[TagPair, ...]:
        return tuple(tool.result for tool in self.calls if tool.result is not None)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Strings that should be single pieces in a small vocabulary."""
        return self.control_tags

    def with_tags(
        self,
        *,
        think: TagPair | None = None,
        search: TagPair | None = None,
        result: TagPair | None = None,
        answer: TagPair | None = None,
    ) -> "Protocol":
        """The same protocol with other tags; keeps the white space around results."""
        result = result or self.result
        return dataclasses.replace(
            self,
            think=think or self.think,
            search=search or self.search,
            answer=answer or self.answer,
            result_open=self.result_open.replace(self.result.open, result.open),
            result_close=self.result_close.replace(self.result.close, result.close),
        )

    # ---------------------------------------------------------------------- prompts

    def prompt(self, question: str) -> str:
        """The prompt as text, for tokenizers without a chat template.

        It ends with the first turn, if there is one.
        """
        if self.template is None:
            text = self.default_prompt(question)
        else:
            text = self.template.fill_text(question)
        return text + self.first_turn(question)

    def messages(self, question: str) -> list[dict[str, str]]:
        """The prompt as chat messages, for tokenizers with a chat template.

        The first turn, if there is one, is the end of the assistant's last message.
        """
        if self.template is None:
            messages = self.default_messages(question)
        else:
            messages = self.template.fill_messages(question)
        first = self.first_turn(question)
        if not (first and messages):
            return messages
        *others, last = messages
        if last["role"] != "assistant":
            return [*messages, {"role": "assistant", "content": first}]
        return [*others, {**last, "content": last["content"] + first}]

    def with_opened(self, tags: Sequence[str]) -> "Protocol":
        """The protocol for prompts that open these tags of the reply.

        Raises:
          ValueError: if the protocol cannot judge replies to such prompts.
        """
        if tuple(tags) not in ((), (self.think.open,)):
            raise ValueError(
                f"the prompt begins the reply with {' '.join(tags)}, but protocol "
                f"{self.name!r} takes only {self.think.open}, once, or nothing; change "
                "the prompt template or the chat template"
            )
        return dataclasses.replace(self, opened="".join(tags))

    def continued(self, turns: Sequence[str]) -> list[str]:
        """The turns of a demonstration, without a tag that the prompt has opened."""
        first, *others = turns
        space = first[: len(first) - len(first.lstrip())]
        if self.opened and first.lstrip().startswith(self.opened):
            first = space + first.lstrip().removeprefix(self.opened)
        return [first, *others]

    @abc.abstractmethod
    def default_prompt(self, question: str) -> str:
        """The text prompt if there is no template, without the first turn."""

    @abc.abstractmethod
    def default_messages(self, question: str) -> list[dict[str, str]]:
        """The chat messages if there is no template, without the first turn."""

    # ------------------------------------------------------------------------ turns

    @abc.abstractmethod
    def query(self, turn_text: str) -> str:
        """The query of a turn; "" if it has none."""

    def is_last(self, turn_text: str) -> bool:
        """Whether a turn that ended with a stop tag also ends the rollout.

        A call of another tool never ends a rollout.
        """
        tag = closing_tag(turn_text, self.stop_tags)
        is_tool_call = bool(tag) and tag not in self.own_stop_tags
        return not is_tool_call and self.ends_rollout(turn_text)

    def ends_rollout(self, turn_text: str) -> bool:
        """Whether a turn that is no call of another tool ends the rollout.

        The default is False: rollouts end only with an end token.
        """
        return False

    @property
    def reminder(self) -> str:
        """Text instead of a result after a turn without a query; "" for none."""
        return ""

    def first_turn(self, question: str) -> str:
        """A turn that starts every rollout, and is answered before the policy writes.

        It ends with a stop tag. Prompts end with it, and its observation follows. The
        default "" means none.
        """
        return ""

    @property
    def max_searches(self) -> int | None:
        """Limit of searches with results per rollout; None for no limit."""
        return None

    @property
    def enough(self) -> str:
        """Text in place of a result for a search over `max_searches`."""
        return ""

    # ----------------------------------------------------------------- observations

    @abc.abstractmethod
    def render(self, passages: Sequence[Passage]) -> str:
        """The text between the tags of a result.

        The caller deletes control tags from it again, because two passages may contain
        half a tag each.
        """

    def frame(self, body: str) -> str:
        """Rendered text with the tags and white space around it."""
        return f"{self.result_open}{body}{self.result_close}"

    def observation(self, passages: Sequence[Passage]) -> str:
        """The observation of passages, which must be free of control tags."""
        return self.frame(self.render(passages))

    # ---------------------------------------------------------------------- judging

    @property
    def placeholder(self) -> str:
        """Text that replaces each search result in a text that is judged.

        The spaces prevent the ends of two turns from joining into a tag.
        """
        return f" {self.result.open}{self.result.close} "

    def policy_text(self, segments: Sequence[Segment]) -> str:
        """The text of the policy, with a placeholder for each search result.

        A call of another tool and its observation are replaced by TOOL_MARK. For a tool
        that is not in `calls`, only the observation is replaced, because the start of
        its call is unknown. The text begins with the tags that the prompt has opened.
        """
        texts = [self.opened]
        for turn in turns(segments, self.stop_tags):
            if not turn.observation:
                texts.append(turn.text)
            elif self._is_search(turn):
                texts += turn.text, self.placeholder
            else:
                texts += turn.text_without_call(self.calls), TOOL_MARK
        return "".join(texts)

    def search_results(self, segments: Sequence[Segment]) -> list[Sequence[str]]:
        """The texts of each observation that is a search result."""
        return [
            turn.observation
            for turn in turns(segments, self.stop_tags)
            if turn.observation and self._is_search(turn)
        ]

    def unframed(self, text: str) -> str:
        """The text of a search result without its tags and the white space around."""
        inner = text.strip().removeprefix(self.result.open)
        return inner.removesuffix(self.result.close).strip()

    def _is_search(self, turn: Turn) -> bool:
        """Whether the turn was answered by the search, not by another tool."""
        return not turn.text or turn.stop_tag in self.own_stop_tags

    def last_part(self, text: str) -> tuple[str, bool]:
        """Judged text after its last observation, and whether it contains one."""
        _, tool, rest = text.rpartition(TOOL_MARK)
        _, search, last = rest.rpartition(self.placeholder)
        return last, bool(tool or search)

    def is_forged(self, segments: Sequence[Segment]) -> bool:
        """Whether the policy wrote a result tag of any tool."""
        tags = [tag for pair in (self.result, *self._tool_results) for tag in pair]
        return any(tag in run for run in policy_runs(segments) if run for tag in tags)

    def has_answer(self, segments: Sequence[Segment]) -> bool:
        """Whether the policy wrote exactly one answer, in one turn."""
        text = self.policy_text(segments)
        answer = first_span(text, self.answer)
        return (
            answer is not None
            and all(text.count(tag) == 1 for tag in self.answer)
            and not self.last_part(answer)[1]
        )

    def thought(self, segments: Sequence[Segment]) -> str:
        """The policy's text outside calls and answers, as words with single spaces.

        Control tags are deleted; an end token counts as text.
        """
        runs = [run for run in policy_runs(segments) if run is not None]
        calls = (tool.call for tool in self.calls)
        for pair in (self.search, *calls, self.answer):
            # Joined by spaces, so that the remaining text does not form a tag.
            runs = [without_spans(run, pair, joint=" ") for run in runs]
        text = " ".join(runs)
        for tag in self.control_tags:
            text = text.replace(tag, " ")
        return " ".join(text.split())

    # ---------------------------------------------------------------------- display

    def blocks(self, segments: Sequence[Segment]) -> list[Block]:
        """The rollout split into blocks by purpose, for display."""
        opened = SpanKind.THINK if self.opened else SpanKind.OTHER
        return blocks(segments, self.pairs, opened=opened)

    # --------------------------------------------------------------- demonstrations

    @abc.abstractmethod
    def search_turn(self, thought: str, query: str) -> str:
        """A turn of a demonstration that thinks and then searches."""

    @abc.abstractmethod
    def answer_turn(self, thought: str, answer: str) -> str:
        """The last turn of a demonstration; without thoughts if `thought` is empty."""
