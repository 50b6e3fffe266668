"""Whole rollouts: log-probs, provenance, and independence of the slots."""

import random
import time

import numpy as np
import pytest

from jaxsearch.data.question import Question
from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.rows import rollout_row
from jaxsearch.trajectory import Status


def same(first, second):
    """Compares tokens and provenance exactly, and log-probs up to rounding.

    Reading a different number of cache segments or rows changes the order of sums.
    """
    for a, b in zip(first, second, strict=True):
        assert (a.question_id, a.sample_index) == (b.question_id, b.sample_index)
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.is_policy, b.is_policy)
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-5)
        assert (a.status, a.tool_calls, a.segments) == (
            b.status,
            b.tool_calls,
            b.segments,
        )
    return True


class SlowIndex:
    """An index whose answers take a random time."""

    def __init__(self, index, seed):
        self.index, self.random = index, random.Random(seed)

    def search(self, queries, k):
        time.sleep(self.random.choice([0, 0, 0.01, 0.03]))
        return self.index.search(queries, k)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_are_those_of_a_plain_forward_pass(
    kit, sampler, questions, temperature
):
    done, _ = sampler.run(
        kit.params,
        questions,
        kit.environment(),
        group_size=4,
        stage=5,
        temperature=temperature,
    )
    expected = kit.trainer_logprobs(done, temperature)
    for trajectory, row in zip(done, expected, strict=True):
        is_policy = trajectory.is_policy
        np.testing.assert_allclose(
            trajectory.logprobs[is_policy],
            row[: len(is_policy)][is_policy],
            rtol=1e-4,
            atol=1e-5,
        )
        np.testing.assert_array_equal(trajectory.logprobs, trajectory.sampling_logprobs)
    num_observed = [sum(not s.is_policy for s in t.segments) for t in done]
    assert {0, 1, 3} <= set(num_observed)


