"""The updates of an RL step: minibatches, weights, KL in the reward, importance."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.config import RLStage
from jaxsearch.mesh import put_batch, row_multiple
from jaxsearch.metrics import summarise
from jaxsearch.rewards import tasks
from jaxsearch.rewards.judge import Judged
from jaxsearch.rewards.shaping import apply_overlong_penalty
from jaxsearch.rl.advantages import group_centred, leave_one_out, plain_reward
from jaxsearch.rl.aggregation import fixed_length, sequence_mean, token_mean
from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.credit import lacks_signal
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.rl.rows import rollout_row, unmasked
from jaxsearch.rl.update import begin_stage
from jaxsearch.run.build import open_run
from jaxsearch.run.updates import make_policy_update
from jaxsearch.trajectory import Status
from tests.test_dropped_rollouts import estimate, make_trajectory, outcome
from tests.tiny import tiny_config

DROPPING = dict(drops_zero_advantages=True)
BALANCED = dict(objective=PolicyObjective(kl_weight=0.01, entropy_weight=0.01))
REWARDS = (1.0, 0.0, 0.5, 0.0, 0.2, 0.8, 0.1, 0.1, 0.0, 1.0, 1.0, 0.7)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run(tiny_config(tmp_path_factory.mktemp("run")))


@pytest.fixture
def rollouts():
    """Four groups of three; a search of one rollout has failed."""
    rng = np.random.default_rng(0)
    trajectories = [make_trajectory(rng, i // 3, i % 3) for i in range(12)]
    trajectories[4] = dataclasses.replace(trajectories[4], status=Status.TOOL_FAILED)
    trajectories = [
        dataclasses.replace(t, sampling_logprobs=(t.logprobs - 4.2).astype(np.float32))
        for t in trajectories
    ]
    return trajectories, [outcome(reward) for reward in REWARDS]


def stage_of(**changes):
    options = dict(
        name="search",
        steps=1,
        task=tasks.QUICKSTART,
        questions_per_step=4,
        group_size=3,
        max_tokens=256,
        objective=PolicyObjective(kl_weight=0.0),
    )
    return RLStage(**options | changes)


def begun(run, stage):
    """An updater, and a state whose reference is a different policy."""
    updater = run.updater(stage, stage.objective, 1.0, {})
    params = run.initial_params()
    state = begin_stage(params, updater.optimizer, needs_reference=True)
    return updater, state._replace(
        reference=jax.tree.map(lambda x: x * 1.1, state.params)
    )


def learned(run, stage, rollouts):
    updater, state = begun(run, stage)
    update = make_policy_update(run, stage, updater)
    trajectories, outcomes = rollouts
    advantages = estimate(trajectories, outcomes, stage.advantage, stage.group_size)
    state, metrics = update(state, trajectories, advantages)
    return jax.device_get(state.params), summarise(metrics), advantages


def by_hand(run, stage, parts):
    """The same from rows with one advantage per token: (rows, divisor) per update."""
    updater, state = begun(run, stage)
    for rows, divisor in parts:
        batches = microbatches(
            [row for row, _ in rows],
            row_lens=run.row_lens,
            max_tokens=16 * run.row_lens[0],
            row_multiple=row_multiple(run.mesh),
        )
        [batch] = batches  # all rows fit the shortest row length
        order = np.argsort([len(row.tokens) for row, _ in rows], kind="stable")
        for place, i in enumerate(order):
            values = rows[i][1]
            batch.advantages[place, : len(values)] = values
        state, _ = updater.update(state, [put_batch(run.mesh, batch)], divisor)
    return jax.device_get(state.params)


def assert_moved_alike(found, wanted, start):
    moves = 0
    for got, want, was in zip(
        *map(jax.tree.leaves, (found, wanted, start)), strict=True
    ):
        moved = np.linalg.norm(want - was)
        moves += moved > 0.0
        assert np.linalg.norm(got - want) <= 2e-3 * moved
    assert moves > 5


def row_of(trajectory, weight=1.0):
    return rollout_row(trajectory)._replace(weight=weight)


def flat(trajectory, advantage):
    return np.full(len(trajectory.tokens), advantage, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("minibatches_per_step", "cuts"),
    # The fifth rollout has no advantage and is left out. With six updates of two
    # rollouts each, groups of three are split.
    [(2, [5]), (6, [2, 4, 5, 7, 9])],
)
def test_several_updates_take_the_rollouts_in_order(
    run, rollouts, minibatches_per_step, cuts
):
    stage = stage_of(minibatches_per_step=minibatches_per_step, advantage=leave_one_out)
    found, metrics, advantages = learned(run, stage, rollouts)
    rows = [
        (row_of(t), flat(t, a))
        for t, a in zip(rollouts[0], advantages, strict=True)
        if a is not None
    ]
    assert len(rows) == 11
    bounds = itertools.pairwise([0, *cuts, len(rows)])
    parts = [(rows[start:end], None) for start, end in bounds]
    start = jax.device_get(run.initial_params())
    assert_moved_alike(found, by_hand(run, stage, parts), start)
    assert metrics["skipped"] == 0.0 and metrics["grad_norm"] > 0.0


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", [sequence_mean, fixed_length])
def test_losses_are_weighed_as_the_stage_says(run, rollouts, aggregation):
    stage = stage_of(aggregation=aggregation, advantage=group_centred)
    found, _, advantages = learned(run, stage, rollouts)
    kept = [
        (t, a) for t, a in zip(rollouts[0], advantages, strict=True) if a is not None
    ]
    rows = [
        (
            row_of(t, 1.0 / t.is_policy.sum() if aggregation is sequence_mean else 1.0),
            flat(t, a),
        )
        for t, a in kept
    ]
    divisor = 11.0 if aggregation is sequence_mean else 11.0 * 120
    start = jax.device_get(run.initial_params())
    assert_moved_alike(found, by_hand(run, stage, [(rows, divisor)]), start)


def logprobs_under(run, stage, params_of, trajectories):
    """Log-probs of each rollout's tokens, with one rollout per row."""
    updater, state = begun(run, stage)
    for t in trajectories:
        [batch] = microbatches(
            [row_of(t)],
            row_lens=run.row_lens,
            max_tokens=1,
            row_multiple=row_multiple(run.mesh),
        )
        found = updater.logprobs_of(params_of(state), put_batch(run.mesh, batch))
        yield np.asarray(found)[0, : len(t.tokens)]


