"""Groups of rollouts for questions: the door to this package."""

import contextlib
import functools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsearch.data.formats import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.models.transformer import Params
from jaxsearch.protocol import Protocol
from jaxsearch.rollout import memory
from jaxsearch.rollout.budgets import Budgets
from jaxsearch.rollout.decode import Programs
from jaxsearch.rollout.layout import replica_meshes
from jaxsearch.rollout.loop import Rollouts
from jaxsearch.rollout.pool import SlotPool
from jaxsearch.rollout.prompt_queue import PromptQueue
from jaxsearch.rollout.records import (
    Prompt,
    Timing,
    TurnState,
    from_the_start,
    of_replicas,
)
from jaxsearch.rollout.threads import Stop, side_by_side
from jaxsearch.trajectory import Trajectory


class Sampler:
    """Rolls out groups of answers to questions through a fixed set of slots.

    The same questions, seed and search results give the same trajectories, for any
    number of slots and any order in which results arrive, and for any number of
    replicas: copies of the policy that run side by side, each with slots, programs
    and a thread of its own, and wait for each other only at the end.

    Args:
      table: the stop table of the protocol's stop tags.
      turn_state: where in the table a turn begins. A table that counts tokens and a
        start further along make turns of given lengths (`bench`).
      replicas: meshes as `replica_meshes` makes them; None: one, on one device.
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
                f"programs and limits disagree on max_turn_len: "
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
        with self._memory_explained():
            self._pools = [
                SlotPool(programs, budgets, table, tokenizer.pad_id, mesh)
                for mesh in replicas
            ]

    def warm_up(self, params: Params, group_size: int) -> None:
        """Compiles every program in every shape that a rollout may need.

        For every replica, side by side: an executable of XLA is for one set of devices.
        """

        def warm_up(pool: SlotPool, stop: Stop) -> None:
            pool.warm_up(pool.params_of(params), group_size, stop)

        with self._memory_explained():
            self._allocate_cache()
            side_by_side([functools.partial(warm_up, pool) for pool in self._pools])

    def free_cache(self) -> None:
        """What the slots hold of the devices, until the next run."""
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
    ) -> tuple[list[Trajectory], Timing]:
        """Rolls out `group_size` answers to each (prompt_index, question).

        Args:
          params: published, so that every replica has them.
          first_sample: sample_index of the first rollout of each group; not 0 where an
            earlier call made the others.
          is_profiled: wait for the device after each of its programs, so that their
            times can be told apart. Costs the overlap of host and device.

        Returns the trajectories by question, then sample, and the timing.
        Errors: ValueError for a prompt beyond its budget, a prompt_index that occurs
        twice (its random keys would too), or an environment with a larger budget.
        """
        started = time.perf_counter()
        order = {prompt_index: i for i, (prompt_index, _) in enumerate(questions)}
        if len(order) < len(questions):
            raise ValueError("the prompt indices of a call must be distinct")
        if group_size < 1 or temperature < 0:
            raise ValueError(
                f"expected group_size >= 1 and temperature >= 0, got {group_size} "
                f"and {temperature}"
            )
        if environment.max_observation_len > self._budgets.max_observation_len:
            raise ValueError(
                "the environment gives observations of up to "
                f"{environment.max_observation_len} tokens, the sampler takes "
                f"{self._budgets.max_observation_len}"
            )
        prompts = [self._prompt(*question) for question in questions]
        queue = PromptQueue(
            prompts,
            group_size,
            num_replicas=len(self._pools),
            most=self._pools[0].num_prompts(group_size),
            is_dealt=self._budgets.search_calls > 0,
            first_sample=first_sample,
        )

        def finish(
            replica: int, pool: SlotPool, stop: Stop
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
                params=pool.params_of(params),
                group_size=group_size,
                stage=stage,
                temperature=temperature,
                turn_state=self._turn_state,
                is_profiled=is_profiled,
            )
            return rollouts.finish(), rollouts.timing

        with self._memory_explained():
            self._allocate_cache()
            parts = side_by_side(
                [
                    functools.partial(finish, replica, pool)
                    for replica, pool in enumerate(self._pools)
                ]
            )
        done = [trajectory for trajectories, _ in parts for trajectory in trajectories]
        done.sort(key=lambda t: (order[t.prompt_index], t.sample_index))
        seconds = time.perf_counter() - started
        return done, of_replicas([timing for _, timing in parts], seconds)

    def _memory_explained(self) -> contextlib.AbstractContextManager[None]:
        """Where a device runs out of memory, the error says how many slots fit."""
        transformer, budgets = self._programs.transformer, self._budgets
        num_tokens = budgets.cache_len or budgets.num_slots * budgets.max_len
        num_parameters = transformer.architecture.num_parameters
        tensor_parallel_size = transformer.tensor_parallel_size
        return memory.explained(
            num_slots=budgets.num_slots,
            bytes_per_slot=memory.slot_bytes(
                transformer.architecture,
                num_tokens // budgets.num_slots,
                transformer.dtype,
                tensor_parallel_size,
            ),
            reserved_bytes=num_parameters
            * jnp.dtype(transformer.dtype).itemsize
            // tensor_parallel_size,
            device_bytes=memory.device_bytes(self._device),
        )

    def _prompt(self, prompt_index: int, question: Question) -> Prompt:
        ids = self.tokenizer.encode_prompt(
            self._protocol.prompt(question.question),
            self._protocol.messages(question.question),
        )
        if not 0 < len(ids) <= self._budgets.max_prompt_len:
            raise ValueError(
                f"the prompt of question {question.id!r} has {len(ids)} tokens; "
                f"expected 1 to {self._budgets.max_prompt_len} (max_prompt_len)"
            )
        return Prompt(question=question, index=prompt_index, ids=ids)