def test_greedy_takes_the_likeliest_and_reports_it_at_temperature_one(kit, sampler):
    question = Question(id="q", question=" red one", golden_answers=("x",), metadata={})
    done, _ = sampler.run(
        kit.params,
        [(0, question)],
        kit.environment(),
        group_size=2,
        stage=0,
        temperature=0.0,
    )
    np.testing.assert_array_equal(done[0].tokens, done[1].tokens)
    expected = kit.trainer_logprobs(done[:1], 1.0)[0]
    is_policy = done[0].is_policy
    np.testing.assert_allclose(
        done[0].logprobs[is_policy],
        expected[: len(is_policy)][is_policy],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.slow
def test_under_a_cut_both_logprobs_are_kept(kit, tight_sampler, questions):
    done, _ = tight_sampler.run(
        kit.params,
        questions[:4],
        kit.environment(),
        group_size=4,
        stage=0,
        temperature=1.0,
    )
    expected = kit.trainer_logprobs(done, 1.0)
    num_sampled = 0
    for trajectory, row in zip(done, expected, strict=True):
        where = trajectory.is_policy
        np.testing.assert_allclose(
            trajectory.logprobs[where],
            row[: len(where)][where],
            rtol=1e-4,
            atol=1e-5,
        )
        # Eight of sixteen tokens are kept, so their probabilities increase.
        assert (trajectory.sampling_logprobs > trajectory.logprobs)[where].all()
        num_sampled += where.sum()
    assert num_sampled > 50


def test_provenance(kit, trajectories):
    """Exactly the sampled tokens are marked as the policy's; texts and ids agree."""
    num_observations = 0
    for trajectory in trajectories:
        t, n = trajectory, trajectory.prompt_len
        prompt = kit.protocol.prompt(t.question)
        assert t.tokens[:n].tolist() == kit.tokenizer.encode(prompt)
        assert not t.is_policy[:n].any()
        parts = []
        queries = []
        for segment in t.segments:
            if segment.is_policy:
                parts.append(len(kit.tokenizer.encode(segment.text)))
                queries.append(kit.protocol.query(segment.text))
                continue
            passage = kit.word_index().passage(queries[-1])
            assert segment.text == kit.protocol.observation([passage])
            num_observations += 1
        # Author of each id, derived from the index: all but observations are sampled.
        observed = [kit.tokenizer.encode(s.text) for s in t.segments if not s.is_policy]
        expected = [i for ids in observed for i in ids]
        assert t.tokens[n:][~t.is_policy[n:]].tolist() == expected
        assert [s.query for s in t.tool_calls] == queries[: len(t.tool_calls)]
        assert (t.logprobs[t.is_policy] < 0).all()
        if t.has_ended:
            assert t.tokens[-1] == kit.tokenizer.end_id and t.is_policy[-1]
    assert num_observations > 20


@pytest.mark.slow
@pytest.mark.parametrize(("num_slots", "is_tight"), [(3, False), (5, True)])
def test_slots_and_order_of_results_change_nothing(
    kit, trajectories, tight_sampler, questions, num_slots, is_tight
):
    """Includes refills: forty rollouts in few slots, groups split anywhere."""

    def run(sampler, index):
        return sampler.run(
            kit.params,
            questions,
            kit.environment(index),
            group_size=4,
            stage=2,
            temperature=1.0,
        )

    budgets = kit.tight if is_tight else {}
    index = SlowIndex(kit.word_index(), seed=num_slots)
    done, timing = run(kit.sampler(num_slots, **budgets), index)
    if is_tight:
        trajectories, _ = run(tight_sampler, kit.word_index())
    assert same(done, trajectories)
    assert timing.num_observed == sum(
        int((~t.is_policy[t.prompt_len :]).sum()) for t in done
    )
    assert timing.num_prefilled == sum(t.prompt_len for t in done[::4])


def test_with_a_fixed_schedule_two_runs_are_equal_bit_for_bit(kit, questions):
    """Results arrive at any time, and are taken after two decode calls."""
    sampler = kit.sampler(16, search_calls=2)
    runs = []
    for seed in (1, 2):
        index = SlowIndex(kit.word_index(), seed)
        done, timing = sampler.run(
            kit.params,
            questions,
            kit.environment(index),
            group_size=4,
            stage=2,
            temperature=1.0,
        )
        runs.append((done, timing.num_decode_calls))
    assert runs[0][1] == runs[1][1]
    for a, b in zip(runs[0][0], runs[1][0], strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.logprobs, b.logprobs)


def test_order_of_questions_changes_nothing(kit, sampler, trajectories, questions):
    done, _ = sampler.run(
        kit.params,
        questions[::-1],
        kit.environment(SlowIndex(kit.word_index(), seed=0)),
        group_size=4,
        stage=2,
        temperature=1.0,
    )
    groups = [trajectories[i : i + 4] for i in range(0, 40, 4)]
    assert same(done, [t for group in groups[::-1] for t in group])


def test_members_positions_and_stages_sample_differently(kit, sampler, questions):
    """All prompts are equal, so differences can only come from the random key."""
    question = questions[4][1]

    def turns(prompt_indices, stage):
        done, _ = sampler.run(
            kit.params,
            [(prompt_index, question) for prompt_index in prompt_indices],
            kit.environment(),
            group_size=4,
            stage=stage,
            temperature=1.0,
        )
        prompts = {tuple(t.tokens[: t.prompt_len].tolist()) for t in done}
        assert len(prompts) == 1
        return [t.tokens.tolist() for t in done]

    first, other_stage = turns([3, 4], stage=0), turns([3, 4], stage=1)
    assert turns([4], stage=0) == first[4:]
    assert first[:4] != first[4:] != other_stage[4:] and first[:4] != other_stage[:4]
    for group in (first[:4], first[4:]):
        assert len(set(map(tuple, group))) > 1


def test_a_position_given_twice_is_refused(kit, sampler, questions):
    with pytest.raises(ValueError, match="distinct"):
        sampler.run(
            kit.params,
            [questions[0], questions[0]],
            kit.environment(),
            group_size=2,
            stage=0,
            temperature=1.0,
        )


def test_rows_go_into_training_batches(trajectories):
    rows = [rollout_row(t) for t in trajectories]
    batches = list(microbatches(rows, row_lens=[48, 96], max_tokens=960))
    assert sum(b.loss_mask.sum() for b in batches) == sum(
        t.is_policy.sum() for t in trajectories
    )
    assert {t.status for t in trajectories} >= {Status.ENDED, Status.OUT_OF_CALLS}
