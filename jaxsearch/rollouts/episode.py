"""The sampler, the entry point of this package: rolls out groups of answers."""

import contextlib
import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsearch.announce import Announce, silently
from jaxsearch.data.question import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.models.transformer import Params
from jaxsearch.protocol import Protocol
from jaxsearch.rollouts import memory
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.call import checked_order, prompts_of
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.layout import replica_meshes
from jaxsearch.rollouts.loop import Rollouts
from jaxsearch.rollouts.pool import SlotPool
from jaxsearch.rollouts.prompt_queue import PromptQueue
from jaxsearch.rollouts.records import (
    Timing,
    TurnState,
    from_the_start,
    joined_timing,
)
from jaxsearch.rollouts.threads import Stop, run_in_threads
from jaxsearch.rollouts.timeline import Timeline
from jaxsearch.trajectory import Trajectory


class Sampler:
    """Rolls out groups of answers to questions through a fixed set of slots.

    The same questions, seed and tool results give the same trajectories, for any number
    of slots and replicas and any order in which results arrive. Replicas are copies of
    the policy that run in parallel, with separate slots, programs and threads; they
    synchronise only at the end.

    Args:
      programs: the device programs.
      budgets: token budgets and the number of slots.
      protocol: the protocol for prompts and answers.
      tokenizer: the tokenizer of the policy.
      table: the stop table of all stop tags.
      turn_state: state of the table at the start of a turn. With a table that counts
        tokens, a later start state makes turns of given lengths (see `bench`).
      replicas: meshes from `replica_meshes`; None: one replica on one device.

    Raises:
      ValueError: if programs and budgets disagree.
    """

    def __init__(
        self,
        programs: Programs,
        budgets: Budgets,
        protocol: Protocol,
        tokenizer: Tokenizer,
        table: np.ndarray,
        turn_state: TurnState = from_the_start,
        replicas: Sequence[Mesh] | None = None,
    ):
        if programs.max_turn_len != budgets.max_turn_len:
            raise ValueError(
                "programs and budgets disagree on max_turn_len: "
                f"{programs.max_turn_len} and {budgets.max_turn_len}"
            )
        self.tokenizer = tokenizer
        self._budgets = budgets
        self._protocol = protocol
        self._turn_state = turn_state
        self._programs = programs
        if replicas is None:
            replicas = replica_meshes(jax.local_devices(), 1, 1)
        self._device = replicas[0].devices.flat[0]
        with self.explain_shortage():
            self._pools = [
                SlotPool(programs, budgets, table, tokenizer.pad_id, mesh)
                for mesh in replicas
            ]

    def warm_up(
        self, params: Params, group_size: int, announce: Announce = silently
    ) -> None:
        """Compiles every program in every shape that a rollout may need.

        Replicas compile separately and in parallel, because an XLA executable is bound
        to a set of devices.

        Args:
          params: parameters in the layout of rollouts, on every replica.
          group_size: G, rollouts per question.
          announce: receives the number of programs, and each one that is compiled.
        """

        def warm_up(calls: Sequence[Callable[[], None]], stop: Stop) -> None:
            for call in calls:
                stop.check()
                call()
                advance()

        with self.explain_shortage():
            self._allocate_cache()
            calls = [
                pool.warm_ups(pool.params_of(params), group_size)
                for pool in self._pools
            ]
            with announce("the rollout", sum(map(len, calls))) as advance:
                run_in_threads([functools.partial(warm_up, part) for part in calls])

    def free_cache(self) -> None:
        """Frees the device memory of the slots until the next run."""
        for pool in self._pools:
            pool.free_cache()

    def _allocate_cache(self) -> None:
        for pool in self._pools:
            pool.allocate_cache()

    def run(
        self,
        params: Params,
        questions: Sequence[tuple[int, Question]],
        environment: TokenEnvironment,
        *,
        group_size: int,
        stage: int,
        temperature: float,
        first_sample: int = 0,
        is_profiled: bool = False,
        timeline: Timeline | None = None,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> tuple[list[Trajectory], Timing]:
        """Rolls out `group_size` answers to each (prompt_index, question).

        Args:
          params: parameters in the layout of rollouts, on every replica.
          questions: pairs of an index in the question stream and a question.
          environment: the tools that answer turns.
          group_size: G, rollouts per question.
          stage: number of the stage, for the random keys.
          temperature: sampling temperature; 0 is greedy.
          first_sample: sample_index of the first rollout of each group; not 0 if an
            earlier call made the previous ones.
          is_profiled: wait for the device after each program, to time programs
            separately. Host and device then do not overlap.
          timeline: receives what slots, tools and cache pages do.
          on_finished: receives each trajectory when it finishes, in the thread of its
            replica, which does not decode until the call returns. None: they are
            returned.

        Returns:
          The trajectories, sorted by question and sample, and the timing. With
          `on_finished` there are none: those of many questions would fill the memory.

        Raises:
          ValueError: for a prompt that exceeds its budget, a repeated prompt_index
            (its random keys would be the same), or an environment whose observations
            may exceed the sampler's budget.
        """
        started = time.perf_counter()
        order = checked_order(questions, group_size, temperature)
        if environment.max_observation_len > self._budgets.max_observation_len:
            raise ValueError(
                "the environment gives observations of up to "
                f"{environment.max_observation_len} tokens, but the sampler takes only "
                f"{self._budgets.max_observation_len}"
            )
        prompts = prompts_of(questions, self.tokenizer, self._protocol, self._budgets)
        queue = PromptQueue(
            prompts,
            group_size,
            num_replicas=len(self._pools),
            max_prompts=self._pools[0].num_prompts(group_size),
            has_fixed_shares=self._budgets.search_calls > 0,
            first_sample=first_sample,
        )

        def finish(
            replica: int, pool: SlotPool, pool_params: Params, stop: Stop
        ) -> tuple[list[Trajectory], Timing]:
            rollouts = Rollouts(
                queue=queue,
                replica=replica,
                order=order,
                stop=stop,
                pool=pool,
                budgets=self._budgets,
                protocol=self._protocol,
                tokenizer=self.tokenizer,
                environment=environment,
                params=pool_params,
                group_size=group_size,
                stage=stage,
                temperature=temperature,
                turn_state=self._turn_state,
                is_profiled=is_profiled,
                timeline=timeline,
                on_finished=on_finished,
            )
            return rollouts.finish(), rollouts.timing

        with self.explain_shortage():
            self._allocate_cache()
            # params_of splits arrays into shards, which JAX does not do safely in
            # several threads: one may see only part of the shards.
            parts = run_in_threads(
                [
                    functools.partial(finish, replica, pool, pool.params_of(params))
                    for replica, pool in enumerate(self._pools)
                ]
            )
        done = [trajectory for trajectories, _ in parts for trajectory in trajectories]
        done.sort(key=lambda t: (order[t.prompt_index], t.sample_index))
        seconds = time.perf_counter() - started
        return done, joined_timing([timing for _, timing in parts], seconds)

    def explain_shortage(self) -> contextlib.AbstractContextManager[None]:
        """Context in which out-of-memory errors report how many slots fit."""
        transformer, budgets = self._programs.transformer, self._budgets
        num_parameters = transformer.architecture.num_parameters
        tensor_parallel_size = transformer.tensor_parallel_size
        return memory.explain_shortage(
            memory.asked_for(
                transformer.architecture,
                budgets,
                transformer.dtype,
                tensor_parallel_size,
            ),
            reserved_bytes=num_parameters
            * jnp.dtype(transformer.dtype).itemsize
            // tensor_parallel_size,
            device_bytes=memory.device_bytes(self._device),
        )
