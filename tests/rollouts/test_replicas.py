"""Several replicas of the policy: results must not depend on their number."""

import os
import signal
import threading
import time
from concurrent.futures import CancelledError, Future

import jax
import numpy as np
import pytest

from jaxsearch.data.question import Question
from jaxsearch.mesh import MeshShape, make_mesh, replicated
from jaxsearch.rollouts.layout import replica_meshes
from jaxsearch.rollouts.pool import SlotPool
from jaxsearch.rollouts.prompt_queue import PromptQueue
from jaxsearch.rollouts.records import Prompt, Timing, joined_timing
from jaxsearch.rollouts.threads import Stop, run_in_threads
from jaxsearch.search.index import SearchStoppedError


@pytest.fixture(scope="module")
def everywhere(kit):
    """The parameters, replicated on each of the eight devices."""
    return jax.device_put(kit.params, replicated(make_mesh(MeshShape())))


@pytest.fixture(scope="module")
def pair(kit):
    """A sampler with two replicas of three slots, which take prompts on demand."""
    return kit.sampler(3, replicas=replica_meshes(jax.devices(), 1, 2))


def rolled_out(kit, sampler, params, questions, index=None):
    return sampler.run(
        params,
        questions,
        kit.environment(index),
        group_size=4,
        stage=2,
        temperature=1.0,
    )


def same(first, second, atol=1e-6):
    for a, b in zip(first, second, strict=True):
        assert (a.prompt_index, a.sample_index) == (b.prompt_index, b.sample_index)
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.is_policy, b.is_policy)
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=0, atol=atol)
        assert (a.status, a.tool_calls) == (b.status, b.tool_calls)
    return True


class AskedByThreads:
    """An index with a delay, which records the calling threads."""

    def __init__(self, index):
        self.index, self.threads = index, set()

    def search(self, queries, k):
        self.threads.add(threading.current_thread())
        time.sleep(0.001 * (len(queries) % 3))
        return self.index.search(queries, k)


@pytest.mark.parametrize(
    ("num_replicas", "search_calls"),
    [(2, 0), (2, 1), pytest.param(8, 0, marks=pytest.mark.long)],
)
def test_the_number_of_replicas_changes_nothing(
    kit, everywhere, trajectories, questions, num_replicas, search_calls
):
    """Forty rollouts, three slots per replica, both ways of assigning prompts."""
    sampler = kit.sampler(
        3,
        search_calls=search_calls,
        replicas=replica_meshes(jax.devices(), 1, num_replicas),
    )
    index = AskedByThreads(kit.word_index())
    done, timing = rolled_out(kit, sampler, everywhere, questions, index)
    assert same(done, trajectories)
    assert num_replicas / 2 < len(index.threads) <= num_replicas
    assert timing.num_observed == sum(
        int((~t.is_policy[t.prompt_len :]).sum()) for t in done
    )


def test_only_the_calling_thread_splits_arrays(
    kit, everywhere, pair, questions, monkeypatch
):
    """In JAX 0.10, a thread that splits an array with another may miss shards."""
    threads, params_of = set(), SlotPool.params_of

    def recorded(pool, params):
        threads.add(threading.current_thread())
        return params_of(pool, params)

    monkeypatch.setattr(SlotPool, "params_of", recorded)
    rolled_out(kit, pair, everywhere, questions[:1])
    assert threads == {threading.main_thread()}


def test_fewer_questions_than_replicas(kit, everywhere, pair, trajectories, questions):
    """The group is split over both replicas; its prompt is prefilled twice."""
    index = AskedByThreads(kit.word_index())
    done, timing = rolled_out(kit, pair, everywhere, questions[3:4], index)
    assert same(done, trajectories[12:16])
    assert timing.num_prefilled == 2 * done[0].prompt_len
    assert len(index.threads) == 2


def test_with_a_fixed_schedule_two_runs_are_equal_bit_for_bit(
    kit, everywhere, questions
):
    """Each replica has its share from the start, independent of search times."""
    replicas = replica_meshes(jax.devices(), 1, 2)
    sampler = kit.sampler(5, search_calls=2, replicas=replicas)
    index = AskedByThreads(kit.word_index())
    first, timing = rolled_out(kit, sampler, everywhere, questions, index)
    again, same_timing = rolled_out(kit, sampler, everywhere, questions)
    assert timing.num_decode_calls == same_timing.num_decode_calls
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.logprobs, b.logprobs)


class FailsOnce:
    """Fails for the first caller; all others wait until it is released."""

    def __init__(self, trouble):
        self.trouble, self.lock = trouble, threading.Lock()
        self.is_broken, self.let_go = False, threading.Event()

    def search(self, queries, k):
        with self.lock:
            is_first, self.is_broken = not self.is_broken, True
        if is_first:
            self.trouble()
        self.let_go.wait(60)
        return [[] for _ in queries]


def broken():
    raise SearchStoppedError("the index is broken")


def interrupted():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("trouble", "error"),
    [(broken, SearchStoppedError), (interrupted, KeyboardInterrupt)],
)
def test_when_one_stops_all_do(
    kit, everywhere, pair, trajectories, questions, trouble, error
):
    """They stop at once, even while waiting for a search, and can be used again."""
    index = FailsOnce(trouble)
    started = time.monotonic()
    try:
        with pytest.raises(error):
            rolled_out(kit, pair, everywhere, questions, index)
    finally:
        index.let_go.set()
    assert time.monotonic() - started < 30
    done, _ = rolled_out(kit, pair, everywhere, questions)
    assert same(done, trajectories)


def test_parameters_that_are_not_published_are_refused(kit, pair, questions):
    with pytest.raises(ValueError, match="not on .*: transfer them to all replicas"):
        rolled_out(kit, pair, kit.params, questions)


