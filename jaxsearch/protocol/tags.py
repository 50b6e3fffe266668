"""Tags: the strings that open and close a span of a rollout."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class TagPair:
    """The opening and the closing tag of a kind of span; iterates in this order."""

    open: str
    close: str

    def __iter__(self) -> Iterator[str]:
        return iter((self.open, self.close))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToolTags:
    """The tags of a tool other than search.

    Attributes:
      call: the tags of its calls; the closing tag ends a turn.
      result: the tags of its results, which the policy must not write; None if its
        results have no special tags.
    """

    call: TagPair
    result: TagPair | None = None

    @property
    def pairs(self) -> dict[str, TagPair]:
        """The tags by field name."""
        pairs = {"call": self.call}
        return pairs if self.result is None else pairs | {"result": self.result}


def xml_tags(name: str) -> TagPair:
    """`<name>` and `</name>`."""
    return TagPair(f"<{name}>", f"</{name}>")


def bar_tags(name: str) -> TagPair:
    """`<|begin_of_name|>` and `<|end_of_name|>`."""
    return TagPair(f"<|begin_of_{name}|>", f"<|end_of_{name}|>")


def closing_tag(turn_text: str, tags: Sequence[str]) -> str:
    """The tag that ended a turn, which is the first complete one; "" if there is none.

    If several are complete at the same character, the longest is returned.
    """
    ends = [
        (turn_text.index(tag) + len(tag), -len(tag), tag)
        for tag in tags
        if tag in turn_text
    ]
    return min(ends)[2] if ends else ""


def check_tags(owner: str, pairs: Mapping[str, TagPair]) -> None:
    """Checks that the tags of a protocol cannot be confused in a text.

    Args:
      owner: the name of the protocol, for the error.
      pairs: the tags by field name.

    Raises:
      ValueError: if a field is not a TagPair, a tag is empty or contains white space,
        or one tag contains another.
    """
    for name, pair in pairs.items():
        if not isinstance(pair, TagPair):
            raise ValueError(
                f"protocol {owner!r}: {name} must be a TagPair, got "
                f'{pair!r:.80}; write TagPair("<opening tag>", "<closing tag>")'
            )
    named = [
        (f"{name}.{side}", tag)
        for name, pair in pairs.items()
        for side, tag in (("open", pair.open), ("close", pair.close))
    ]
    for name, tag in named:
        if not tag or tag.split() != [tag]:
            raise ValueError(
                f"protocol {owner!r}: {name} must be one tag without white space, got "
                f"{tag!r}; text around passages belongs in `render`"
            )
    for (name, tag), (other_name, other) in itertools.permutations(named, 2):
        if tag in other:
            raise ValueError(
                f"protocol {owner!r}: {name} ({tag!r}) is contained in {other_name} "
                f"({other!r}); choose tags that cannot be confused"
            )
