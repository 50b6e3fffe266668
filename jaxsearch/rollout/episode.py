"""The host's side of a rollout: refill, search beside decoding, take what is done."""

import collections
import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsearch.data.formats import Question
from jaxsearch.data.tokenizer import Tokenizer, pad_rows
from jaxsearch.models.cache import empty_cache
from jaxsearch.models.transformer import Params
from jaxsearch.protocol import Protocol
from jaxsearch.rollout.decode import Programs, Prompts
from jaxsearch.rollout.observation import Observer
from jaxsearch.rollout.slots import Phase, Slots, empty_slots
from jaxsearch.search.index import SearchError
from jaxsearch.trajectory import Search, Status, Trajectory, segments_of

# Programs are compiled for the limit and for its halves down to a quarter.
_NUM_BUCKETS = 3
_SMALLEST_BUCKET = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Budgets of a rollout, in tokens unless named otherwise."""

    num_slots: int  # B, rollouts in flight
    max_len: int  # S, prompt, turns and observations together
    max_prompt_len: int
    max_turn_len: int
    max_observation_len: int
    max_searches: int  # per rollout


@dataclasses.dataclass(kw_only=True)
class Timing:
    """Where the time of a rollout went, and how much was done."""

    seconds: float = 0.0
    search_wait: float = 0.0  # seconds in which nothing could be decoded
    num_decode_calls: int = 0
    num_prefilled: int = 0  # tokens of prompts
    num_observed: int = 0  # tokens of observations


@dataclasses.dataclass(kw_only=True)
class _Rollout:
    """One rollout in a slot."""

    question: Question
    position: int
    member: int
    prompt_len: int
    turn_start: int
    searches: list[Search] = dataclasses.field(default_factory=list)


def buckets(limit: int) -> tuple[int, ...]:
    """The limit and its halves, smallest first: the shapes that get compiled."""
    halves = [limit >> i for i in range(_NUM_BUCKETS)]
    return tuple(sorted({limit, *(h for h in halves if h >= _SMALLEST_BUCKET)}))


def bucket_of(sizes: tuple[int, ...], needed: int) -> int:
    """The smallest bucket that holds `needed`."""
    return next(size for size in sizes if size >= needed)


class Sampler:
    """Rolls out groups of answers to questions through a fixed set of slots.

    The same questions, seed and search results give the same trajectories, for any
    number of slots and any order in which results arrive.
    """

    def __init__(
        self,
        programs: Programs,
        limits: Limits,
        protocol: Protocol,
        tokenizer: Tokenizer,
        table: np.ndarray,
        put: Callable[[Slots], Slots] = lambda slots: slots,
    ):
        self._programs = programs
        self._limits = limits
        self._protocol = protocol
        self._tokenizer = tokenizer
        self._table = jnp.asarray(table)
        self._prompt_buckets = buckets(limits.max_prompt_len)
        self._observation_buckets = buckets(limits.max_observation_len)
        self._read_buckets = buckets(limits.max_len)
        self._row_buckets = tuple(sorted({-(-limits.num_slots // 4), limits.num_slots}))
        transformer = programs.transformer
        cache = empty_cache(
            transformer.architecture,
            limits.num_slots,
            limits.max_len,
            transformer.dtype,
        )
        self._slots = put(empty_slots(limits.num_slots, limits.max_len, cache))

    def warm_up(self, params: Params, group_size: int) -> None:
        """Compiles every program in every shape that a rollout may need."""
        nobody = self._limits.num_slots
        for row_len in self._prompt_buckets:
            num_prompts = self._num_prompts(group_size)
            prompts = self._programs.prefill(
                params,
                jnp.zeros((num_prompts, row_len), jnp.int32),
                jnp.ones(num_prompts, jnp.int32),
            )
            self._fork(prompts, [], [], stage=0)
        for read_len in self._read_buckets:
            self._decode(params, 0.0, num_enough=1, max_steps=0, read_len=read_len)
            for num_rows in self._row_buckets:
                for row_len in self._observation_buckets:
                    self._slots = self._programs.observe(
                        params,
                        self._slots,
                        jnp.full(num_rows, nobody, jnp.int32),
                        jnp.zeros((num_rows, row_len), jnp.int32),
                        jnp.zeros(num_rows, jnp.int32),
                        read_len,
                    )
        self._slots = self._programs.release(
            self._slots, jnp.full(self._limits.num_slots, nobody, jnp.int32)
        )

    def run(
        self,
        params: Params,
        questions: Sequence[tuple[int, Question]],
        observer: Observer,
        *,
        group_size: int,
        stage: int,
        temperature: float,
    ) -> tuple[list[Trajectory], Timing]:
        """Rolls out `group_size` answers to each (position, question).

        Returns the trajectories by question, then member, and the timing.
        Errors: ValueError for a prompt beyond its budget.
        """
        started = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(1) as searching:
            run = _Run(self, params, observer, searching, stage, temperature)
            done = run.finish(self._prompts(questions), group_size)
        run.timing.seconds = time.perf_counter() - started
        order = {position: i for i, (position, _) in enumerate(questions)}
        done.sort(key=lambda t: (order[t.position], t.member))
        return done, run.timing

    def _prompts(
        self, questions: Sequence[tuple[int, Question]]
    ) -> list[tuple[int, Question, list[int]]]:
        limit = min(self._limits.max_prompt_len, self._limits.max_len - 1)
        prompts = []
        for position, question in questions:
            ids = self._tokenizer.encode_prompt(
                self._protocol.prompt(question.question),
                self._protocol.messages(question.question),
            )
            if not 0 < len(ids) <= limit:
                raise ValueError(
                    f"the prompt of question {question.id!r} has {len(ids)} tokens; "
                    f"expected 1 to {limit} (rollout.max_prompt_len)"
                )
            prompts.append((position, question, ids))
        return prompts

    def _num_prompts(self, group_size: int) -> int:
        return max(1, -(-self._limits.num_slots // group_size))

    def _fork(self, prompts: Prompts, rows: list[int], starts: list, stage: int):
        B = self._limits.num_slots
        fill = B - len(rows)
        columns = [[0] * B] * 3
        if starts:
            columns = [
                [*column, *[0] * fill] for column in zip(*starts, strict=True)
            ]
        sources, positions, members = (np.asarray(c, np.int32) for c in columns)
        self._slots = self._programs.fork(
            self._slots,
            prompts,
            np.asarray([*rows, *[B] * fill], np.int32),
            sources,
            np.int32(stage),
            positions,
            members,
        )

    def _decode(self, params, temperature, *, num_enough, max_steps, read_len):
        self._slots = self._programs.decode(
            params,
            self._slots,
            self._table,
            np.float32(temperature),
            np.int32(num_enough),
            np.int32(max_steps),
            read_len,
        )


class _Run:
    """One call of `Sampler.run`: who is in which slot, and which searches are out."""

    def __init__(self, sampler, params, observer, searching, stage, temperature):
        self.timing = Timing()
        self._sampler = sampler
        self._params = params
        self._observer = observer
        self._searching = searching
        self._stage = stage
        self._temperature = temperature
        self._rollouts: dict[int, _Rollout] = {}  # by slot
        self._decoding: set[int] = set()
        self._lengths = np.zeros(sampler._limits.num_slots, np.int32)
        self._searches: dict[concurrent.futures.Future, list[int]] = {}
        self._done: list[Trajectory] = []

    def finish(self, prompts: list, group_size: int) -> list[Trajectory]:
        """Runs until every rollout of every prompt is done."""
        queue = collections.deque(prompts)
        self._prefilled = collections.deque()  # (source, question, position, member)
        while queue or self._prefilled or self._rollouts:
            self._take_observations()
            self._refill(queue, group_size)
            if self._decoding:
                self._decode()
                self._take_stopped()
            elif self._searches:
                started = time.perf_counter()
                concurrent.futures.wait(
                    self._searches, return_when=concurrent.futures.FIRST_COMPLETED
                )
                self.timing.search_wait += time.perf_counter() - started
        return self._done

    def _refill(self, queue: collections.deque, group_size: int) -> None:
        sampler = self._sampler
        free = [s for s in range(len(self._lengths)) if s not in self._rollouts]
        while free and (queue or self._prefilled):
            if not self._prefilled:
                self._prefill(queue, group_size)
            rows, starts = [], []
            while free and self._prefilled:
                source, position, question, ids, member = self._prefilled.popleft()
                slot = free.pop(0)
                self._rollouts[slot] = _Rollout(
                    question=question,
                    position=position,
                    member=member,
                    prompt_len=len(ids),
                    turn_start=len(ids),
                )
                self._decoding.add(slot)
                self._lengths[slot] = len(ids)
                rows.append(slot)
                starts.append((source, position, member))
            sampler._fork(self._prompts, rows, starts, self._stage)

    def _prefill(self, queue: collections.deque, group_size: int) -> None:
        sampler = self._sampler
        num_prompts = sampler._num_prompts(group_size)
        batch = [queue.popleft() for _ in range(min(num_prompts, len(queue)))]
        rows = [ids for _, _, ids in batch]
        fill = [[0]] * (num_prompts - len(rows))
        row_len = bucket_of(sampler._prompt_buckets, max(map(len, rows)))
        tokens = pad_rows([*rows, *fill], row_len, sampler._tokenizer.pad_id)
        self._prompts = sampler._programs.prefill(
            self._params, tokens, np.asarray([len(r) for r in [*rows, *fill]], np.int32)
        )
        self.timing.num_prefilled += sum(map(len, rows))
        for source, (position, question, ids) in enumerate(batch):
            for member in range(group_size):
                self._prefilled.append((source, position, question, ids, member))

    def _decode(self) -> None:
        """Decodes until a quarter of the slots stopped, or a result may be in."""
        sampler = self._sampler
        longest = int(max(self._lengths[s] for s in self._decoding))
        max_steps = 16 if self._searches else sampler._limits.max_turn_len
        read_len = bucket_of(sampler._read_buckets, longest)
        if read_len < sampler._limits.max_len:
            max_steps = max(1, min(max_steps, read_len - longest))
        sampler._decode(
            self._params,
            self._temperature,
            num_enough=max(1, len(self._lengths) // 4),
            max_steps=max_steps,
            read_len=read_len,
        )
        self.timing.num_decode_calls += 1

    def _take_stopped(self) -> None:
        sampler = self._sampler
        slots = sampler._slots
        phases, lengths = jax.device_get((slots.phase, slots.length))
        self._lengths = lengths.copy()
        stopped = [s for s in sorted(self._decoding) if phases[s] != Phase.DECODING]
        if not stopped:
            return
        self._decoding.difference_update(stopped)
        tokens = jax.device_get(slots.tokens)
        asked, finished = [], {}
        for slot in stopped:
            if phases[slot] == Phase.SEARCHING:
                if len(self._rollouts[slot].searches) < sampler._limits.max_searches:
                    asked.append(slot)
                else:
                    finished[slot] = Status.OUT_OF_SEARCHES
            elif phases[slot] == Phase.ENDED:
                finished[slot] = Status.ENDED
            else:
                finished[slot] = Status.OUT_OF_LENGTH
        self._finish(finished)
        if asked:
            queries = [self._query(slot, tokens[slot]) for slot in asked]
            future = self._searching.submit(self._observer.observe, queries)
            self._searches[future] = asked

    def _query(self, slot: int, tokens: np.ndarray) -> str:
        turn = tokens[self._rollouts[slot].turn_start : self._lengths[slot]]
        return self._sampler._protocol.query(self._sampler._tokenizer.decode(turn))

    def _take_observations(self) -> None:
        """Appends what the searches that are done have brought."""
        sampler = self._sampler
        ready, finished = [], {}
        for future in [future for future in self._searches if future.done()]:
            asked = self._searches.pop(future)
            try:
                results = future.result()
            except SearchError:
                failed = Search(query="", passage_ids=(), has_failed=True)
                for slot in asked:
                    self._rollouts[slot].searches.append(failed)
                    finished[slot] = Status.SEARCH_FAILED
                continue
            for slot, (ids, record) in zip(asked, results, strict=True):
                self._rollouts[slot].searches.append(record)
                if self._lengths[slot] + len(ids) < sampler._limits.max_len:
                    ready.append((slot, ids))
                else:
                    finished[slot] = Status.OUT_OF_LENGTH
        self._finish(finished)
        if ready:
            self._observe(ready)

    def _observe(self, ready: list[tuple[int, list[int]]]) -> None:
        sampler = self._sampler
        B = len(self._lengths)
        num_rows = bucket_of(sampler._row_buckets, len(ready))
        fill = num_rows - len(ready)
        lens = [len(ids) for _, ids in ready]
        row_len = bucket_of(sampler._observation_buckets, max(lens))
        for slot, ids in ready:
            self._lengths[slot] += len(ids)
            self._rollouts[slot].turn_start = int(self._lengths[slot])
            self._decoding.add(slot)
        longest = int(max(self._lengths[slot] for slot, _ in ready))
        sampler._slots = sampler._programs.observe(
            self._params,
            sampler._slots,
            np.asarray([*(slot for slot, _ in ready), *[B] * fill], np.int32),
            pad_rows(
                [*(ids for _, ids in ready), *[[]] * fill],
                row_len,
                sampler._tokenizer.pad_id,
            ),
            np.asarray([*lens, *[0] * fill], np.int32),
            bucket_of(sampler._read_buckets, longest),
        )
        self.timing.num_observed += sum(lens)

    def _finish(self, finished: dict[int, Status]) -> None:
        """Takes finished rollouts out of their slots."""
        if not finished:
            return
        sampler = self._sampler
        slots = sampler._slots
        tokens, is_policy, logprobs = jax.device_get(
            (slots.tokens, slots.is_policy, slots.logprobs)
        )
        for slot, status in finished.items():
            rollout, length = self._rollouts.pop(slot), self._lengths[slot]
            row = slice(0, length)
            segments = segments_of(
                tokens[slot, row],
                is_policy[slot, row],
                rollout.prompt_len,
                sampler._tokenizer.decode,
            )
            if status is Status.ENDED and sampler._protocol.has_answer(segments):
                status = Status.ANSWERED
            self._done.append(
                Trajectory(
                    question_id=rollout.question.id,
                    question=rollout.question.question,
                    golden_answers=rollout.question.golden_answers,
                    position=rollout.position,
                    member=rollout.member,
                    tokens=tokens[slot, row].copy(),
                    is_policy=is_policy[slot, row].copy(),
                    logprobs=logprobs[slot, row].copy(),
                    prompt_len=rollout.prompt_len,
                    segments=segments,
                    searches=tuple(rollout.searches),
                    status=status,
                )
            )
        B = len(self._lengths)
        rows = [*finished, *[B] * (B - len(finished))]
        sampler._slots = sampler._programs.release(
            slots, np.asarray(rows, np.int32)
        )
