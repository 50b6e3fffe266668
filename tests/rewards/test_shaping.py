"""The overlong penalty, which counts what the policy has written."""

import dataclasses

import numpy as np
import pytest

from jaxsearch.rewards.judge import Judged
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.shaping import apply_overlong_penalty
from tests.report.test_report import make_trajectory


def rewards_of(*lengths, max_len=1000, buffer=200):
    """Rewards of 1.0 after the penalty, for (policy tokens, observed tokens)."""
    trajectories = []
    for num_policy, num_observed in lengths:
        is_policy = np.repeat([False, True, False], [30, num_policy, num_observed])
        zeros = np.zeros(len(is_policy), np.float32)
        trajectories.append(
            dataclasses.replace(
                make_trajectory(),
                tokens=zeros.astype(np.int32),
                is_policy=is_policy,
                logprobs=zeros,
                sampling_logprobs=zeros,
                prompt_len=30,
            )
        )
    outcome = Outcome(reward=1.0, terms={"answer": 1.0}, reason="", prediction="a")
    judged = Judged(trajectories, [outcome] * len(lengths), [{}] * len(lengths))
    found = apply_overlong_penalty(judged, max_len=max_len, buffer=buffer)
    return [outcome.reward for outcome in found.outcomes]


def test_observations_cost_nothing():
    """The same text earned 1.0, 0.29 and 0.09 with these observations."""
    assert rewards_of((100, 10), (100, 850), (100, 900)) == [1.0, 1.0, 1.0]


def test_a_long_text_costs_the_same_whatever_was_read():
    # 900 is halfway through the buffer of 800..1000.
    lengths = ((800, 0), (900, 0), (900, 90), (1000, 0), (1200, 500))
    expected = [1.0, 0.5, 0.5, 0.0, 0.0]
    assert rewards_of(*lengths) == pytest.approx(expected)


def test_without_a_buffer_nothing_is_added():
    assert rewards_of((5000, 0), buffer=0) == [1.0]
