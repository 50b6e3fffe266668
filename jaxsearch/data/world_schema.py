"""Schema of a generated world: kinds of entities, their relations and sentences."""

import dataclasses

YEARS = tuple(str(year) for year in range(1880, 2000, 10))


@dataclasses.dataclass(frozen=True)
class Relation:
    """One fact about an entity: its name in questions, and the kind it points to."""

    noun: str
    target: str  # kind of entity, or "year"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of entity: share of a world, sentence of its passage, its relations."""

    share: float
    sentence: str
    relations: tuple[Relation, ...]
    mention: str  # how a question names such an entity
    is_comparable: bool = False


KINDS = {
    "person": Kind(
        0.40,
        "{name} was born in {birthplace} and married {spouse}.",
        (Relation("birthplace", "city"), Relation("spouse", "person")),
        "{name}",
    ),
    "city": Kind(
        0.15,
        "{name} is a city in {country} led by {mayor}.",
        (Relation("country", "country"), Relation("mayor", "person")),
        "{name}",
    ),
    "country": Kind(
        0.06,
        "{name} is a country ruled by {ruler} from {capital}.",
        (Relation("ruler", "person"), Relation("capital", "city")),
        "{name}",
    ),
    "company": Kind(
        0.13,
        "{name} is a company of {year} founded by {founder} in {seat}.",
        (
            *(Relation("founder", "person"), Relation("seat", "city")),
            Relation("year", "year"),
        ),
        "the company {name}",
        is_comparable=True,
    ),
    "film": Kind(
        0.14,
        "{name} is a film of {year} directed by {director}.",
        (Relation("director", "person"), Relation("year", "year")),
        "the film {name}",
        is_comparable=True,
    ),
    "book": Kind(
        0.12,
        "{name} is a book of {year} written by {author}.",
        (Relation("author", "person"), Relation("year", "year")),
        "the book {name}",
        is_comparable=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class Entity:
    name: str
    kind: str
    facts: dict[str, str]  # relation noun -> name of an entity, or a year
