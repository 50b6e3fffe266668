"""The prompt of a question: its text, its ids, and the tags that it leaves open."""

from collections.abc import Mapping

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.spelled import strip_spelled
from jaxsearch.protocol import Protocol

# The prompt of this question represents all prompts of a run.
ANY_QUESTION = "Who wrote it?"
# A question in digits, which no prompt contains and no template changes.
_PROBE = "161803398874989"


def plain_question(tokenizer: Tokenizer, question: str) -> tuple[str, int]:
    """The question without spelled special tokens, and the number of deleted ones.

    As in passages, they are deleted, because a tokenizer reads `<|im_end|>` in a
    question as the end of the user's message. So are those that only the tokenizer
    spells.
    """
    return strip_spelled(tokenizer, question, tokenizer.special_strings)


def prompt_text(tokenizer: Tokenizer, protocol: Protocol, question: str) -> str:
    """The prompt of a question as text, without the tokenizer's begin token."""
    question, _ = plain_question(tokenizer, question)
    return tokenizer.render_prompt(
        protocol.prompt(question), protocol.messages(question)
    )


def prompt_ids(tokenizer: Tokenizer, protocol: Protocol, question: str) -> list[int]:
    """The prompt of a question as token ids."""
    question, _ = plain_question(tokenizer, question)
    return plain_prompt_ids(tokenizer, protocol, question)


def plain_prompt_ids(
    tokenizer: Tokenizer, protocol: Protocol, question: str
) -> list[int]:
    """`prompt_ids` of a question without spelled special tokens."""
    return tokenizer.encode_prompt(
        protocol.prompt(question), protocol.messages(question)
    )


def opened_tags(tokenizer: Tokenizer, protocol: Protocol) -> tuple[str, ...]:
    """The opening tags of the reply that prompts have written, such as `<think>`.

    They may be written by the chat template, by a prompt template or by the protocol.
    They are at the end of the prompt, or in a message of the assistant, which is the
    start of the reply. Tags before the question and tags with text after them are
    instructions.
    """
    first_turn = protocol.first_turn(_PROBE)
    text = prompt_text(tokenizer, protocol, _PROBE).removesuffix(first_turn)
    _, _, end = text.rpartition(_PROBE)
    opening = {pair.open: pair.close for _, pair in protocol.pairs}
    begun = _begun(protocol) if tokenizer.has_chat_prompt else ""
    begun = begun.removesuffix(first_turn)
    if not begun or not end.endswith(begun):
        return _at_the_end(end, opening)
    written = _at_the_end(end.removesuffix(begun), opening)
    return (*written, *_unclosed(begun, opening))


def _begun(protocol: Protocol) -> str:
    """The start of the reply in the protocol's messages."""
    messages = protocol.messages(_PROBE)
    is_begun = bool(messages) and messages[-1]["role"] == "assistant"
    return messages[-1]["content"] if is_begun else ""


def _at_the_end(text: str, opening: Mapping[str, str]) -> tuple[str, ...]:
    """The opening tags at the end of a text, with only white space between them."""
    found: list[str] = []
    text = text.rstrip()
    while tag := next((tag for tag in opening if text.endswith(tag)), ""):
        found.insert(0, tag)
        text = text.removesuffix(tag).rstrip()
    return tuple(found)


def _unclosed(text: str, opening: Mapping[str, str]) -> list[str]:
    """The opening tags in a text without a closing tag after them, in order."""
    last = {tag: text.rfind(tag) for tag in opening}
    unclosed = [tag for tag, close in opening.items() if last[tag] > text.rfind(close)]
    return sorted(unclosed, key=lambda tag: last[tag])
