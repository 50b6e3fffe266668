"""A retriever that fails in the middle of rollouts, with real threads."""

import signal
import threading
import time

import numpy as np
import pytest

from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.env.retries import RetryingRetriever
from jaxsearch.search.index import SearchError
from jaxsearch.trajectory import Status, ToolCall
from tests.environments import turns
from tests.protocols import changed


class UnsteadyIndex:
    """Fails at the given tries, counted from 0."""

    def __init__(self, index, tries, trouble):
        self.index, self.tries, self.trouble = index, tries, trouble
        self.batches = []  # the queries of each try

    def search(self, queries, k):
        self.batches.append(list(queries))
        if len(self.batches) - 1 in self.tries:
            return self.trouble(queries, k)
        return self.index.search(queries, k)


class Down:
    """Never answers."""

    def search(self, queries, k):
        raise SearchError("not now")


def refuse(queries, k):
    raise ConnectionRefusedError("nobody is there")


@pytest.fixture
def release():
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def hang(release):
    def trouble(queries, k):
        release.wait()
        return [[] for _ in queries]

    return trouble


@pytest.fixture
def run(kit, sampler, questions):
    """The rollouts of `trajectories` again, with another index."""

    def run(index, **changes):
        done, _ = sampler.run(
            kit.params,
            questions,
            kit.environment(index, **changes),
            group_size=4,
            stage=2,
            temperature=1.0,
        )
        return done

    return run


def assert_same(one, other):
    assert (one.prompt_index, one.sample_index) == (
        other.prompt_index,
        other.sample_index,
    )
    assert (one.status, one.tool_calls) == (other.status, other.tool_calls)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.is_policy, other.is_policy)
    # The rows that are computed together affect only the rounding.
    np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=1e-4, atol=1e-5)


def assert_only_one_batch_failed(done, trajectories, batch, failure):
    """The rollouts of the failed batch end; all others are unchanged."""
    failed = [i for i, t in enumerate(done) if t.status is Status.TOOL_FAILED]
    assert 0 < len(failed) < len(done) // 2
    assert {done[i].tool_calls[-1].query for i in failed} == set(batch)
    for i, (one, other) in enumerate(zip(done, trajectories, strict=True)):
        if i not in failed:
            assert_same(one, other)
            continue
        assert one.is_policy[-1]
        np.testing.assert_array_equal(one.tokens, other.tokens[: len(one.tokens)])
        *before, last = one.tool_calls
        assert tuple(before) == other.tool_calls[: len(before)]
        assert last.query == other.tool_calls[len(before)].query
        assert last.has_failed and failure in last.failure


@pytest.mark.slow
def test_tries_again_change_nothing_but_their_count(kit, run, trajectories):
    index = UnsteadyIndex(kit.word_index(), {0, 4}, refuse)
    retrying = RetryingRetriever(index, attempts=2, timeout_s=30.0)
    for one, other in zip(run(retrying), trajectories, strict=True):
        assert_same(one, other)
    assert retrying.num_retries == 2
    assert index.batches[0] == index.batches[1] and index.batches[4] == index.batches[5]


def test_one_of_several_batches_fails(kit, run, trajectories):
    index = UnsteadyIndex(kit.word_index(), {1, 2}, refuse)
    retrying = RetryingRetriever(index, attempts=2, timeout_s=30.0)
    done = run(retrying)
    assert len(index.batches) > 4 and retrying.num_retries == 1
    failure = "(2) ConnectionRefusedError: nobody is there"
    assert_only_one_batch_failed(done, trajectories, index.batches[1], failure)


def test_one_of_several_batches_hangs(kit, run, trajectories, hang):
    index = UnsteadyIndex(kit.word_index(), {1}, hang)
    started = time.monotonic()
    done = run(RetryingRetriever(index, attempts=1, timeout_s=0.5))
    assert time.monotonic() - started < 30.0
    failure = "no answer within 0.5 s"
    assert_only_one_batch_failed(done, trajectories, index.batches[1], failure)


