"""A generated encyclopedia of invented people, places, companies, films and books.

Nothing in it can be known beforehand: names are random syllables, and no name of
one world occurs in another. One passage per entity, questions of one to three hops
and comparisons, in the manner of 2WikiMultiHopQA (Ho et al. 2020, arXiv:2011.01060).
A comparison asks for an attribute of the winner, never for its name or for yes or
no, so that guessing earns nothing.
"""

import dataclasses
import random
from collections.abc import Mapping

from jaxsearch.data.formats import Question
from jaxsearch.search.passages import Passage

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_YEARS = tuple(str(year) for year in range(1880, 2000, 10))
_SYLLABLES_PER_SIDE = 112  # 12,544 names


@dataclasses.dataclass(frozen=True)
class _Relation:
    """One fact about an entity: its name in questions, and the kind it points to."""

    noun: str
    target: str  # kind of entity, or "year"


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A kind of entity: share of a world, sentence of its passage, its relations."""

    share: float
    sentence: str
    relations: tuple[_Relation, ...]
    mention: str  # how a question names such an entity
    is_comparable: bool = False


_KINDS = {
    "person": _Kind(
        0.40,
        "{name} was born in {birthplace} and married {spouse}.",
        (_Relation("birthplace", "city"), _Relation("spouse", "person")),
        "{name}",
    ),
    "city": _Kind(
        0.15,
        "{name} is a city in {country} led by {mayor}.",
        (_Relation("country", "country"), _Relation("mayor", "person")),
        "{name}",
    ),
    "country": _Kind(
        0.06,
        "{name} is a country ruled by {ruler} from {capital}.",
        (_Relation("ruler", "person"), _Relation("capital", "city")),
        "{name}",
    ),
    "company": _Kind(
        0.13,
        "{name} is a company of {year} founded by {founder} in {seat}.",
        (
            *(_Relation("founder", "person"), _Relation("seat", "city")),
            _Relation("year", "year"),
        ),
        "the company {name}",
        is_comparable=True,
    ),
    "film": _Kind(
        0.14,
        "{name} is a film of {year} directed by {director}.",
        (_Relation("director", "person"), _Relation("year", "year")),
        "the film {name}",
        is_comparable=True,
    ),
    "book": _Kind(
        0.12,
        "{name} is a book of {year} written by {author}.",
        (_Relation("author", "person"), _Relation("year", "year")),
        "the book {name}",
        is_comparable=True,
    ),
}

# 2WikiMultiHopQA has about as many comparisons as chains; fewer one-hop questions
# keep the start low, since those need no chain at all.
QUESTION_SHARES = {"1": 0.2, "2": 0.4, "3": 0.2, "comparison": 0.2}
# A year is one of twelve, so asking for it is good practice but a poor test.
PRACTICE_SHARES = {"1": 0.3, "year": 0.1, "2": 0.2, "3": 0.2, "comparison": 0.2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """One encyclopedia with its questions."""

    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]


@dataclasses.dataclass(frozen=True)
class _Entity:
    name: str
    kind: str
    facts: dict[str, str]  # relation noun -> name of an entity, or a year


def make_names(rng: random.Random) -> list[str]:
    """All names there are, shuffled: two syllables each."""
    syllables = [a + b + c for a in _CONSONANTS for b in _VOWELS for c in _CONSONANTS]
    rng.shuffle(syllables)
    broadcast_from_primary = [s.capitalize() for s in syllables[:_SYLLABLES_PER_SIDE]]
    seconds = syllables[_SYLLABLES_PER_SIDE : 2 * _SYLLABLES_PER_SIDE]
    names = [first + second for first in broadcast_from_primary for second in seconds]
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
    """A world of entities with these names.

    Args:
      prefix: of the ids of its passages and questions.
      shares: of the kinds of questions.
    """
    kinds = [
        kind
        for kind, rule in _KINDS.items()
        for _ in range(round(rule.share * len(names)))
    ]
    by_kind: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name, kind in zip(names, kinds, strict=False):
        by_kind[kind].append(name)
    entities = {
        name: _Entity(name, kind, _facts(rng, name, kind, by_kind))
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
            question = _comparison(rng, entities, id)
        elif shape == "year":
            question = _year(rng, entities, id)
        else:
            question = _chain(rng, entities, int(shape), id)
        questions.setdefault(question.question, question)
    return World(passages=passages, questions=tuple(questions.values()))


def _facts(
    rng: random.Random, name: str, kind: str, by_kind: dict[str, list[str]]
) -> dict[str, str]:
    """A value for every relation; an entity never points to itself or twice to one."""
    facts: dict[str, str] = {}
    for relation in _KINDS[kind].relations:
        pool = _YEARS if relation.target == "year" else by_kind[relation.target]
        taken = {name, *facts.values()}
        facts[relation.noun] = rng.choice([x for x in pool if x not in taken])
    return facts


def _sentence(entity: _Entity) -> str:
    return _KINDS[entity.kind].sentence.format(name=entity.name, **entity.facts)


def _mention(entity: _Entity) -> str:
    return _KINDS[entity.kind].mention.format(name=entity.name)


def _chain(
    rng: random.Random, entities: dict[str, _Entity], num_hops: int, id: str
) -> Question:
    """A question that follows `num_hops` relations, none of them back to its start."""
    while True:
        start = rng.choice(list(entities.values()))
        nouns, names = [], [start.name]
        for _ in range(num_hops):
            entity = entities[names[-1]]
            relation = rng.choice(
                [r for r in _KINDS[entity.kind].relations if r.target != "year"]
            )
            nouns.append(relation.noun)
            names.append(entity.facts[relation.noun])
        if len(set(names)) == num_hops + 1:
            break
    asked = " of ".join(f"the {noun}" for noun in reversed(nouns))
    who = "Who" if entities[names[-1]].kind == "person" else "What"
    steps = [
        _step(f"{name} {noun}", name, found)
        for name, noun, found in zip(names, nouns, names[1:], strict=False)
    ]
    return Question(
        id=id,
        question=f"{who} is {asked} of {_mention(start)}?",
        golden_answers=(names[-1],),
        metadata={"hops": str(num_hops), "steps": steps},
    )


def _year(rng: random.Random, entities: dict[str, _Entity], id: str) -> Question:
    entity = rng.choice([e for e in entities.values() if _KINDS[e.kind].is_comparable])
    year = entity.facts["year"]
    return Question(
        id=id,
        question=f"What is the year of {_mention(entity)}?",
        golden_answers=(year,),
        metadata={
            "hops": "year",
            "steps": [_step(f"{entity.name} year", entity.name, year)],
        },
    )


def _comparison(rng: random.Random, entities: dict[str, _Entity], id: str) -> Question:
    """Asks for an attribute of the older or newer of two entities of a kind.

    Its last step looks the winner up again: what was read last is what a reader
    finds most easily.
    """
    kind = rng.choice([kind for kind, rule in _KINDS.items() if rule.is_comparable])
    members = [e for e in entities.values() if e.kind == kind]
    attribute = rng.choice(
        [r.noun for r in _KINDS[kind].relations if r.target != "year"]
    )
    while True:
        first, second = rng.sample(members, 2)
        years = (first.facts["year"], second.facts["year"])
        if years[0] != years[1] and first.facts[attribute] != second.facts[attribute]:
            break
    wanted = rng.choice(("older", "newer"))
    is_first = (years[0] < years[1]) == (wanted == "older")
    winner = first if is_first else second
    # Which one wins is said before its name: one decision, then a plain copy.
    place = "first" if is_first else "second"
    who = "Who" if entities[winner.facts[attribute]].kind == "person" else "What"
    return Question(
        id=id,
        question=f"{who} is the {attribute} of the {wanted} {kind}, "
        f"{first.name} or {second.name}?",
        golden_answers=(winner.facts[attribute],),
        metadata={
            "hops": "comparison",
            "steps": [
                _step(f"{first.name} year", first.name, years[0]),
                _step(f"{years[0]} {second.name} year", second.name, years[1]),
                _step(
                    f"{years[1]} {wanted} {place} {winner.name} {attribute}",
                    winner.name,
                    winner.facts[attribute],
                ),
            ],
        },
    )


def _step(thought: str, query: str, found: str) -> dict[str, str]:
    """A turn of a demonstration, and what its passage says about what was missing.

    A thought begins with what the last passage said, then says what is missing.
    """
    return {"think": thought, "query": query, "found": found}


def vocabulary(worlds: list[World]) -> list[str]:
    """Pieces for a tokenizer, from the words of these worlds and nothing else.

    Words of several worlds are whole pieces; those of one world are names, each
    cut into its two syllables. "▁" marks the space before a word.
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
    broadcast_from_primary = sorted({"▁" + name[:3] for name in names})
    seconds = sorted({name[3:] for name in names})
    openers = [word for word in ("Who", "What") if word in common]
    words = [f"▁{word}" for word in common if word not in openers]
    return [*"?,.", *openers, *words, *broadcast_from_primary, *seconds]