def test_kl_in_the_reward_then_normalisation_over_all_policy_tokens(run, rollouts):
    """REINFORCE++: reward minus the KL from each token on, mean 0, variance 1."""
    stage = stage_of(
        advantage=plain_reward, reward_kl_weight=0.05, whiten_advantages=True
    )
    found, metrics, _ = learned(run, stage, rollouts)
    kept = [(t, o.reward) for t, o in zip(*rollouts, strict=True) if t.is_kept]
    references = logprobs_under(
        run, stage, lambda state: state.reference, [t for t, _ in kept]
    )
    returns, kls = [], []
    for (t, reward), reference in zip(kept, references, strict=True):
        kl = np.where(t.is_policy, t.logprobs - reference, 0.0)
        returns.append(reward - 0.05 * np.cumsum(kl[::-1])[::-1])
        kls.append(kl[t.is_policy])
    counted = np.concatenate(
        [x[t.is_policy] for x, (t, _) in zip(returns, kept, strict=True)]
    )
    rows = [
        (row_of(t), (x - counted.mean()) / counted.std())
        for x, (t, _) in zip(returns, kept, strict=True)
    ]
    start = jax.device_get(run.initial_params())
    assert_moved_alike(found, by_hand(run, stage, [(rows, None)]), start)
    kl = np.concatenate(kls).mean()
    np.testing.assert_allclose(metrics["reward_kl"], kl, rtol=1e-4)


