"""Summaries of sets of questions, and samples of them, for `jaxsearch data`."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from jaxsearch.bad_rows import Note, print_note
from jaxsearch.data.formats import read_questions
from jaxsearch.data.known_sets import KNOWN_SETS, KnownSet, known_set
from jaxsearch.data.mixture import Mixture, parse_questions
from jaxsearch.data.prepared_set import (
    PreparedSet,
    find_set,
    open_split,
    parse_name,
    prepared_names,
    prepared_splits,
)
from jaxsearch.data.question import Question

# Number of the most frequent values of a metadata column that are shown.
_MAX_VALUES = 8


def list_sets() -> dict[str, Any]:
    """The splits of every known set, and the prepared ones of every set."""
    known = {
        one.name: {"splits": list(one.splits), "prepared": prepared_splits(one.name)}
        for one in KNOWN_SETS
    }
    own = {
        name: {"splits": [], "prepared": prepared_splits(name)}
        for name in prepared_names()
        if name not in known
    }
    return {"sets": known | own}


def describe(text: str, *, note: Note = print_note) -> dict[str, Any]:
    """Summarizes a set, a split, a file or the sources of a mixture.

    Raises:
      ValueError: if it is none of these, or is damaged.
    """
    questions = parse_questions(text)
    if isinstance(questions, Mixture):
        total = sum(source.weight for source in questions.sources)
        return {
            source.path: {
                "share": source.weight / total,
                **describe(source.path, note=note),
            }
            for source in questions.sources
        }
    named = parse_name(text)
    if named is None:
        return summary(read_questions(text, note=note))
    name, split = named
    known = known_set(name)
    splits = [split] if split else prepared_splits(name)
    if known and not splits:
        return _about(known) | {"prepared": []}
    if split or not splits:
        # Its error lists the splits or the sets.
        found = [find_set(name, split)]
    else:
        found = [open_split(name, one) for one in splits]
    about = _about(known) if known else {}
    return about | {one.split: describe_split(one) for one in found}


def describe_split(prepared: PreparedSet) -> dict[str, Any]:
    """The origin of a prepared split, and a summary of its questions."""
    origin = prepared.record.origin
    return {
        "from": origin.address,
        "sha256": origin.sha256,
        "version": prepared.version,
        "folder": str(prepared.folder),
        **summary(prepared.questions()),
    }


def summary(questions: Sequence[Question]) -> dict[str, Any]:
    """Numbers of questions, answers and words, and counts of metadata values."""
    num_answers = [len(question.golden_answers) for question in questions]
    num_words = [len(question.question.split()) for question in questions]
    found: dict[str, Any] = {
        "questions": len(questions),
        "answers_per_question": sum(num_answers) / len(questions),
        "most_answers": max(num_answers),
        "words_per_question": sum(num_words) / len(questions),
        "most_words": max(num_words),
        "with_supporting_titles": sum(
            bool(question.metadata.get("supporting_titles")) for question in questions
        ),
    }
    for name in ("type", "level", "hops"):
        counts = Counter(
            str(question.metadata[name])
            for question in questions
            if question.metadata.get(name) is not None
        )
        if counts:
            found[f"by_{name}"] = dict(counts.most_common(_MAX_VALUES))
    return found


def sample(
    text: str, num_questions: int, *, seed: int, note: Note = print_note
) -> list[Question]:
    """Random distinct questions of a set or a file.

    Args:
      text: a prepared set or a file.
      num_questions: number of questions; a smaller set is returned whole.
      seed: seed of the random choice.
      note: receives lines for the user.

    Raises:
      ValueError: if it is neither, or the number is not positive.
    """
    if num_questions < 1:
        raise ValueError(f"-n must be at least 1, got {num_questions}")
    named = parse_name(text)
    if named is None:
        found = read_questions(text, note=note)
        return [found[row] for row in _drawn(len(found), num_questions, seed)]
    source = find_set(*named).source()
    return source.rows(_drawn(len(source), num_questions, seed))


def _drawn(num: int, num_drawn: int, seed: int) -> list[int]:
    return random.Random(seed).sample(range(num), min(num, num_drawn))


def _about(known: KnownSet) -> dict[str, Any]:
    return {
        "title": known.title,
        "licence": known.licence,
        "citation": known.citation,
        "homepage": known.homepage,
        "splits": list(known.splits),
    }
