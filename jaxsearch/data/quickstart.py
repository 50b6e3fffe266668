"""Datasets and demonstrations of the quickstart, from generated worlds."""

import dataclasses
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from jaxsearch.data.dataset import Dataset
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.data.question import Question
from jaxsearch.data.quickstart_worlds import (
    demonstration_worlds,
    heldout_and_training_worlds,
)
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.data.world import World, vocabulary
from jaxsearch.protocol import QUICKSTART, QUICKSTART_R1_SEARCHER, Protocol
from jaxsearch.search.passages import Passage

# Share of demonstrations that stop too early, at each further hop. This leaves
# something for RL to learn: after the warm-up, the policy usually answers after the
# first passage and rarely searches further.
HASTY_SHARE = 0.6

# Share of demonstrations without any search in the last warm-up for R1-Searcher.
RELUCTANT_SHARE = 0.98

# Share of searching demonstrations whose answer has no tags. It makes rare searches
# unprofitable if only answers are rewarded and a bad format costs 2. Without it, stage
# 2 alone learns to search from two lucky rollouts within ten steps, even if only one
# demonstration in 500 searches.
UNTAGGED_SHARE = 0.8

# Kinds of questions, as in `metadata["hops"]`.
_READING = ("1", "year")
_COMPARING = (*_READING, "comparison")
_ALL = (*_COMPARING, "2", "3")


def dataset(run_folder: Path | None, seed: int) -> Dataset:
    """Training worlds, the held-out world, and a tokenizer of the training worlds."""
    return _dataset(seed, QUICKSTART)


def two_hop_dataset(run_folder: Path | None, seed: int) -> Dataset:
    """The same, but trained on two-hop questions alone."""
    return only_two_hop(dataset(run_folder, seed))


def only_two_hop(data: Dataset) -> Dataset:
    """A dataset without the training questions of other kinds."""
    questions = [q for q in data.questions if q.metadata["hops"] == "2"]
    return dataclasses.replace(data, questions=questions)


def r1_searcher_dataset(run_folder: Path | None, seed: int) -> Dataset:
    """The same worlds, with a tokenizer for R1-Searcher's tags."""
    return _dataset(seed, QUICKSTART_R1_SEARCHER)


def _dataset(seed: int, protocol: Protocol) -> Dataset:
    heldout, worlds = heldout_and_training_worlds(seed)
    return Dataset(
        questions=[question for world in worlds for question in world.questions],
        passages=[passage for world in worlds for passage in world.passages],
        tokenizer=make_tokenizer(worlds, protocol),
        heldout=list(heldout.questions),
        heldout_passages=list(heldout.passages),
    )


def make_tokenizer(worlds: list[World], protocol: Protocol = QUICKSTART) -> Tokenizer:
    """Makes a tokenizer of the protocol's tags and the words of these worlds."""
    pieces = [f"▁{piece}" for piece in protocol.vocabulary]
    return pieces_tokenizer([*pieces, *vocabulary(worlds)])


def reading_demonstrations(seed: int) -> list[Demonstration]:
    """Correct demonstrations of one-hop questions, to learn searching and reading."""
    return _demonstrations(seed, _READING, 0.0)


def comparing_demonstrations(seed: int) -> list[Demonstration]:
    """Correct demonstrations of comparisons, mixed with one-hop questions."""
    return _demonstrations(seed, _COMPARING, 0.0)


def hasty_demonstrations(seed: int) -> list[Demonstration]:
    """Demonstrations of all questions; most stop before the last hop."""
    return _demonstrations(seed, _ALL, HASTY_SHARE)


def r1_searcher_reading(seed: int) -> list[Demonstration]:
    """Same as `reading_demonstrations`, with R1-Searcher's tags."""
    return _demonstrations(seed, _READING, 0.0, QUICKSTART_R1_SEARCHER)


def r1_searcher_comparing(seed: int) -> list[Demonstration]:
    """Same as `comparing_demonstrations`, with R1-Searcher's tags."""
    return _demonstrations(seed, _COMPARING, 0.0, QUICKSTART_R1_SEARCHER)


def r1_searcher_hasty(seed: int) -> list[Demonstration]:
    """Same as `hasty_demonstrations` in R1-Searcher's tags; most answers lack tags."""
    return _r1_searcher_hasty(seed, reluctant_share=0.0)


def r1_searcher_reluctant(seed: int) -> list[Demonstration]:
    """Same as `r1_searcher_hasty`, but most demonstrations do not search."""
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
        for question, passages in with_passages(demonstration_worlds(seed), kinds)
    ]


def with_passages(
    worlds: Iterable[World], kinds: Collection[str]
) -> Iterator[tuple[Question, dict[str, Passage]]]:
    """Yields the questions of some numbers of hops, with their world's passages.

    Args:
      worlds: generated worlds.
      kinds: values of `hops` in the metadata of questions.

    Yields:
      A question, and the passages of its world by title.
    """
    for world in worlds:
        passages = {passage.title: passage for passage in world.passages}
        for question in world.questions:
            if question.metadata["hops"] in kinds:
                yield question, passages


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
    """Makes a demonstration with one search per step and an answer.

    The answer is right if all steps are made. A demonstration that stops earlier
    answers with the last fact found.

    Args:
      question: a question of a generated world.
      passages: passages of the question's world, by title.
      num_hops: number of steps, from 1 to all.
      protocol: writes the turns.
      is_untagged: whether to leave out the answer's tags.
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
    """Answers without a search, with the name that the question starts from."""
    name = question.metadata["steps"][0]["query"]
    turn = " " + protocol.answer_turn("", name)
    return Demonstration(question=question, turns=(turn,), observations=())
