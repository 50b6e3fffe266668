"""Schema of a generated world: kinds of entities, their relations and sentences."""

import dataclasses

YEARS = tuple(str(year) for year in range(1880, 2000, 10))


@dataclasses.dataclass(frozen=True)
class Relation:
    """A relation from an entity to another entity or a year."""

    noun: str  # its name in questions
    target: str  # kind of the other entity, or "year"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of entity."""

    share: float  # of the entities of a world
    sentence: str  # text of its passage
    relations: tuple[Relation, ...]
    mention: str  # how questions refer to an entity of this kind
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
    """An entity and its facts."""

    name: str
    kind: str
    facts: dict[str, str]  # relation noun -> name of an entity, or a year
