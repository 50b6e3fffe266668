"""The fixtures of tests/search and tests/rollouts."""

from tests.rollouts.conftest import (
    compilations,
    kit,
    questions,
    sampler,
    tight_sampler,
    trajectories,
)
from tests.search.conftest import encoder, passages, queries, wiki

__all__ = [
    "compilations",
    "encoder",
    "kit",
    "passages",
    "queries",
    "questions",
    "sampler",
    "tight_sampler",
    "trajectories",
    "wiki",
]
