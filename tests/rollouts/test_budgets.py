"""Budgets, and how rollouts end."""

import numpy as np
import pytest

from jaxsearch.data.question import Question
from jaxsearch.rollouts.budgets import bucket_of, buckets
from jaxsearch.search.index import SearchError, SearchStoppedError
from jaxsearch.trajectory import Status
from tests.protocols import changed


def ask(text, id="q"):
    return Question(id=id, question=text, golden_answers=("x",), metadata={})


def run(kit, sampler, *, environment=None, text=" red one", num_rollouts=32, stage=0):
    done, _ = sampler.run(
        kit.params,
        [(0, ask(text))],
        environment or kit.environment(),
        group_size=num_rollouts,
        stage=stage,
        temperature=1.0,
    )
    return done


class FailingIndex:
    """Fails if one of the queries is in a given set."""

    def __init__(self, index, is_bad):
        self.index, self.is_bad = index, is_bad

    def search(self, queries, k):
        if any(self.is_bad(query) for query in queries):
            raise SearchError("not now")
        return self.index.search(queries, k)


def num_turns(trajectory):
    return sum(segment.is_policy for segment in trajectory.segments)


def turn_lens(trajectory):
    """Lengths of the runs of policy tokens."""
    padded = np.concatenate([[False], trajectory.is_policy, [False]]).astype(int)
    starts, ends = (
        np.flatnonzero(np.diff(padded) == 1),
        np.flatnonzero(np.diff(padded) == -1),
    )
    return ends - starts


@pytest.mark.slow
def test_a_search_beyond_the_last_allowed_ends_the_row_there(kit, trajectories):
    ended = [t for t in trajectories if t.status is Status.OUT_OF_CALLS]
    assert ended
    for trajectory in ended:
        assert len(trajectory.tool_calls) == 4
        assert num_turns(trajectory) == 5
        assert "go" in trajectory.segments[-1].text
    assert all(len(t.tool_calls) <= 4 for t in trajectories)


def test_a_last_turn_ends_the_rollout_without_a_search(kit):
    protocol = changed(kit.protocol, is_last=lambda turn: "red" in turn)
    environment = kit.environment(protocol=protocol)
    done = run(kit, kit.sampler(16, protocol=protocol), environment=environment)
    stopped = [t for t in done if t.tokens[-1] != kit.tokenizer.end_id and t.has_ended]
    assert stopped
    for trajectory in stopped:
        assert trajectory.status is Status.ENDED
        last = trajectory.segments[-1]
        assert last.is_policy and "red" in last.text and "go" in last.text
    for trajectory in done:
        # Turns that got an answer did not use up their budget.
        for turn, following in zip(
            trajectory.segments, trajectory.segments[1:], strict=False
        ):
            assert not turn.is_policy or following.is_policy or "red" not in turn.text


@pytest.mark.slow
def test_any_of_several_end_tokens_ends_a_row(kit):
    ends = (kit.tokenizer.end_id, 3)
    done = run(kit, kit.sampler(16, end_ids=ends))
    last = {t.tokens[-1] for t in done if t.status in (Status.ENDED, Status.ANSWERED)}
    assert last == set(ends)
    for trajectory in done:
        sampled = trajectory.tokens[:-1][trajectory.is_policy[:-1]]
        assert not np.isin(sampled, ends).any()


def test_no_search_allowed(kit):
    sampler = kit.sampler(16, max_calls=0)
    done = run(kit, sampler)
    assert {len(t.tool_calls) for t in done} == {0}
    assert {t.status for t in done} == {Status.ENDED, Status.OUT_OF_CALLS}


@pytest.mark.slow
def test_turn_budget_counts_sampled_tokens_since_the_observation(kit, tight_sampler):
    done = run(kit, tight_sampler, num_rollouts=48)
    lens = np.concatenate([turn_lens(t) for t in done])
    assert lens.max() == 5
    out = [t for t in done if t.status is Status.OUT_OF_LENGTH]
    out = [t for t in out if len(t.tokens) < 32 and "go" not in t.segments[-1].text]
    assert out and all(turn_lens(t)[-1] == 5 for t in out)
    assert any(t.tool_calls for t in out)
    # A stop tag in the last token of the budget still leads to a search.
    assert any(5 in turn_lens(t)[:-1] for t in done)


@pytest.mark.slow
def test_total_budget_holds_and_is_used_up(kit, tight_sampler):
    done = run(kit, tight_sampler, num_rollouts=200)
    assert max(len(t.tokens) for t in done) == 32
    out = [t for t in done if t.status is Status.OUT_OF_LENGTH]
    sampled_to_the_end = [t for t in out if len(t.tokens) == 32]
    assert sampled_to_the_end
    # An observation that leaves no room for a turn is not appended.
    without_room = [t for t in out if "go" in t.segments[-1].text]
    assert without_room
    for trajectory in without_room:
        assert trajectory.is_policy[-1]
        assert len(trajectory.tool_calls) == num_turns(trajectory)
    expected = kit.trainer_logprobs(done, 1.0)
    for trajectory, row in zip(done, expected, strict=True):
        where = trajectory.is_policy
        np.testing.assert_allclose(
            trajectory.logprobs[where], row[: len(where)][where], rtol=1e-4, atol=1e-5
        )


