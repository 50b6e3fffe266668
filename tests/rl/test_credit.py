"""The interface of advantage estimators, and credit per turn down to the gradient."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsearch.config import RLStage
from jaxsearch.rl.advantages import group_relative, plain_reward
from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.credit import (
    Requirements,
    requirements_of,
    requires,
    token_advantages,
)
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.rows import rollout_row
from jaxsearch.rl.update import Updater, begin_stage
from jaxsearch.trajectory import Status
from tests.test_dropped_rollouts import estimate, make_trajectory, outcome

VOCAB = 16
#       prompt | turn | observation | turn | observation | turn
TURNS = [False] * 2 + [True] * 3 + [False] * 2 + [True] + [False] * 3 + [True] * 2
TURN_OF = [None] * 2 + [0] * 3 + [None] * 2 + [1] + [None] * 3 + [2] * 2


def with_turns(trajectory, is_policy):
    is_policy = np.asarray(is_policy)
    length = len(is_policy)
    return dataclasses.replace(
        trajectory,
        tokens=np.arange(length, dtype=np.int32) % VOCAB,
        is_policy=is_policy,
        logprobs=np.full(length, -2.5, np.float32),
        sampling_logprobs=np.full(length, -2.5, np.float32),
        prompt_len=2,
    )


@pytest.fixture
def step():
    """Two groups of two; the first rollout has three turns, the others have two."""
    rng = np.random.default_rng(0)
    trajectories = [make_trajectory(rng, i // 2, i % 2) for i in range(4)]
    shapes = [TURNS, TURNS[:8], TURNS[:8], TURNS[:10]]
    trajectories = [
        with_turns(t, shape) for t, shape in zip(trajectories, shapes, strict=True)
    ]
    return trajectories, [outcome(reward) for reward in (1.0, 0.0, 0.25, 0.5)]


def test_one_value_per_rollout(step):
    advantages = estimate(*step, plain_reward, group_size=2)
    assert advantages == [1.0, 0.0, 0.25, 0.5]


def per_question(rewards, is_kept):
    return rewards.mean(axis=1)


def transposed(rewards, is_kept):
    return jnp.zeros((*rewards.shape, 2))


@pytest.mark.parametrize(
    ("estimator", "got"), [(per_question, r"\(2,\)"), (transposed, r"\(2, 2, 2\)")]
)
def test_another_shape_is_refused_in_one_line(step, estimator, got):
    wanted = r"\[Q G\] = \(2, 2\), or per turn \[Q G turns\] = \(2, 2, 3\); got shape "
    with pytest.raises(ValueError, match=wanted + got) as error:
        estimate(*step, estimator, group_size=2)
    assert f"{__name__}:{estimator.__name__}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [[[1.0], [1.0, 2.0]], "text", None, {}])
def test_an_estimator_that_returns_no_array_is_named(step, values):
    def broken(rewards, is_kept):
        return values

    with pytest.raises(ValueError, match="advantage estimator .*broken must return an"):
        estimate(*step, broken, group_size=2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused_by_its_question(step, bad):
    def broken(rewards, is_kept):
        return rewards.at[1, 0].set(bad)

    with pytest.raises(ValueError, match=r"broken must return finite .* question 'q1'"):
        estimate(*step, broken, group_size=2)
    trajectories, outcomes = step
    trajectories[2] = dataclasses.replace(trajectories[2], status=Status.TOOL_FAILED)
    assert estimate(*step, broken, group_size=2) == [1.0, 0.0, None, 0.5]


@requires(rollouts=True, min_group_size=1)
def last_turn_only(rewards, is_kept, rollouts):
    """Assigns the reward to the last turn of each rollout."""
    num_turns = rollouts.num_turns
    assert num_turns.tolist() == [[3, 2], [2, 2]]
    assert len(rollouts.trajectories) == len(rollouts.outcomes) == 4
    values = np.full((*rewards.shape, num_turns.max()), np.nan)
    for index, count in np.ndenumerate(num_turns):
        values[index][: count - 1] = 0.0
        values[index][count - 1] = rewards[index]
    return values


def test_one_value_per_turn_and_none_beyond_a_rollouts_turns(step):
    advantages = estimate(*step, last_turn_only, group_size=2)
    assert advantages == [[0.0, 0.0, 1.0], [0.0, 0.0], [0.0, 0.25], [0.0, 0.5]]


def test_a_turns_value_is_that_of_its_tokens_alone(step):
    trajectory = step[0][0]
    values = token_advantages(trajectory, [3.0, -1.0, 0.5])
    for value, turn in zip(values, TURN_OF, strict=True):
        if turn is not None:
            assert value == [3.0, -1.0, 0.5][turn]
    assert (values[:2] == 0.0).all()  # the prompt
    assert token_advantages(trajectory, 0.5) == 0.5


def gradient_of_hidden(trajectory, advantages):
    """Gradients of the hidden states, which are the parameters here."""
    row = rollout_row(trajectory, token_advantages(trajectory, advantages))
    [batch] = microbatches([row], row_lens=[16], max_tokens=16)
    key = jax.random.key(0)
    params = {
        "hidden": jax.random.normal(key, (1, 16, 8)),
        "head": 0.1 * jax.random.normal(key, (VOCAB, 8)),
    }
    updater = Updater(
        forward=lambda params, tokens, segments: params["hidden"],
        head=lambda params: params["head"],
        # No token's ratio is clipped, so the gradient is linear in the advantage.
        objective=PolicyObjective(kl_weight=0.0, clip_low=0.99, clip_high=99.0),
        optimizer=optax.sgd(1.0),
    )
    state = begin_stage(params, updater.optimizer, needs_reference=False)
    sums, _ = updater.gradient_sums(state, [batch])
    # A token is predicted from the position before it.
    return np.asarray(sums["hidden"])[0, : len(trajectory.tokens) - 1]


def test_the_gradient_of_a_token_has_the_weight_of_its_turn(step):
    trajectory = step[0][0]
    weights = [2.0, 0.0, -0.5]
    of_one = gradient_of_hidden(trajectory, 1.0)
    found = gradient_of_hidden(trajectory, weights)
    for position, turn in enumerate(TURN_OF[1:]):
        if turn is None:
            assert (found[position] == 0.0).all()
            continue
        assert np.linalg.norm(of_one[position]) > 0.0
        expected = weights[turn] * of_one[position]
        np.testing.assert_allclose(found[position], expected, rtol=1e-5, atol=1e-8)


def test_what_an_estimator_declares():
    assert requirements_of(group_relative) == Requirements()
    assert requirements_of(lambda rewards, is_kept: rewards) == Requirements()
    assert requirements_of(plain_reward).min_group_size == 1
    assert requirements_of(functools.partial(last_turn_only)).rollouts
    stage = RLStage(name="rl", steps=1, group_size=1, advantage=last_turn_only)
    assert stage.group_size == 1
    with pytest.raises(ValueError, match="group_size must be at least 2, got 1"):
        RLStage(name="rl", steps=1, group_size=1, advantage=per_question)
