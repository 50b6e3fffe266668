"""Questions about a generated world: chains, years and comparisons."""

import random

from jaxsearch.data.question import Question
from jaxsearch.data.world_schema import KINDS, Entity


def _mention(entity: Entity) -> str:
    return KINDS[entity.kind].mention.format(name=entity.name)


def chain_question(
    rng: random.Random, entities: dict[str, Entity], num_hops: int, id: str
) -> Question:
    """Makes a question that follows `num_hops` relations through different entities."""
    while True:
        start = rng.choice(list(entities.values()))
        nouns, names = [], [start.name]
        for _ in range(num_hops):
            entity = entities[names[-1]]
            relation = rng.choice(
                [r for r in KINDS[entity.kind].relations if r.target != "year"]
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


def year_question(rng: random.Random, entities: dict[str, Entity], id: str) -> Question:
    entity = rng.choice([e for e in entities.values() if KINDS[e.kind].is_comparable])
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


def comparison_question(
    rng: random.Random, entities: dict[str, Entity], id: str
) -> Question:
    """Makes a question about an attribute of the older or newer of two entities.

    The last step searches for the winner again, because a policy reads the latest
    passage most reliably.
    """
    kind = rng.choice([kind for kind, rule in KINDS.items() if rule.is_comparable])
    members = [e for e in entities.values() if e.kind == kind]
    attribute = rng.choice(
        [r.noun for r in KINDS[kind].relations if r.target != "year"]
    )
    while True:
        first, second = rng.sample(members, 2)
        years = (first.facts["year"], second.facts["year"])
        if years[0] != years[1] and first.facts[attribute] != second.facts[attribute]:
            break
    wanted = rng.choice(("older", "newer"))
    is_first = (years[0] < years[1]) == (wanted == "older")
    winner = first if is_first else second
    # The thought states which one wins before its name: first a decision, then a copy.
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
    """A step of a demonstration: thought, query, and the fact found in the passage.

    A thought starts with the fact from the last passage and ends with the fact that is
    still missing.
    """
    return {"think": thought, "query": query, "found": found}
