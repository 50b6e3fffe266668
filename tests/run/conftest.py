"""The fixtures of tests/rollout."""

from tests.rollout.conftest import (
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
