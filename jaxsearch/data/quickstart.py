"""The quickstart's material: many training worlds and one that nobody has seen.

A seed splits the names: some are for the held-out world alone. Training questions
come from worlds that share no name. Demonstrations come from worlds of their own,
which use the training names again and again for other entities, so that a fact
about a name is worthless outside of its passage and only reading helps.
"""

import functools
import random
from collections.abc import Callable
from pathlib import Path

from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.data.formats import Question
from jaxsearch.data.material import Material
from jaxsearch.data.tokenizer import Tokenizer, pieces_tokenizer
from jaxsearch.data.world import (
    PRACTICE_SHARES,
    World,
    make_names,
    make_world,
    vocabulary,
)
from jaxsearch.protocol import RESEARCH
from jaxsearch.search.passages import Passage

NUM_WORLDS = 64
NUM_ENTITIES = 100  # of a training world
NUM_QUESTIONS = 200  # of a training world
NUM_HELDOUT_ENTITIES = 200
NUM_HELDOUT_QUESTIONS = 200
NUM_DEMONSTRATION_WORLDS = 300
NUM_DEMONSTRATIONS = 100  # of such a world

# Share of demonstrations that stop too early at each further hop. It is what leaves
# reinforcement something to do: the warm-up's most likely behaviour is to answer
# after the first passage, and only chance goes on.
HASTY_SHARE = 0.6


def material(run_folder: Path | None, seed: int) -> Material:
    """Training worlds, the held-out world, and a tokenizer from the former alone."""
    heldout, worlds = _worlds(seed)
    return Material(
        questions=[question for world in worlds for question in world.questions],
        passages=[passage for world in worlds for passage in world.passages],
        tokenizer=make_tokenizer(worlds),
        heldout=list(heldout.questions),
        heldout_passages=list(heldout.passages),
    )


def make_tokenizer(worlds: list[World]) -> Tokenizer:
    """Tags, words and syllables of these worlds."""
    pieces = [f"▁{tag}" for tag in (*RESEARCH.control_tags, r"\boxed{", "}")]
    return pieces_tokenizer([*pieces, *vocabulary(worlds)])


def reading_demonstrations(seed: int) -> list[Demonstration]:
    """Flawless answers to one-hop questions: how to search and read."""
    return _demonstrations(seed, lambda q: q.metadata["hops"] in ("1", "year"), 0.0)


def comparing_demonstrations(seed: int) -> list[Demonstration]:
    """Flawless comparisons, and one-hop questions so as not to forget."""
    return _demonstrations(
        seed, lambda q: q.metadata["hops"] in ("1", "year", "comparison"), 0.0
    )


def hasty_demonstrations(seed: int) -> list[Demonstration]:
    """Answers to all questions, most of which stop before the last hop."""
    return _demonstrations(seed, lambda question: True, HASTY_SHARE)


@functools.lru_cache(maxsize=1)
def _worlds(seed: int) -> tuple[World, list[World]]:
    heldout_names, names = _names(seed)
    rng = random.Random(f"worlds-{seed}")
    heldout = make_world(rng, heldout_names, NUM_HELDOUT_QUESTIONS, prefix="heldout")
    worlds = [
        make_world(
            rng,
            names[i * NUM_ENTITIES : (i + 1) * NUM_ENTITIES],
            NUM_QUESTIONS,
            prefix=f"world{i}",
        )
        for i in range(NUM_WORLDS)
    ]
    return heldout, worlds


def _names(seed: int) -> tuple[list[str], list[str]]:
    names = make_names(random.Random(f"names-{seed}"))
    return names[:NUM_HELDOUT_ENTITIES], names[NUM_HELDOUT_ENTITIES:]


@functools.lru_cache(maxsize=1)
def _demonstration_worlds(seed: int) -> list[World]:
    _, names = _names(seed)
    rng = random.Random(f"demonstrations-{seed}")
    return [
        make_world(
            rng,
            rng.sample(names, NUM_ENTITIES),
            NUM_DEMONSTRATIONS,
            prefix=f"practice{i}",
            shares=PRACTICE_SHARES,
        )
        for i in range(NUM_DEMONSTRATION_WORLDS)
    ]


def _demonstrations(
    seed: int, is_wanted: Callable[[Question], bool], hasty_share: float
) -> list[Demonstration]:
    rng = random.Random(f"haste-{seed}")
    return [
        demonstrate(question, passages, num_hops=_num_hops(rng, question, hasty_share))
        for world in _demonstration_worlds(seed)
        for passages in [{passage.title: passage for passage in world.passages}]
        for question in world.questions
        if is_wanted(question)
    ]


def _num_hops(rng: random.Random, question: Question, hasty_share: float) -> int:
    hops = 1
    while hops < len(question.metadata["steps"]) and rng.random() >= hasty_share:
        hops += 1
    return hops


def demonstrate(
    question: Question, passages: dict[str, Passage], *, num_hops: int
) -> Demonstration:
    """A search per step, then an answer: the right one after the last step.

    A reader who stops early answers with what was found last.

    Args:
      passages: of the question's world, by title.
      num_hops: steps that are taken, 1 to all.
    """
    steps = question.metadata["steps"][:num_hops]
    turns = [
        f" <think> {step['think']} </think> <search> {step['query']} </search>"
        for step in steps
    ]
    turns.append(rf" <answer> \boxed{{ {steps[-1]['found']} }} </answer>")
    observations = [(passages[step["query"]],) for step in steps]
    return Demonstration(
        question=question, turns=tuple(turns), observations=tuple(observations)
    )
