"""Dynamic sampling draws until enough groups have unequal rewards."""

import dataclasses
from pathlib import Path

import pytest

from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.rewards import tasks
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rl.dynamic_sampling import signal_groups, trained_groups
from jaxsearch.train import train
from tests.tiny import tiny_config


def test_a_group_has_a_signal_if_its_kept_rewards_differ():
    rewards = [1.0, 1.0, 0.0, 1.0, 0.0, 0.5]
    assert signal_groups(rewards, [True] * 6, 2) == [1, 2]
    # A rollout that is not kept is not compared with anything.
    assert signal_groups(rewards, [True, True, False, True, True, True], 2) == [2]


def test_the_first_groups_with_a_signal_are_trained_on():
    rewards = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    assert trained_groups(rewards, [True] * 8, group_size=2, num_groups=2) == [1, 2]


def test_without_any_signal_the_step_is_an_ordinary_one():
    rewards = [0.0] * 6
    assert trained_groups(rewards, [True] * 6, group_size=2, num_groups=2) == [0, 1]


def parity_reward(segments, golden_answers, *, has_ended, protocol):
    """1 if the policy wrote an even number of characters: a random policy does both."""
    written = sum(len(s.text) for s in segments if s.is_policy)
    return Outcome(reward=float(written % 4 == 0), terms={}, reason="", prediction=None)


@pytest.fixture(scope="module")
def lines_and_rollouts(tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("run") / "run")
    *others, stage = config.stages
    stage = dataclasses.replace(
        stage,
        steps=2,
        max_draws=4,
        questions_per_step=3,
        task=dataclasses.replace(tasks.QUICKSTART, name="parity", reward=parity_reward),
    )
    train(dataclasses.replace(config, stages=(*others, stage)))
    lines = [x for x in read_metrics(_path(config)) if x["stage"] == "search"]
    files = rollout_files(_path(config).parent)
    return lines, [read_rollouts(path) for path in files.values()]


def _path(config):
    return Path(config.out) / "metrics.jsonl"


def test_a_run_draws_until_enough_groups_have_a_signal(lines_and_rollouts):
    lines, rollouts = lines_and_rollouts
    for line, drawn in zip(lines, rollouts, strict=True):
        groups = [drawn[i : i + 4] for i in range(0, len(drawn), 4)]
        assert line["groups_drawn"] == len(groups) <= 12
        with_signal = [g for g in groups if len({one.reward for one in g}) > 1]
        trained = [g for g in groups if g[0].advantage is not None]
        assert trained == with_signal[:3]
        assert line["groups_trained"] == len(trained)
        # It stops at the first batch that completes the three.
        assert len(trained) == 3 or len(groups) == 12
        assert all(
            (one.advantage is None) == (g not in trained) for g in groups for one in g
        )
    assert len({line["groups_drawn"] for line in lines} | {3.0}) > 1