def test_a_failed_search_ends_only_those_who_asked(kit, sampler, trajectories):
    index = FailingIndex(kit.word_index(), lambda query: "blue" in query)
    done = run(kit, sampler, environment=kit.environment(index), num_rollouts=64)
    failed = [t for t in done if t.status is Status.TOOL_FAILED]
    assert failed
    for trajectory in failed:
        last = trajectory.tool_calls[-1]
        assert last.has_failed and last.passage_ids == ()
        assert last.query == kit.protocol.query(trajectory.segments[-1].text)
        assert trajectory.is_policy[-1] and not trajectory.has_ended
        assert not any(search.has_failed for search in trajectory.tool_calls[:-1])
    assert any("blue" in t.tool_calls[-1].query for t in failed)
    going_on = [t for t in done if t.status is not Status.TOOL_FAILED]
    assert any(t.tool_calls for t in going_on)
    assert not any(s.has_failed for t in going_on for s in t.tool_calls)


def test_what_stops_a_search_reaches_the_caller_and_the_sampler_survives(
    kit, sampler, questions, trajectories
):
    class BrokenIndex:
        def search(self, queries, k):
            raise SearchStoppedError("its budget is used up")

    def run_again(questions, group_size):
        return sampler.run(
            kit.params,
            questions,
            kit.environment(),
            group_size=group_size,
            stage=2,
            temperature=1.0,
        )

    _, before = run_again(questions[1:2], 1)
    with pytest.raises(SearchStoppedError, match="budget is used up"):
        run(kit, sampler, environment=kit.environment(BrokenIndex()))
    _, after = run_again(questions[1:2], 1)
    # Decoding of the other slots does not continue.
    assert after.num_decode_calls == before.num_decode_calls
    again, _ = run_again(questions, 4)
    for a, b in zip(again, trajectories, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)


def test_answered_needs_a_well_formed_answer_and_an_end(kit):
    """In this test, a turn that contains "one" is well-formed."""
    protocol = changed(
        kit.protocol,
        has_answer=lambda segments: any(
            "one" in s.text for s in segments if s.is_policy
        ),
    )
    sampler = kit.sampler(16, protocol=protocol)
    done = run(kit, sampler, num_rollouts=48)
    for t in done:
        has_answer = protocol.has_answer(t.segments)
        ended = Status.ANSWERED if has_answer else Status.ENDED
        assert t.status is (ended if t.tokens[-1] == kit.tokenizer.end_id else t.status)
        assert t.has_ended == (t.tokens[-1] == kit.tokenizer.end_id)
    assert {t.status for t in done} >= {Status.ANSWERED, Status.ENDED}
    not_ended = [t for t in done if not t.has_ended]
    assert any(protocol.has_answer(t.segments) for t in not_ended)


def test_a_prompt_beyond_its_budget_names_the_question(kit, sampler):
    for text in (" red" * 13, ""):
        with pytest.raises(ValueError, match="question 'long' has"):
            sampler.run(
                kit.params,
                [(0, ask(text, id="long"))],
                kit.environment(),
                group_size=2,
                stage=0,
                temperature=1.0,
            )
    assert len(run(kit, sampler, text=" red" * 12, num_rollouts=2)) == 2


def test_settings_that_cannot_work_are_refused(kit, sampler):
    with pytest.raises(
        ValueError, match="up to 13 tokens, but the sampler takes only 12"
    ):
        run(kit, sampler, environment=kit.environment(max_observation_len=13))
    for settings in ({"num_slots": 0}, {"max_turn_len": 0}, {"max_calls": -1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            kit.sampler(**{"num_slots": 4, **settings})
    for name in ("max_prompt_len", "max_observation_len"):
        with pytest.raises(ValueError, match=f"{name} must be below max_len"):
            kit.sampler(4, **{name: 96})
    for group_size, temperature in ((0, 1.0), (2, -1.0)):
        with pytest.raises(ValueError, match="group_size >= 1 and temperature >= 0"):
            sampler.run(
                kit.params,
                [(0, ask(" red"))],
                kit.environment(),
                group_size=group_size,
                stage=0,
                temperature=temperature,
            )


def test_buckets():
    assert buckets(96) == (48, 96)
    assert buckets(4096) == (1024, 2048, 4096)
    assert buckets(10) == (10,)
    assert [bucket_of((48, 96), n) for n in (1, 48, 49, 96)] == [48, 48, 96, 96]
    with pytest.raises(ValueError, match="97 does not fit; the largest bucket is 96"):
        bucket_of((48, 96), 97)
