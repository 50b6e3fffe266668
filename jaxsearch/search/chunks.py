"""Texts in passages of about a hundred words."""

import dataclasses
import re
from collections.abc import Iterator

# Chinese and Japanese are written without spaces: a character counts as a word. Runs
# without a space are cut, so that a passage cannot be of any length.
_NO_SPACES = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_NO_SPACES}]\s*|[^\s{_NO_SPACES}]{{1,200}}\s*")
# After the marks that end a sentence, and at blank lines.
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]”’]*\s+|(?<=[。！？])|\n\s*\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkSize:
    """How texts are cut into passages.

    Attributes:
      num_words: words of a passage at most, without its title.
      overlap: words at the end of a passage that the next one may repeat, in whole
        sentences.
    """

    num_words: int = 100
    overlap: int = 0

    def __post_init__(self):
        if not 1 <= self.num_words <= 100_000:
            raise ValueError(f"--words must be from 1 to 100000, got {self.num_words}")
        if not 0 <= self.overlap < self.num_words:
            raise ValueError(
                f"--overlap must be from 0 to {self.num_words - 1}, less than --words, "
                f"got {self.overlap}"
            )


def chunks(text: str, size: ChunkSize) -> Iterator[str]:
    """Cuts a text into passages of whole sentences where they fit.

    A sentence that is longer than a passage begins a new one and is cut between words.
    Every word is in a passage; white space within a passage becomes one space.
    """
    kept: list[list[str]] = []  # sentences of the passage, as words
    num_new = 0  # of them, those that are in no passage yet
    for sentence in _sentences(text):
        for part in _parts(sentence, size.num_words):
            if num_new and _num_words(kept) + len(part) > size.num_words:
                yield _joined(kept)
                kept, num_new = _last_within(kept, size.overlap), 0
            while kept and _num_words(kept) + len(part) > size.num_words:
                kept = kept[1:]
            kept.append(part)
            num_new += 1
    if num_new:
        yield _joined(kept)


def _sentences(text: str) -> Iterator[list[str]]:
    """The words of each sentence, with the white space after each word."""
    start = 0
    for end in _SENTENCE_END.finditer(text):
        if words := _WORD.findall(text[start : end.end()]):
            yield words
        start = end.end()
    if words := _WORD.findall(text[start:]):
        yield words


def _parts(sentence: list[str], num_words: int) -> Iterator[list[str]]:
    for start in range(0, len(sentence), num_words):
        yield sentence[start : start + num_words]


def _num_words(sentences: list[list[str]]) -> int:
    return sum(map(len, sentences))


def _last_within(sentences: list[list[str]], num_words: int) -> list[list[str]]:
    """The last sentences that have at most this many words together."""
    start, left = len(sentences), num_words
    while start and len(sentences[start - 1]) <= left:
        start -= 1
        left -= len(sentences[start])
    return sentences[start:]


def _joined(sentences: list[list[str]]) -> str:
    """The passage of these sentences; one without a space after it gets none."""
    text = "".join(word for sentence in sentences for word in sentence)
    return " ".join(text.split())
