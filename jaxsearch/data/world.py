"""A generated encyclopedia of invented people, places, companies, films and books.

No model can know the facts, because the names are random syllables. There is one
passage per entity, with questions of one to three hops and comparisons in the style of
2WikiMultiHopQA (Ho et al. 2020, arXiv:2011.01060). A comparison asks for an attribute
of the winner, never for its name or for yes or no, so that guessing earns nothing.
"""

import dataclasses
import random
from collections.abc import Mapping

from jaxsearch.data.question import Question
from jaxsearch.data.world_questions import (
    chain_question,
    comparison_question,
    year_question,
)
from jaxsearch.data.world_schema import KINDS, YEARS, Entity
from jaxsearch.search.passages import Passage

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_SYLLABLES_PER_SIDE = 112  # 12,544 names


# 2WikiMultiHopQA has about as many comparisons as chains. Here there are few one-hop
# questions, which need no chain of searches, so that the score before training is low.
QUESTION_SHARES = {"1": 0.2, "2": 0.4, "3": 0.2, "comparison": 0.2}
# There are only twelve years, so questions about years are for practice, not tests.
PRACTICE_SHARES = {"1": 0.3, "year": 0.1, "2": 0.2, "3": 0.2, "comparison": 0.2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """An encyclopedia and questions about it."""

    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]


def make_names() -> list[str]:
    """All possible names, of two syllables each, always in the same random order.

    The syllables are fixed, so that all worlds share one tokenizer and a policy trained
    in some of them can read the names of any other.
    """
    rng = random.Random("names")
    syllables = [a + b + c for a in _CONSONANTS for b in _VOWELS for c in _CONSONANTS]
    rng.shuffle(syllables)
    firsts = [s.capitalize() for s in syllables[:_SYLLABLES_PER_SIDE]]
    seconds = syllables[_SYLLABLES_PER_SIDE : 2 * _SYLLABLES_PER_SIDE]
    names = [first + second for first in firsts for second in seconds]
    rng.shuffle(names)
    return names


def make_world(
    rng: random.Random,
    names: list[str],
    num_questions: int,
    *,
    prefix: str,
    shares: Mapping[str, float] = QUESTION_SHARES,
) -> World:
    """Makes a world whose entities have the given names.

    Args:
      rng: source of randomness.
      names: one per entity.
      num_questions: number of different questions.
      prefix: prefix of the ids of passages and questions.
      shares: share of each kind of question.
    """
    kinds = [
        kind
        for kind, rule in KINDS.items()
        for _ in range(round(rule.share * len(names)))
    ]
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name, kind in zip(names, kinds, strict=False):
        by_kind[kind].append(name)
    entities = {
        name: Entity(name, kind, _facts(rng, name, kind, by_kind))
        for kind, members in by_kind.items()
        for name in members
    }
    passages = tuple(
        Passage(id=f"{prefix}-{e.name}", contents=f'"{e.name}"\n{_sentence(e)}')
        for e in entities.values()
    )
    questions: dict[str, Question] = {}
    while len(questions) < num_questions:
        [shape] = rng.choices(list(shares), list(shares.values()))
        id = f"{prefix}-q{len(questions)}"
        if shape == "comparison":
            question = comparison_question(rng, entities, id)
        elif shape == "year":
            question = year_question(rng, entities, id)
        else:
            question = chain_question(rng, entities, int(shape), id)
        questions.setdefault(question.question, question)
    return World(passages=passages, questions=tuple(questions.values()))


def _facts(
    rng: random.Random, name: str, kind: str, by_kind: dict[str, list[str]]
) -> dict[str, str]:
    """Draws a value for every relation, never the entity itself or a value twice."""
    facts: dict[str, str] = {}
    for relation in KINDS[kind].relations:
        pool = YEARS if relation.target == "year" else by_kind[relation.target]
        taken = {name, *facts.values()}
        facts[relation.noun] = rng.choice([x for x in pool if x not in taken])
    return facts


def _sentence(entity: Entity) -> str:
    return KINDS[entity.kind].sentence.format(name=entity.name, **entity.facts)


def vocabulary(worlds: list[World]) -> list[str]:
    """Pieces for a tokenizer, from the words of these worlds.

    Words that occur in several worlds become whole pieces. Words of one world are
    names, which are split into their two syllables. "▁" is the space before a word.
    """
    counts: dict[str, int] = {}
    for world in worlds:
        texts = [q.question for q in world.questions]
        texts += [p.text for p in world.passages]
        texts += [s["think"] for q in world.questions for s in q.metadata["steps"]]
        for word in {w.strip("?,.") for text in texts for w in text.split()} - {""}:
            counts[word] = counts.get(word, 0) + 1
    common = sorted(w for w, n in counts.items() if n > 1)
    names = [w for w, n in counts.items() if n == 1]
    firsts = sorted({"▁" + name[:3] for name in names})
    seconds = sorted({name[3:] for name in names})
    openers = [word for word in ("Who", "What") if word in common]
    words = [f"▁{word}" for word in common if word not in openers]
    return [*"?,.", *openers, *words, *firsts, *seconds]
