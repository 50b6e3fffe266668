"""The sentence of the passages in which an answer can be read."""

import re
from collections.abc import Sequence

from jaxsearch.search.passages import Passage
from jaxsearch.search.question_recall import plain_words

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def quoted(
    question: str,
    answer: str,
    passages: Sequence[Passage],
    *,
    num_words: int,
    max_words: int = 24,
) -> str:
    """The words around an answer, from the sentence that is most like the question.

    Sentences are compared by the number of different words that they share with the
    question, without case, accents and punctuation; the first of equals is taken.

    Args:
      question: the question.
      answer: a text whose words stand in the passages.
      passages: in the order in which they are read.
      num_words: words of the passages that are read, with their titles.
      max_words: limit on the words quoted, unless the answer alone has more.

    Returns:
      The sentence, cut to `max_words` that include the answer; after the title of its
      passage and a colon if the answer is read in the title alone; "" if it is read
      nowhere.
    """
    wanted, asked = plain_words(answer), set(plain_words(question).split())

    def shared(sentence: str) -> int:
        return len(asked & set(plain_words(sentence).split()))

    sentences = _sentences(passages, num_words)
    texts = [text for _, text in sentences]
    # A title is quoted only if no sentence has the answer, and several sentences only
    # if it stands in none: "Alfred G. Vanderbilt" looks like the end of one.
    titled = [f"{title}: {text}" for title, text in sentences]
    for candidates in (texts, titled, [" ".join(texts)]):
        having = [text for text in candidates if wanted in plain_words(text)]
        if having:
            return _around(wanted, max(having, key=shared), max_words)
    return ""


def _sentences(passages: Sequence[Passage], num_words: int) -> list[tuple[str, str]]:
    """(title, sentence) of what is read; the last sentence may be cut."""
    found, room = [], num_words
    for passage in passages:
        room -= _num_words(passage.title)
        words = []
        for word in passage.text.split():
            room -= _num_words(word)
            if room < 0:
                break
            words.append(word)
        sentences = _SENTENCE_END.split(" ".join(words))
        found += [(passage.title, sentence) for sentence in sentences]
    return found


def _num_words(text: str) -> int:
    """Words as `search.readable` counts them: punctuation alone is none."""
    return len(plain_words(text).split())


def _around(wanted: str, text: str, max_words: int) -> str:
    """At most so many words of a text: from its beginning, or up to the answer."""
    words = text.split()
    end = next(
        end
        for end in range(1, len(words) + 1)
        if wanted in plain_words(" ".join(words[:end]))
    )
    if end <= max_words:
        return " ".join(words[:max_words])
    first = next(
        first
        for first in range(end - 1, -1, -1)
        if wanted in plain_words(" ".join(words[first:end]))
    )
    return " ".join(words[min(first, end - max_words) : end])
