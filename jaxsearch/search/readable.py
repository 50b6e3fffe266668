"""Questions whose answer can be read in the passages that a search finds."""

from collections.abc import Sequence

from jaxsearch.search.index import Retriever
from jaxsearch.search.passages import Passage
from jaxsearch.search.question_recall import SearchQuestion, plain_words

_BATCH_SIZE = 256


def is_readable(
    answers: Sequence[str], passages: Sequence[Passage], *, num_words: int = 0
) -> bool:
    """Whether an answer stands in one of the passages, as consecutive words.

    Case, accents and punctuation do not count. "Yes" and "no" are read nowhere: where
    these words stand in a passage, they do not answer the question.

    Args:
      answers: texts, any of which answers the question.
      passages: in the order in which they are read.
      num_words: words after which reading stops, over all passages and with their
        titles, because observations are truncated; 0 for none.
    """
    wanted = [words for answer in answers if (words := plain_words(answer)).strip()]
    wanted = [words for words in wanted if words.strip() not in ("yes", "no")]
    room = num_words
    for passage in passages:
        words = plain_words(passage.contents).split()
        if num_words:
            words = words[:room]
            room -= len(words)
        text = f" {' '.join(words)} "
        if any(answer in text for answer in wanted):
            return True
    return False


def readable(
    index: Retriever,
    questions: Sequence[SearchQuestion],
    *,
    num_passages: int,
    num_words: int = 0,
) -> list[bool]:
    """Whether each answer can be read in what a search with the question itself finds.

    No policy is asked. A question that is not readable may still be answered after
    other searches, or from memory.

    Args:
      index: what is searched.
      questions: questions with golden answers.
      num_passages: passages per search.
      num_words: as in `is_readable`.

    Raises:
      ValueError: if a number is out of range.
    """
    if num_passages < 1 or num_words < 0:
        raise ValueError(
            "expected at least 1 passage, and 0 words (for all) or more, got "
            f"{num_passages} passages and {num_words} words"
        )
    found: list[bool] = []
    for start in range(0, len(questions), _BATCH_SIZE):
        batch = questions[start : start + _BATCH_SIZE]
        hits = index.search([one.question for one in batch], num_passages)
        found += [
            is_readable(
                one.golden_answers,
                [hit.passage for hit in of_one],
                num_words=num_words,
            )
            for one, of_one in zip(batch, hits, strict=True)
        ]
    return found
