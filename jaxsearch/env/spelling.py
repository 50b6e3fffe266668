"""A check that a tokenizer has the tags of a run."""

from collections.abc import Sequence

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.environment import Environment
from jaxsearch.protocol import Protocol


def check_spelling(
    tokenizer: Tokenizer, protocol: Protocol, environment: Environment
) -> None:
    """Checks that the policy can write every tag and read every observation's frame.

    Raises:
      ValueError: naming the first tag or frame that the tokenizer cannot spell.
    """
    own = protocol.control_tags
    further = [tag for tag in environment.stop_tags if tag not in own]
    for tags, owner in (
        (own, f"protocol {protocol.name!r}"),
        (further, type(environment).__name__),
    ):
        for tag in tags:
            # A small vocabulary may have whole words alone, with the space before them.
            if not any(_spells(tokenizer, text, [tag]) for text in (tag, f" {tag}")):
                raise ValueError(
                    f"the tokenizer cannot spell {tag!r}, a tag of {owner}; choose a "
                    "tokenizer that has it, or a protocol with other tags"
                )
    for observation in environment.shortest_observations():
        text = observation.text(())
        if not _spells(tokenizer, text, [observation.opening, observation.closing]):
            raise ValueError(
                f"the tokenizer cannot spell {text!r}, an empty observation of "
                f"{observation.call.tool!r}; choose a tokenizer that can, or other tags"
            )


def _spells(tokenizer: Tokenizer, text: str, parts: Sequence[str]) -> bool:
    """Whether the ids of a text have no unknown piece and stand for its parts."""
    ids = tokenizer.encode(text)
    if tokenizer.unknown_id in ids:
        return False
    spelled = tokenizer.decode(ids)
    return all(part.strip() in spelled for part in parts)
