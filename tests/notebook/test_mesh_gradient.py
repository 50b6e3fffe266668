"""The gradient of an update on a mesh, and its costs."""

import jax
import numpy as np
import pytest

import jaxsearch
from jaxsearch.notebook.mesh_gradient import gradient_on_mesh, relative_difference
from jaxsearch.trajectory import Status, Trajectory


def trajectory(seed, length):
    """A row of random tokens, half of them the policy's."""
    rng = np.random.default_rng(seed)
    is_policy = rng.random(length) < 0.5
    is_policy[0] = False
    return Trajectory(
        question_id="",
        question="",
        golden_answers=(),
        prompt_index=0,
        sample_index=seed,
        tokens=rng.integers(1, 300, length, dtype=np.int32),
        is_policy=is_policy,
        logprobs=np.full(length, -6, np.float32),
        sampling_logprobs=np.full(length, -6, np.float32),
        prompt_len=1,
        segments=(),
        tool_calls=(),
        status=Status.ENDED,
    )


ROWS = [trajectory(seed, 20 + 5 * seed) for seed in range(5)]
ADVANTAGES = [-1.0, 0.5, -0.25, 1.0, -0.5]


@pytest.fixture(scope="module")
def policy():
    return jaxsearch.load_policy("jaxsearch:quickstart")


@pytest.mark.slow
def test_the_gradient_is_the_same_on_a_mesh_and_its_collectives_are_counted(policy):
    one = gradient_on_mesh(policy, ROWS, ADVANTAGES)
    assert max(abs(g).max() for g in jax.tree.leaves(one.grads)) > 0
    assert not one.measured.costs.collectives
    cube = jaxsearch.shard(policy, jaxsearch.MeshShape(data=2, fsdp=2, tensor=2))
    of_cube = gradient_on_mesh(cube, ROWS, ADVANTAGES)
    assert relative_difference(one.grads, of_cube.grads) < 1e-5
    assert of_cube.measured.costs.collectives["all-gather"]["fsdp"] > 0
    # Parameters and gradient are split four ways.
    held = 8 * policy.architecture.num_parameters
    assert held / 4 < of_cube.measured.held_bytes < held / 2 < held
    assert one.measured.held_bytes > held


def test_what_cannot_be_is_refused(policy):
    with pytest.raises(ValueError, match="at least one trajectory"):
        gradient_on_mesh(policy, [], [])
    with pytest.raises(ValueError, match="shorter"):
        gradient_on_mesh(policy, ROWS, [1.0])


def test_a_difference_is_relative_to_the_first():
    first = {"a": np.array([3.0]), "b": np.array([[4.0]])}
    second = {"a": np.array([3.0]), "b": np.array([[4.5]])}
    assert relative_difference(first, second) == pytest.approx(0.1)
