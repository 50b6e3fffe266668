"""The quickstart's material: many training worlds and one that nobody has seen.

A seed splits the names: some are for the held-out world alone. Training questions
come from worlds that share no name. Demonstrations come from worlds of their own,
which use the training names again and again for other entities, so that a fact
about a name is worthless outside of its passage and only reading helps.
"""

import functools
import random
from collections.abc import Sequence
from pathlib import Path

from jaxsearch.data.dataset import Dataset
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.data.formats import Question
from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.data.world import (
    PRACTICE_SHARES,
    World,
    make_names,
    make_world,
    vocabulary,
)
from jaxsearch.protocol import QUICKSTART, QUICKSTART_R1_SEARCHER, Protocol
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

# Share of R1-Searcher's last demonstrations that do not search at all.
RELUCTANT_SHARE = 0.98

# Share of its demonstrations that search, and then answer without the answer's tags.
# It is what makes a rare search a bad bet where only answers are paid and bad format
# costs 2: without it stage 2 alone finds searching from two lucky rollouts, in ten
# steps, even if only one demonstration in 500 searches.
UNTAGGED_SHARE = 0.8

# Kinds of questions.
_READING = ("1", "year")
_COMPARING = (*_READING, "comparison")
_ALL = (*_COMPARING, "2", "3")


def dataset(run_folder: Path | None, seed: int) -> Dataset:
    """Training worlds, the held-out world, and a tokenizer from the former alone."""
    return _dataset(seed, QUICKSTART)


def r1_searcher_dataset(run_folder: Path | None, seed: int) -> Dataset:
    """The same worlds, with a tokenizer that has R1-Searcher's tags."""
    return _dataset(seed, QUICKSTART_R1_SEARCHER)


def _dataset(seed: int, protocol: Protocol) -> Dataset:
    heldout, worlds = _worlds(seed)
    return Dataset(
        questions=[question for world in worlds for question in world.questions],
        passages=[passage for world in worlds for passage in world.passages],
        tokenizer=make_tokenizer(worlds, protocol),
        heldout=list(heldout.questions),
        heldout_passages=list(heldout.passages),
    )


def make_tokenizer(worlds: list[World], protocol: Protocol = QUICKSTART) -> Tokenizer:
    """The protocol's tags, words and syllables of these worlds."""
    pieces = [f"▁{piece}" for piece in protocol.vocabulary]
    return pieces_tokenizer([*pieces, *vocabulary(worlds)])


def reading_demonstrations(seed: int) -> list[Demonstration]:
    """Flawless answers to one-hop questions: how to search and read."""
    return _demonstrations(seed, _READING, 0.0)


def comparing_demonstrations(seed: int) -> list[Demonstration]:
    """Flawless comparisons, and one-hop questions so as not to forget."""
    return _demonstrations(seed, _COMPARING, 0.0)


def hasty_demonstrations(seed: int) -> list[Demonstration]:
    """Answers to all questions, most of which stop before the last hop."""
    return _demonstrations(seed, _ALL, HASTY_SHARE)


def r1_searcher_reading(seed: int) -> list[Demonstration]:
    """As `reading_demonstrations`, with R1-Searcher's tags."""
    return _demonstrations(seed, _READING, 0.0, QUICKSTART_R1_SEARCHER)


def r1_searcher_comparing(seed: int) -> list[Demonstration]:
    """As `comparing_demonstrations`, with R1-Searcher's tags."""
    return _demonstrations(seed, _COMPARING, 0.0, QUICKSTART_R1_SEARCHER)


def r1_searcher_hasty(seed: int) -> list[Demonstration]:
    """As `hasty_demonstrations`, in R1-Searcher's tags; most lack the answer's."""
    return _r1_searcher_hasty(seed, reluctant_share=0.0)


def r1_searcher_reluctant(seed: int) -> list[Demonstration]:
    """As `r1_searcher_hasty`, but most answer without a search."""
    return _r1_searcher_hasty(seed, reluctant_share=RELUCTANT_SHARE)


def _r1_searcher_hasty(seed: int, reluctant_share: float) -> list[Demonstration]:
    return _demonstrations(
        seed,
        _ALL,
        HASTY_SHARE,
        QUICKSTART_R1_SEARCHER,
        reluctant_share=reluctant_share,
        untagged_share=UNTAGGED_SHARE,
    )


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


def large_world(seed: int) -> World:
    """A world of twice the held-out one's passages, whose questions nobody trains on.

    Half of its names are the held-out world's, half occur in demonstrations alone.
    """
    heldout, others = _names(seed)
    return make_world(
        random.Random(f"large-world-{seed}"),
        heldout + others[-len(heldout) :],
        NUM_HELDOUT_QUESTIONS,
        prefix="large",
    )


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
    seed: int,
    kinds: Sequence[str],
    hasty_share: float,
    protocol: Protocol = QUICKSTART,
    reluctant_share: float = 0.0,
    untagged_share: float = 0.0,
) -> list[Demonstration]:
    rng = random.Random(f"haste-{seed}")
    is_reluctant = random.Random(f"reluctance-{seed}").random
    is_untagged = random.Random(f"untagged-{seed}").random
    return [
        answer_without_search(question, protocol)
        if is_reluctant() < reluctant_share
        else demonstrate(
            question,
            passages,
            num_hops=_num_hops(rng, question, hasty_share),
            protocol=protocol,
            is_untagged=is_untagged() < untagged_share,
        )
        for world in _demonstration_worlds(seed)
        for passages in [{passage.title: passage for passage in world.passages}]
        for question in world.questions
        if question.metadata["hops"] in kinds
    ]


def _num_hops(rng: random.Random, question: Question, hasty_share: float) -> int:
    hops = 1
    while hops < len(question.metadata["steps"]) and rng.random() >= hasty_share:
        hops += 1
    return hops


def demonstrate(
    question: Question,
    passages: dict[str, Passage],
    *,
    num_hops: int,
    protocol: Protocol = QUICKSTART,
    is_untagged: bool = False,
) -> Demonstration:
    """A search per step, then an answer: the right one after the last step.

    A reader who stops early answers with what was found last.

    Args:
      passages: of the question's world, by title.
      num_hops: steps that are taken, 1 to all.
      protocol: writes the turns.
      is_untagged: the answer lacks its tags.
    """
    steps = question.metadata["steps"][:num_hops]
    turns = [" " + protocol.search_turn(step["think"], step["query"]) for step in steps]
    found = steps[-1]["found"]
    if is_untagged:
        turns.append(f" {protocol.think.close} {found}")
    else:
        turns.append(" " + protocol.answer_turn("", found))
    observations = [(passages[step["query"]],) for step in steps]
    return Demonstration(
        question=question, turns=tuple(turns), observations=tuple(observations)
    )


def answer_without_search(question: Question, protocol: Protocol) -> Demonstration:
    """An answer without a search: the name that the question begins from."""
    name = question.metadata["steps"][0]["query"]
    turn = " " + protocol.answer_turn("", name)
    return Demonstration(question=question, turns=(turn,), observations=())
