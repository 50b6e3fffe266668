"""The same rollouts for any number of slots and any delay of results."""

import random
import time

import jax
import numpy as np
import pytest


class LateIndex:
    """An index whose answers take a few random milliseconds."""

    def __init__(self, index, seed):
        self.index, self.random = index, random.Random(seed)

    def search(self, queries, k):
        time.sleep(self.random.choice([0, 0.002, 0.005, 0.012]))
        return self.index.search(queries, k)


# Forty rollouts: one after the other, in a few slots, and in more slots than rollouts.
# A late index makes the schedule vary between runs; taking a result one or four decode
# calls after its search changes it for certain.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_slots", "search_calls"),
    [(1, 0), (2, 0), (3, 0), (7, 0), (7, 1), (7, 4), (45, 0), (45, 4)],
)
def test_the_number_of_slots_and_late_results_change_nothing(
    kit, trajectories, questions, num_slots, search_calls
):
    sampler = kit.sampler(num_slots, search_calls=search_calls)
    for seed in range(1 if search_calls else 3):
        done, timing = sampler.run(
            kit.params,
            questions,
            kit.environment(LateIndex(kit.word_index(), seed)),
            group_size=4,
            stage=2,
            temperature=1.0,
        )
        assert len(timing.asked_at) > 10
        for a, b in zip(done, trajectories, strict=True):
            assert (a.prompt_index, a.sample_index) == (b.prompt_index, b.sample_index)
            np.testing.assert_array_equal(a.tokens, b.tokens)
            np.testing.assert_array_equal(a.is_policy, b.is_policy)
            np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=0, atol=1e-5)
            assert (a.status, a.tool_calls) == (b.status, b.tool_calls)


@pytest.mark.slow
def test_memory_that_was_given_back_is_taken_again(kit, trajectories, questions):
    """Between rollouts an update can use the memory."""
    sampler = kit.sampler(7, search_calls=1)
    before = sum(array.nbytes for array in jax.live_arrays())
    sampler.free_cache()
    after = sum(array.nbytes for array in jax.live_arrays())
    assert before - after > 50_000  # the keys and values of seven slots
    done, _ = sampler.run(
        kit.params,
        questions,
        kit.environment(kit.word_index()),
        group_size=4,
        stage=2,
        temperature=1.0,
    )
    for a, b in zip(done, trajectories, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