def test_the_first_error_is_raised_and_the_others_stop():
    """No thread is running when the error is raised."""
    ended = []

    def waits(stop):
        try:
            while True:
                stop.check()
                time.sleep(0.001)
        finally:
            ended.append("waits")

    def fails(stop):
        time.sleep(0.01)
        raise KeyError("first")

    with pytest.raises(KeyError, match="first"):
        run_in_threads([waits, fails, waits])
    assert ended == ["waits", "waits"]
    assert run_in_threads([lambda stop: 1, lambda stop: 2]) == [1, 2]
    # A single function runs in the calling thread, where the caller's settings apply.
    assert run_in_threads([lambda stop: threading.get_ident()]) == [
        threading.get_ident()
    ]


def queue_of(num_prompts, group_size, **settings):
    prompts = [
        Prompt(
            question=Question(id=str(i), question="", golden_answers=()),
            index=i,
            ids=np.array([1], np.int32),
        )
        for i in range(num_prompts)
    ]
    return PromptQueue(prompts, group_size, **settings), prompts


def taken(queue, replica):
    """The result of one request by a replica: (prompt_index, sample_indices)."""
    return [(prompt.index, found) for prompt, found in queue.take(replica)]


def test_dealt_prompts_are_even_shares():
    settings = dict(num_replicas=2, max_prompts=2, has_fixed_shares=True)
    queue, prompts = queue_of(5, 3, **settings)
    assert taken(queue, 1) == [(2, [1, 2]), (3, [0, 1, 2])]
    assert taken(queue, 0) == [(0, [0, 1, 2]), (1, [0, 1, 2])]
    assert taken(queue, 0) == [(2, [0])]
    assert queue.is_empty(0) and taken(queue, 0) == []
    # A restarted rollout stays on its replica.
    queue.put_back(0, prompts[1], 2)
    assert taken(queue, 1) == [(4, [0, 1, 2])]
    assert queue.is_empty(1) and taken(queue, 0) == [(1, [2])]


def test_whoever_has_room_takes_what_is_left():
    settings = dict(num_replicas=2, max_prompts=2, has_fixed_shares=False)
    queue, prompts = queue_of(16, 3, **settings)
    # The prompts that first fill a replica's slots are reserved for it.
    found = [taken(queue, 0) for _ in range(6)]
    assert [[prompt_index for prompt_index, _ in part] for part in found] == [
        *([0, 1], [2, 3], [4, 5], [6, 7], [10, 11], [12, 13])
    ]
    assert taken(queue, 1) == [(8, [0, 1, 2]), (9, [0, 1, 2])]
    # Two prompts are left for two replicas.
    assert taken(queue, 1) == [(14, [0, 1, 2])]
    # Any replica can take a rollout that has to restart, and these come first.
    queue.put_back(1, prompts[8], 1)
    assert taken(queue, 0) == [(8, [1])]
    assert taken(queue, 0) == [(15, [0, 1, 2])]
    assert queue.is_empty(1)


@pytest.mark.parametrize("has_fixed_shares", [False, True])
def test_one_replica_takes_whole_groups_in_order(has_fixed_shares):
    queue, _ = queue_of(
        9, 2, num_replicas=1, max_prompts=7, has_fixed_shares=has_fixed_shares
    )
    assert [len(queue.take(0)) for _ in range(3)] == [7, 2, 0]


def test_fewer_rollouts_than_replicas():
    queue, _ = queue_of(1, 2, num_replicas=3, max_prompts=1, has_fixed_shares=False)
    assert [taken(queue, i) for i in range(3)] == [[], [(0, [0])], [(0, [1])]]


def test_a_wait_ends_when_told_to():
    stop = Stop()
    stop.check()
    stop.wait([])
    threading.Timer(0.02, stop.set).start()
    with pytest.raises(CancelledError):
        stop.wait([Future()])


def test_times_are_means_and_numbers_are_sums():
    parts = [
        Timing(environment_wait=1.0, device_wait=3.0, num_steps=4, asked_at=[1.0, 5.0]),
        Timing(
            environment_wait=0.0, num_steps=6, asked_at=[2.0], phases={"decode": 4.0}
        ),
    ]
    timing = joined_timing(parts, seconds=9.0)
    assert (timing.seconds, timing.environment_wait, timing.device_wait) == (
        9.0,
        0.5,
        1.5,
    )
    assert timing.num_steps == 10
    assert timing.asked_at == [1.0, 2.0, 5.0]
    assert timing.phases == {"decode": 2.0}


@pytest.mark.parametrize(
    ("num_devices", "tensor", "num_replicas", "expected"),
    [(8, 1, None, (8, 1)), (8, 4, None, (2, 4)), (8, 2, 3, (3, 2)), (1, 1, 1, (1, 1))],
)
def test_devices_are_cut_into_replicas(num_devices, tensor, num_replicas, expected):
    devices = jax.devices()[:num_devices]
    found = replica_meshes(devices, tensor, num_replicas)
    assert (len(found), found[0].size) == expected
    used = [device for mesh in found for device in mesh.devices.flat]
    assert used == devices[: len(used)]


@pytest.mark.parametrize(
    ("tensor", "num_replicas", "message"),
    [
        (3, None, "rollout.tensor 3 does not divide the 8 devices"),
        (3, 1, "rollout.tensor 3 does not divide the 8 devices"),
        (16, None, "rollout.tensor 16 does not divide the 8 devices"),
        (4, 3, "rollout.replicas 3 x rollout.tensor 4 needs 12 devices, .* has 8"),
    ],
)
def test_replicas_that_do_not_fit_are_refused(tensor, num_replicas, message):
    with pytest.raises(ValueError, match=message):
        replica_meshes(jax.devices(), tensor, num_replicas)