def first_observation(trajectory, number):
    """Start and end of the observation after a search in the row."""
    changes = np.flatnonzero(np.diff(trajectory.is_policy.astype(int))) + 1
    return changes[2 * number + 1], changes[2 * number + 2]


def test_an_observed_failure_is_read_and_the_rollout_goes_on(kit, run, trajectories):
    index = UnsteadyIndex(kit.word_index(), {1, 2, 3}, refuse)
    retrying = RetryingRetriever(index, attempts=1, timeout_s=30.0)
    done = run(retrying, on_search_failure="observe")
    assert not any(t.status is Status.TOOL_FAILED for t in done)
    environment = kit.environment(Down(), on_search_failure="observe")
    [(ids, _)] = environment.step(turns("any"))
    expected = kit.trainer_logprobs(done, 1.0)
    num_observed = num_searched_again = 0
    for one, other, row in zip(done, trajectories, expected, strict=True):
        where = one.is_policy
        np.testing.assert_allclose(
            one.logprobs[where], row[: len(where)][where], rtol=1e-4, atol=1e-5
        )
        failed = [i for i, search in enumerate(one.tool_calls) if search.has_failed]
        if not failed:
            assert_same(one, other)
            continue
        search = one.tool_calls[failed[0]]
        assert search.passage_ids == () and "nobody is there" in search.failure
        assert search.query in sum(index.batches[1:4], [])
        if sum(not segment.is_policy for segment in one.segments) == failed[0]:
            assert one.status is Status.OUT_OF_LENGTH  # its observation did not fit
            continue
        # The message is read but not trained on; tokens before it are as without the
        # failure.
        start, end = first_observation(one, failed[0])
        assert one.tokens[start:end].tolist() == ids
        assert one.is_policy[start - 1] and one.is_policy[end]
        np.testing.assert_array_equal(one.tokens[:start], other.tokens[:start])
        num_observed += 1
        num_searched_again += len(one.tool_calls) > failed[0] + 1
    assert num_observed > 3 and num_searched_again > 0


WORDS = "The search failed: nothing was looked up."


def failed_search(kit, **settings):
    """The observation's text and the record of a search that failed."""
    tokenizer = pieces_tokenizer(
        [f"▁{word}" for word in f"<result> {WORDS} </result>".split()]
    )
    settings = dict(tokenizer=tokenizer, max_observation_len=20) | settings
    environment = kit.environment(Down(), on_search_failure="observe", **settings)
    [(ids, search), _] = environment.step(turns("ago", "bgo"))
    assert len(ids) <= environment.max_observation_len
    return tokenizer.decode(ids), search


def test_the_words_of_a_failure_stand_in_the_frame_of_passages(kit):
    text, search = failed_search(kit)
    assert text.startswith(f" <result> {WORDS} ") and text.count("<result>") == 1
    expected = ToolCall(query="a", passage_ids=(), has_failed=True, failure="not now")
    assert search == expected


def test_the_words_of_a_failure_obey_a_protocol_and_a_budget(kit):
    protocol = changed(kit.protocol, control_tags=("nothing",))
    text, search = failed_search(kit, protocol=protocol)
    assert " The search failed: was looked up. " in text
    assert search.num_deleted_tags == 1 and not search.is_truncated
    text, search = failed_search(kit, max_observation_len=6)
    assert text.startswith(" <result> The ") and "up." not in text
    assert search.is_truncated


def test_a_hanging_search_does_not_hold_up_an_interrupt(
    kit, run, sampler, trajectories, release, interruptible
):
    asking = threading.Event()

    def hang(queries, k):
        asking.set()
        release.wait()
        return [[] for _ in queries]

    def interrupt():
        asking.wait()
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    index = UnsteadyIndex(kit.word_index(), {1}, hang)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(RetryingRetriever(index, attempts=1, timeout_s=20.0))
    assert time.monotonic() - started < 10.0
    thread.join()