def test_truncated_importance(run, rollouts):
    """Old log-probs are the trainer's; weights compare them with the sampler's."""
    stage = stage_of(max_importance=2.0, advantage=leave_one_out)
    found, metrics, advantages = learned(run, stage, rollouts)
    kept = [
        (t, a) for t, a in zip(rollouts[0], advantages, strict=True) if a is not None
    ]
    own = list(
        logprobs_under(run, stage, lambda state: state.params, [t for t, _ in kept])
    )
    rows, weights = [], []
    for (t, a), logprobs in zip(kept, own, strict=True):
        weight = np.minimum(np.exp(logprobs - t.sampling_logprobs), 2.0)
        row = row_of(t)._replace(behavior_logprobs=logprobs.astype(np.float32))
        rows.append((row, a * weight))
        weights.append(weight[t.is_policy])
    weights = np.concatenate(weights)
    assert 0.0 < (weights == 2.0).mean() < 1.0
    start = jax.device_get(run.initial_params())
    assert_moved_alike(found, by_hand(run, stage, [(rows, None)]), start)
    np.testing.assert_allclose(metrics["importance/mean"], weights.mean(), rtol=1e-4)
    np.testing.assert_allclose(
        metrics["importance/cut"], (weights == 2.0).mean(), rtol=1e-5
    )
    # Drift is relative to the sampler's log-probs before top-k or top-p truncation.
    drift = np.concatenate(
        [
            np.abs(logprobs - t.logprobs)[t.is_policy]
            for (t, _), logprobs in zip(kept, own, strict=True)
        ]
    )
    np.testing.assert_allclose(metrics["logprob_drift/mean"], drift.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["logprob_drift/max"], drift.max(), rtol=1e-4)


def test_unmasked_control_counts_observations(run, rollouts):
    stage = stage_of(has_masked_observations=False, advantage=leave_one_out)
    found, _, advantages = learned(run, stage, rollouts)
    kept = [
        (t, a) for t, a in zip(rollouts[0], advantages, strict=True) if a is not None
    ]
    rows = []
    for t, a in kept:
        row = unmasked(row_of(t), t.prompt_len)
        everything = dataclasses.replace(t, is_policy=row.loss_mask)
        [own] = logprobs_under(run, stage, lambda state: state.params, [everything])
        rows.append(
            (row._replace(behavior_logprobs=own.astype(np.float32)), flat(t, a))
        )
    start = jax.device_get(run.initial_params())
    assert_moved_alike(found, by_hand(run, stage, [(rows, None)]), start)


def test_what_the_policy_writes_near_its_budget_costs_reward(rollouts):
    trajectories, outcomes = rollouts
    judged = Judged(trajectories, outcomes, [{}] * len(outcomes))
    lengths = [int(t.is_policy.sum()) for t in trajectories]
    limit = max(lengths)
    shaped = apply_overlong_penalty(judged, max_len=limit, buffer=3).outcomes
    advantages = estimate(trajectories, shaped, plain_reward, group_size=3)
    costs = []
    for t, before, o, a in zip(*rollouts, shaped, advantages, strict=True):
        costs.append(min(max((t.is_policy.sum() - (limit - 3)) / 3, 0.0), 1.0))
        assert o.reward == pytest.approx(before.reward - costs[-1])
        assert o.terms["overlong"] == pytest.approx(-costs[-1])
        assert a == (pytest.approx(o.reward) if t.is_kept else None)
    assert min(costs) == 0.0 and max(costs) == 1.0


