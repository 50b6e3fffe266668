"""Tags that a tokenizer makes of a text that does not contain them.

A tokenizer may rewrite a text before it splits it: with Unicode's NFKC, the full-width
`＜/search＞` becomes the tag `</search>`; another one may write all in lower case. So a
text is checked as its ids spell it too.
"""

from collections.abc import Sequence

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.sanitize import strip_tags

# The rewriting of a text that is rewritten already changes nothing, in any known
# tokenizer; a deletion may join another tag.
_MAX_ROUNDS = 8


def spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text that ids spell, without unknown pieces."""
    return tokenizer.decode([i for i in ids if i != tokenizer.unknown_id])


def strip_spelled(
    tokenizer: Tokenizer, text: str, tags: Sequence[str]
) -> tuple[str, int]:
    """Returns the text without tags, and the number of deleted ones.

    No tag is left in the text, nor in what its ids spell. A text whose ids spell a tag
    is replaced by what they spell, without its tags; other texts are unchanged.
    """
    text, num_deleted = strip_tags(text, tags)
    if text.isascii() and tokenizer.keeps_ascii:
        return text, num_deleted
    for _ in range(_MAX_ROUNDS):
        found = spelled(tokenizer, tokenizer.encode(text))
        if not any(tag in found for tag in tags):
            return text, num_deleted
        text, more = strip_tags(found, tags)
        num_deleted += more
    return "", num_deleted + 1
