"""The fixtures of tests/search and tests/rollout."""

from tests.rollout.conftest import (
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