@pytest.mark.parametrize("num_retrieved", [1, 5, 40])
def test_retrieved_tokens_and_the_prompt_cost_no_reward(rollouts, num_retrieved):
    """The same turns after a longer prompt, and with a longer observation."""
    trajectories, outcomes = rollouts

    def penalties(trajectories):
        judged = Judged(trajectories, outcomes, [{}] * len(outcomes))
        return [
            o.terms["overlong"]
            for o in apply_overlong_penalty(judged, max_len=8, buffer=6).outcomes
        ]

    longer = [
        dataclasses.replace(
            t,
            tokens=np.concatenate([t.tokens[:1].repeat(num_retrieved), t.tokens]),
            is_policy=np.concatenate([np.zeros(num_retrieved, bool), t.is_policy]),
        )
        for t in trajectories
    ]
    assert penalties(longer) == penalties(trajectories)
    assert len(set(penalties(trajectories))) > 1


def test_what_a_stage_refuses():
    for changes, said in (
        ({"minibatches_per_step": 5}, r"minibatches_per_step \(5\) must divide.*4 x 3"),
        ({"max_importance": 0.5}, "max_importance must be at least 1, got 0.5"),
        (
            {"max_importance": 2.0, "has_masked_observations": False},
            "which retrieved tokens do not have",
        ),
        ({"group_size": 1}, "group_size must be at least 2, got 1"),
        ({"reward_kl_weight": -1.0}, "reward_kl_weight must be at least 0"),
        ({"reward_kl_weight": math.nan}, "reward_kl_weight must be at least 0"),
        ({"max_importance": math.nan}, "max_importance must be at least 1, got nan"),
        ({"temperature": math.nan}, "temperature must be positive"),
        (DROPPING | BALANCED, r"leaves out rollouts that objective.kl_weight \(0.01\)"),
        (DROPPING | {"whiten_advantages": True}, r"that whiten_advantages \(True\)"),
        (
            {"reward_kl_weight": 0.1, "objective": PolicyObjective(kl_weight=0.01)},
            r"KL would be counted twice: reward_kl_weight is 0.1 and objective.kl_weig",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            stage_of(**changes)
    assert stage_of(group_size=1, advantage=plain_reward).group_size == 1
    assert stage_of(steps=5, minibatches_per_step=2).num_updates == 10
    assert stage_of(reward_kl_weight=0.1).needs_reference
    assert not stage_of().needs_reference


def test_plain_rewards_keep_equal_groups():
    rewards = jnp.array([[0.5, 0.5], [1.0, 1.0]])
    assert (plain_reward(rewards) == rewards).all()
    assert (group_centred(rewards) == 0.0).all()


# ---------------------------------------------------- rollouts without an advantage


def rows_and_state(run, rollouts, **changes):
    """The rollouts of each update, the parameters after them, and the metrics."""
    stage = stage_of(minibatches_per_step=2, **changes)
    updater, state = begun(run, stage)
    sizes = []
    update = make_policy_update(
        run,
        stage,
        updater,
        lambda state, minibatch, metrics: sizes.append(
            sum(
                int((batch.segments == segment).any(axis=1).sum())
                for batch in minibatch.batches
                for segment in range(1, 4)
            )
        ),
    )
    trajectories, outcomes = rollouts
    advantages = estimate(trajectories, outcomes, stage.advantage, stage.group_size)
    state, metrics = update(state, trajectories, advantages)
    return sizes, jax.device_get(state.params), summarise(metrics)


@pytest.mark.parametrize("aggregation", [token_mean, sequence_mean])
def test_rollouts_with_advantage_0_can_be_left_out(run, rollouts, aggregation):
    trajectories, outcomes = rollouts
    # The first group of each of the two updates has equal rewards.
    outcomes = [
        outcome(0.5) if i // 3 in (0, 2) else one for i, one in enumerate(outcomes)
    ]
    rollouts = trajectories, outcomes
    whole, wanted, all_metrics = rows_and_state(run, rollouts, aggregation=aggregation)
    fewer, found, metrics = rows_and_state(
        run, rollouts, aggregation=aggregation, **DROPPING
    )
    # The fifth rollout's search has failed.
    assert (whole, fewer) == ([5, 6], [2, 3])
    start = jax.device_get(run.initial_params())
    assert_moved_alike(found, wanted, start)
    assert metrics["loss"] == pytest.approx(all_metrics["loss"], rel=1e-4, abs=1e-7)


def test_an_update_without_any_advantage_is_measured_on_one_rollout(run, rollouts):
    trajectories, outcomes = rollouts
    equal = trajectories, [outcome(0.5) for _ in outcomes]
    sizes, params, metrics = rows_and_state(run, equal, **DROPPING)
    assert sizes == [1, 1] and metrics["entropy"] > 0.0
    start = jax.device_get(run.initial_params())
    jax.tree.map(np.testing.assert_array_equal, params, start)


# ------------------------------------------------------- steps without any advantage


REINFORCE = dict(advantage=plain_reward, whiten_advantages=True, reward_kl_weight=0.01)


@pytest.mark.parametrize("changes", [BALANCED, REINFORCE], ids=["GRPO", "REINFORCE++"])
def test_equal_rewards_leave_policy_and_optimizer_as_they_are(run, rollouts, changes):
    """Bit for bit: at first, and with the momentum of a step that had advantages."""
    stage = stage_of(**changes)
    updater, state = begun(run, stage)
    update = make_policy_update(run, stage, updater)
    trajectories, _ = rollouts
    for rewards in ([0.1] * 12, REWARDS, [1.0] * 12):
        outcomes = [outcome(reward) for reward in rewards]
        advantages = estimate(trajectories, outcomes, stage.advantage, 3)
        before = jax.device_get(state)
        state, metrics = update(state, trajectories, advantages)
        is_without = rewards is not REWARDS
        found = summarise(metrics)
        assert found["without_advantage"] == is_without and found["skipped"] == 0.0
        assert math.isfinite(found["grad_norm"]) and math.isfinite(found["entropy"])
        same = [
            np.array_equal(was, now)
            for was, now in zip(
                jax.tree.leaves((before.params, before.opt_state)),
                jax.tree.leaves(jax.device_get((state.params, state.opt_state))),
                strict=True,
            )
        ]
        assert all(same) if is_without else not any(same)
    assert int(state.num_updates) == 1


@pytest.mark.slow
def test_a_tiny_gradient_moves_a_policy_whose_steps_are_not_skipped(run, rollouts):
    """Weight decay leaves the reference by 1e-5; Adam makes full steps of KL's 1e-7."""
    stage = stage_of(
        skips_without_advantage=False,
        objective=PolicyObjective(kl_weight=0.001),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.01),
    )
    updater = run.updater(stage, stage.objective, 1.0, {})
    start = run.initial_params()
    state = begin_stage(start, updater.optimizer, needs_reference=True)
    before = jax.device_get(state.params)
    update = make_policy_update(run, stage, updater)
    trajectories, _ = rollouts
    advantages = estimate(trajectories, [outcome(0.0)] * 12, stage.advantage, 3)
    norms = []
    for _ in range(4):
        state, metrics = update(state, trajectories, advantages)
        norms.append(summarise(metrics)["grad_norm"])
    assert max(norms[:2]) < 1e-5
    moved = jax.tree.map(
        lambda was, now: float(np.abs(was - now).max()),
        before,
        jax.device_get(state.params),
    )
    # Four steps of weight decay alone move them by 4e-5.
    assert 5e-4 < max(jax.tree.leaves(moved)) < 4.1e-3


@pytest.mark.parametrize(
    ("advantages", "is_whitened", "expected"),
    [
        ([0.0, 0.0, None], False, True),
        ([0.0, 0.1], False, False),
        ([0.3, 0.3, None], False, False),
        ([0.3, 0.3, None], True, True),
        ([0.3, 0.2], True, False),
        ([[0.0, 0.0], [0.0]], False, True),
        ([[0.0, 0.5], [0.0]], False, False),
        ([[0.5, 0.5], [], 0.5], True, True),
        ([None, None], True, False),
    ],
)
def test_what_a_step_without_signal_is(advantages, is_whitened, expected):
    assert lacks_signal(advantages, is_whitened=is_whitened) is expected
