"""The host loop of one replica: refill slots, decode, call tools, collect rollouts."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.daemon_executor import DaemonExecutor
from jaxsearch.env.environment import Done, RolloutId
from jaxsearch.env.token_environment import ObservedTokens, TokenEnvironment
from jaxsearch.models.transformer import Params
from jaxsearch.protocol import Protocol
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.decode import Prompts
from jaxsearch.rollouts.pool import SlotPool
from jaxsearch.rollouts.prompt_queue import PromptQueue
from jaxsearch.rollouts.records import Asked, Prompt, Rollout, Timing, TurnState
from jaxsearch.rollouts.slots import Phase, Row, Start
from jaxsearch.rollouts.threads import Stop
from jaxsearch.rollouts.timeline import Activity, Timeline
from jaxsearch.trajectory import Status, Trajectory

# Maximum number of tokens decoded between two checks of the pending tool calls.
_STEPS_PER_LOOK = 4


class Rollouts:
    """One replica's rollouts of a batch: its slots and its pending tool calls.

    Args:
      queue: the prompts of the batch, shared by all replicas.
      replica: number of this replica in the queue.
      order: rank of each prompt, by prompt_index; lower ranks get cache pages first.
      timeline: receives what slots, tools and pages do; None: nothing is recorded.
      on_finished: receives each trajectory when it finishes; None: `finish`
        returns them.
    """

    def __init__(
        self,
        *,
        queue: PromptQueue,
        replica: int,
        order: Mapping[int, int],
        stop: Stop,
        pool: SlotPool,
        budgets: Budgets,
        protocol: Protocol,
        tokenizer: Tokenizer,
        environment: TokenEnvironment,
        params: Params,
        group_size: int,
        stage: int,
        temperature: float,
        turn_state: TurnState,
        is_profiled: bool,
        timeline: Timeline | None = None,
        on_finished: Callable[[Trajectory], None] | None = None,
    ):
        self.timing = Timing()
        self._queue = queue
        self._replica = replica
        self._order = order
        self._stop = stop
        self._pool = pool
        self._budgets = budgets
        self._protocol = protocol
        self._tokenizer = tokenizer
        self._environment = environment
        self._params = params
        self._group_size = group_size
        self._stage = stage
        self._temperature = temperature
        self._turn_state = turn_state
        self._is_profiled = is_profiled
        self._timeline = timeline
        self._prefilled: Prompts | None = None
        # Rollouts of `_prefilled` that have not started: source row, prompt, sample.
        self._waiting: collections.deque[tuple[int, Prompt, int]] = collections.deque()
        self._by_slot: dict[int, Rollout] = {}
        self._decoding: set[int] = set()
        self._is_stalled = False  # no decoding slot has room in the cache
        self._lengths = np.zeros(budgets.num_slots, np.int32)
        self._calls: dict[Future, Asked] = {}  # in the order of the calls
        # Pending calls of the environment's `start` and `close`.
        self._announcements: collections.deque[Future] = collections.deque()
        # Observations that have arrived but are not in the cache yet.
        self._observed: dict[int, list[int]] = {}
        self._done: list[Trajectory] = []
        self._take = self._done.append if on_finished is None else on_finished

    def finish(self) -> list[Trajectory]:
        """Rolls out prompts from the queue; returns rollouts in the order they finish.

        Raises:
          CancelledError: if another replica failed or the run was interrupted.
        """
        if not self._has_prompts:
            return []  # returns before running (and compiling) any program
        # After an error in an earlier run, slots may still be decoding.
        self._pool.release(range(self._budgets.num_slots))
        with DaemonExecutor() as self._tools:
            while self._has_prompts or self._by_slot:
                self._stop.check()
                self._refill()
                self._take_observations()
                self._decode()
                if not self._is_stalled:
                    self._take_stopped()
                elif self._by_slot and not self._calls:
                    self._restart_youngest()
            self._check_announcements(is_waiting=True)
        return self._done

    @property
    def _has_prompts(self) -> bool:
        return bool(self._waiting) or not self._queue.is_empty(self._replica)

    def _refill(self) -> None:
        free = collections.deque(
            slot for slot in range(self._budgets.num_slots) if slot not in self._by_slot
        )
        # No rollout starts while an observation waits for room, or it could wait
        # forever.
        while free and not self._observed and self._has_prompts:
            if not self._waiting:
                self._prefill()
            starts = []
            while free and self._waiting:
                source, prompt, sample_index = self._waiting[0]
                prompt_len = len(prompt.ids)
                if not self._pool.admits(prompt_len):
                    break
                self._waiting.popleft()
                slot = free.popleft()
                self._pool.cover(slot, prompt_len)
                self._by_slot[slot] = Rollout(
                    stage=self._stage,
                    prompt=prompt,
                    sample_index=sample_index,
                    turn_start=prompt_len,
                )
                self._decoding.add(slot)
                self._record(slot, Activity.DECODING)
                self._lengths[slot] = prompt_len
                stop_state = self._turn_state(self._by_slot[slot])
                starts.append(
                    Start(slot, source, prompt.index, sample_index, stop_state)
                )
            if not starts:
                break
            begun = [self._by_slot[start.slot] for start in starts]
            self._announce(
                self._environment.environment.start,
                [(rollout.id, rollout.prompt.question) for rollout in begun],
            )
            with self._timed("fork"):
                self._pool.start(self._prefilled, starts, self._stage)
            self._call_first([start.slot for start in starts])

    def _prefill(self) -> None:
        batch = self._queue.take(self._replica)
        if not batch:
            return
        ids = [prompt.ids.tolist() for prompt, _ in batch]
        with self._timed("prefill"):
            self._prefilled = self._pool.prefill(self._params, ids, self._group_size)
        self.timing.num_prefilled += sum(map(len, ids))
        self._waiting.extend(
            (source, prompt, sample_index)
            for source, (prompt, sample_indices) in enumerate(batch)
            for sample_index in sample_indices
        )

    def _decode(self) -> None:
        max_steps = _STEPS_PER_LOOK if self._calls else self._budgets.max_turn_len
        slots = sorted(self._decoding, key=self._age)
        lengths = {slot: int(self._lengths[slot]) for slot in slots}
        if self._timeline is not None:
            self._timeline.add_pages(self._replica, self._pool.page_owners())
        with self._timed("decode"):
            active = self._pool.decode(
                self._params, self._temperature, lengths, max_steps
            )
        self._is_stalled = not active
        self.timing.num_decode_calls += bool(active)

    def _age(self, slot: int) -> tuple[int, int]:
        """Rank in the order in which slots get cache pages: older rollouts first."""
        rollout = self._by_slot[slot]
        return self._order[rollout.prompt.index], rollout.sample_index

    def _restart_youngest(self) -> None:
        """Makes room in the cache by sending the youngest rollout back to the queue.

        It will sample the same tokens again, because its random numbers depend only on
        its id.
        """
        slot = max({*self._decoding, *self._observed}, key=self._age)
        self._record(slot, None)
        rollout = self._by_slot.pop(slot)
        self._decoding.discard(slot)
        self._observed.pop(slot, None)
        self._pool.release([slot])
        # Closed before another replica can restart it.
        self._announce(self._environment.environment.close, [rollout.id])
        self._check_announcements(is_waiting=True)
        self._queue.put_back(self._replica, rollout.prompt, rollout.sample_index)
        self.timing.num_restarts += 1

    def _take_stopped(self) -> None:
        """Sends finished turns to the environment, and collects finished rollouts."""
        started = time.perf_counter()
        phases, self._lengths, steps = self._pool.state()
        self.timing.num_steps += steps
        self.timing.device_wait += time.perf_counter() - started
        stopped = [s for s in sorted(self._decoding) if phases[s] != Phase.DECODING]
        self._decoding.difference_update(stopped)
        rows = self._pool.rows(stopped) if stopped else {}
        turns, finished = {}, {}
        for slot in stopped:
            rollout = self._by_slot[slot]
            if phases[slot] == Phase.ENDED:
                finished[slot] = Status.ENDED
            elif phases[slot] == Phase.EXHAUSTED:
                finished[slot] = Status.OUT_OF_LENGTH
            else:
                turn = self._tokenizer.decode(rows[slot].tokens[rollout.turn_start :])
                if self._environment.ends_rollout(turn):
                    finished[slot] = Status.ENDED
                elif len(rollout.tool_calls) >= self._budgets.max_calls:
                    finished[slot] = Status.OUT_OF_CALLS
                else:
                    turns[slot] = (rollout.id, turn)
        # Submitted first, so that tools run while the host builds trajectories.
        self._submit(turns)
        self._finish(finished, rows)

    def _call_first(self, slots: Sequence[int]) -> None:
        """Sends the first turns of the protocol, if it has any."""
        turns = {}
        for slot in slots:
            rollout = self._by_slot[slot]
            text = self._protocol.first_turn(rollout.prompt.question.question)
            if text:
                turns[slot] = (rollout.id, text)
        # They start decoding when their observations are in the cache.
        self._decoding.difference_update(turns)
        self._submit(turns)

    def _submit(self, turns: Mapping[int, tuple[RolloutId, str]]) -> None:
        """Calls the environment, in the tool thread, with the turns of some slots."""
        if not turns:
            return
        self.timing.asked_at.append(time.perf_counter())
        future = self._tools.submit(self._call, turns)
        for slot in turns:
            self._record(slot, Activity.CALLING)
        self._calls[future] = Asked(tuple(turns), self.timing.num_decode_calls)

    def _call(
        self, turns: Mapping[int, tuple[RolloutId, str]]
    ) -> list[ObservedTokens | Done]:
        """The environment's answers to the turns of some slots, in the tool thread."""
        if self._timeline is None:
            return self._environment.step(list(turns.values()))
        started = self._timeline.now()
        answers = self._environment.step(list(turns.values()))
        self._timeline.add_tool_span(self._replica, list(turns), started)
        return answers

    def _record(self, slot: int, activity: Activity | None) -> None:
        """Records what a slot does from now on; None: it is free."""
        if self._timeline is None:
            return
        if activity is None:
            self._timeline.end(self._replica, slot)
            return
        rollout = self._by_slot[slot]
        ids = (rollout.prompt.index, rollout.sample_index)
        self._timeline.begin(self._replica, slot, ids, activity)

    def _arrived(self) -> list[Future]:
        """The calls whose results are due; waits for one if no slot can decode."""
        calls, patience = list(self._calls), self._budgets.search_calls
        last = self.timing.num_decode_calls - patience
        due = [f for f in calls if patience and self._calls[f].num_decode_calls <= last]
        if not due and (self._is_stalled or not self._decoding):
            due = calls[:1]
        started = time.perf_counter()
        self._stop.wait(due)
        self.timing.environment_wait += time.perf_counter() - started
        return due if patience else [f for f in calls if f.done()]

    def _take_observations(self) -> None:
        """Reads the results of calls that are due, and appends their observations."""
        self._check_announcements()
        finished = {}
        for future in self._arrived():
            slots = self._calls.pop(future).slots
            for slot, answer in zip(slots, future.result(), strict=True):
                if answer.call is not None:
                    self._by_slot[slot].tool_calls.append(answer.call)
                if isinstance(answer, Done):
                    finished[slot] = answer.status
                elif self._lengths[slot] + len(answer.ids) < self._budgets.max_len:
                    self._observed[slot] = answer.ids
                else:
                    finished[slot] = Status.OUT_OF_LENGTH
        if finished:
            self._finish(finished, self._pool.rows(finished))
        self._append_observations()

    def _append_observations(self) -> None:
        """Appends waiting observations to the cache, as far as it has room."""
        observations = {}
        for slot in sorted(self._observed, key=self._age):
            ids = self._observed[slot]
            if self._pool.cover(slot, int(self._lengths[slot]) + len(ids)):
                observations[slot] = self._observed.pop(slot)
                self._record(slot, Activity.DECODING)
            else:
                self._record(slot, Activity.WAITING)
        if not observations:
            return
        for slot, ids in observations.items():
            self._lengths[slot] += len(ids)
            self._by_slot[slot].turn_start = int(self._lengths[slot])
            self.timing.num_observed += len(ids)
        self._decoding.update(observations)
        stop_states = {s: self._turn_state(self._by_slot[s]) for s in observations}
        with self._timed("append"):
            self._pool.observe(self._params, observations, stop_states)

    def _announce(self, method: Callable[[Sequence[Any]], None], them: list) -> None:
        """Calls the environment's `start` or `close` in the tool thread."""
        self._announcements.append(self._tools.submit(method, them))

    def _check_announcements(self, *, is_waiting: bool = False) -> None:
        """Raises errors of finished announcements; `is_waiting` waits for all first."""
        if is_waiting:
            self._stop.wait(self._announcements)
        while self._announcements and self._announcements[0].done():
            self._announcements.popleft().result()

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        if not self._is_profiled:
            yield
            return
        started = time.perf_counter()
        yield
        self._pool.wait(self._prefilled)
        spent = time.perf_counter() - started
        self.timing.phases[phase] = self.timing.phases.get(phase, 0.0) + spent

    def _finish(self, finished: dict[int, Status], rows: dict[int, Row]) -> None:
        """Removes finished rollouts from their slots and stores their trajectories."""
        if not finished:
            return
        self._pool.release(list(finished))
        ended = [self._by_slot[slot].id for slot in finished]
        self._announce(self._environment.environment.close, ended)
        for slot, status in finished.items():
            self._record(slot, None)
            rollout = self._by_slot.pop(slot)
            trajectory = rollout.trajectory(
                rows[slot], status, self._protocol, self._tokenizer.decode
            )
            self._take(trajectory)
