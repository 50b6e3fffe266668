"""Worlds of the quickstart: held-out, training and demonstration worlds.

Some names are reserved for held-out worlds, whatever the seed, so that a policy meets
none of them in training, even if it was warmed up with another seed. Training worlds
share no names. Demonstration worlds reuse the training names for other entities, so
that a fact about a name is true in one world only, and a policy learns to read
passages.
"""

import functools
import random

from jaxsearch.data.world import PRACTICE_SHARES, World, make_names, make_world

NUM_WORLDS = 64
NUM_ENTITIES = 100  # per training world
NUM_QUESTIONS = 200  # per training world
NUM_RESERVED_NAMES = 2_000
NUM_HELDOUT_ENTITIES = 200
NUM_HELDOUT_QUESTIONS = 200
NUM_DEMONSTRATION_WORLDS = 300
NUM_DEMONSTRATIONS = 100  # per demonstration world


@functools.lru_cache(maxsize=1)
def heldout_and_training_worlds(seed: int) -> tuple[World, list[World]]:
    """Makes the held-out world and the training worlds."""
    heldout_names, names = _split_names(seed)
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
    """Makes a world with twice the passages of the held-out world, for evaluation.

    Half of its names are those of the held-out world; the others occur only in
    demonstrations.
    """
    heldout, others = _split_names(seed)
    return make_world(
        random.Random(f"large-world-{seed}"),
        heldout + others[-len(heldout) :],
        NUM_HELDOUT_QUESTIONS,
        prefix="large",
    )


def _split_names(seed: int) -> tuple[list[str], list[str]]:
    """Names of the seed's held-out world, and all names that are not reserved."""
    names, rng = make_names(), random.Random(f"names-{seed}")
    reserved, others = names[:NUM_RESERVED_NAMES], names[NUM_RESERVED_NAMES:]
    return rng.sample(reserved, NUM_HELDOUT_ENTITIES), rng.sample(others, len(others))


@functools.lru_cache(maxsize=1)
def demonstration_worlds(seed: int) -> list[World]:
    """Makes the worlds of the demonstrations."""
    _, names = _split_names(seed)
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
