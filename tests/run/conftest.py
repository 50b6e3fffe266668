"""The fixtures of tests/rollouts."""

from tests.rollouts.conftest import (
    compilations,
    kit,
    questions,
    sampler,
    tight_sampler,
    trajectories,
)

__all__ = [
    "compilations",
    "kit",
    "questions",
    "sampler",
    "tight_sampler",
    "trajectories",
]
