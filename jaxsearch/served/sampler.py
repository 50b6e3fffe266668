"""A sampler for a policy on a model server."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jaxsearch.data.question import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.protocol import Protocol
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.call import checked_order, prompts_of
from jaxsearch.rollouts.records import Prompt, Rollout, Timing
from jaxsearch.served.client import ModelClient
from jaxsearch.served.completions import RequestFields
from jaxsearch.served.rollout import ServedPolicy, ServedRollout
from jaxsearch.served.tool_thread import ToolThread
from jaxsearch.served.turn import TurnReader
from jaxsearch.served.workers import finished_rollouts
from jaxsearch.trajectory import Status, Trajectory
from jaxsearch.try_again import TryAgainError

# After this many failed rollouts in a row, the server is considered down.
_MIN_FAILURES_IN_A_ROW = 16


class ServedSampler:
    """Rolls out answers with a model server, in place of `Sampler`.

    Turns, budgets and tools are those of our own sampler, so a policy gets the same
    trajectories from both. If the server does not answer a turn, the rollout ends with
    `Status.MODEL_FAILED`, and `failure` has the reason.

    Args:
      client: the client of the server.
      fields: the request fields; `stop` has all stop tags of the protocol and tools.
      budgets: token budgets; slots and cache are not used.
      protocol: the protocol for prompts and answers.
      tokenizer: the tokenizer of the model.
      seed: seed of the run, for temperatures above 0.
      note: receives lines for the user, each once.
    """

    def __init__(
        self,
        client: ModelClient,
        fields: RequestFields,
        budgets: Budgets,
        protocol: Protocol,
        tokenizer: Tokenizer,
        *,
        seed: int,
        note: Callable[[str], None],
    ):
        self.tokenizer = tokenizer
        self._client = client
        self._fields = fields
        self._budgets = budgets
        self._protocol = protocol
        self._seed = seed
        self._note = note
        self._has_noted_cut = False
        self._reader = TurnReader(tokenizer, fields.stop, protocol)

    def run(
        self,
        params: Any,
        questions: Sequence[tuple[int, Question]],
        environment: TokenEnvironment,
        *,
        group_size: int,
        stage: int,
        temperature: float,
        first_sample: int = 0,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> tuple[list[Trajectory], Timing]:
        """Rolls out `group_size` answers to each (prompt_index, question).

        Args:
          params: not used; the server has the parameters.
          questions: pairs of an index in the question stream and a question.
          environment: the tools that answer turns.
          group_size: G, rollouts per question.
          stage: index of the stage, for the random numbers.
          temperature: sampling temperature; 0 is greedy.
          first_sample: sample_index of the first rollout of each group.
          on_finished: receives each trajectory when it finishes, in this thread; None:
            they are returned.

        Returns:
          The trajectories, sorted by question and sample, and the timing. With
          `on_finished` there are none: those of many questions would fill the memory.
          Log-probs are NaN where the server reported none.

        Raises:
          ValueError: for a prompt that exceeds its budget, a repeated prompt_index, an
            impossible group size or temperature, or a top_k that the server refuses.
          TryAgainError: if many rollouts failed in a row, so the server seems down.
        """
        started = time.perf_counter()
        order = checked_order(questions, group_size, temperature)
        if temperature:
            self._check_top_k()
        prompts = prompts_of(questions, self.tokenizer, self._protocol, self._budgets)
        samples = range(first_sample, first_sample + group_size)
        jobs = _jobs(prompts, samples, stage)
        tools = ToolThread(environment)
        policy = ServedPolicy(
            client=self._client,
            fields=self._fields,
            reader=self._reader,
            budgets=self._budgets,
            protocol=self._protocol,
            environment=environment,
            tools=tools,
            temperature=temperature,
            seed=self._seed,
        )
        timing = Timing(num_prefilled=sum(len(prompt.ids) for prompt in prompts))
        try:
            done = self._all(policy, jobs, timing, on_finished)
        finally:
            tools.shutdown()
        done.sort(key=lambda t: (order[t.prompt_index], t.sample_index))
        timing.seconds = time.perf_counter() - started
        return done, timing

    def _check_top_k(self) -> None:
        """Checks that answers are sampled as the run says; greedy ones need no top-k.

        Raises:
          ValueError: if requests would lack the top_k of the run.
        """
        top_k = self._fields.truncation.top_k
        if top_k is not None and not self._fields.has_extras:
            raise ValueError(
                f"{self._client.url} refuses the field top_k, but this run samples "
                f"with rollout.top_k {top_k}; sample greedily or without it, or use a "
                "server that takes it, as vLLM and SGLang do"
            )

    def _all(
        self,
        policy: ServedPolicy,
        jobs: Sequence[Rollout],
        timing: Timing,
        on_finished: Callable[[Trajectory], None] | None,
    ) -> list[Trajectory]:
        """Finishes the rollouts, with the concurrency of the settings.

        Returns:
          The trajectories that `on_finished` does not receive.
        """
        num_threads = min(len(jobs), self._client.settings.concurrency)
        done: list[Trajectory] = []
        take = done.append if on_finished is None else on_finished
        failures_in_a_row = 0
        finished = finished_rollouts(policy, jobs, num_threads)
        with contextlib.closing(finished):
            for rollout, trajectory in finished:
                self._count(rollout, timing, num_threads)
                take(trajectory)
                has_failed = trajectory.status is Status.MODEL_FAILED
                failures_in_a_row = failures_in_a_row + 1 if has_failed else 0
                if failures_in_a_row >= max(_MIN_FAILURES_IN_A_ROW, num_threads):
                    raise TryAgainError(
                        f"the model server failed for {failures_in_a_row} questions in "
                        f"a row, at last: {trajectory.failure}; as soon as it answers, "
                        "the same command continues"
                    )
        return done

    def _count(self, rollout: ServedRollout, timing: Timing, num_threads: int) -> None:
        """Adds the counts and times of a finished rollout."""
        timing.num_decode_calls += rollout.num_turns
        timing.num_observed += rollout.num_observed
        timing.environment_wait += rollout.tool_wait_s / num_threads
        if rollout.num_cut and not self._has_noted_cut:
            self._has_noted_cut = True
            self._note(
                f"{self._client.url} does not stop at stop tags, as if it ignored "
                "`stop`; text after the first tag of a turn is left out"
            )


def _jobs(
    prompts: Sequence[Prompt], sample_indices: Iterable[int], stage: int
) -> list[Rollout]:
    """The rollouts to start: those of each prompt, one after another."""
    return [
        Rollout(
            stage=stage,
            prompt=prompt,
            sample_index=sample_index,
            turn_start=len(prompt.ids),
        )
        for prompt, sample_index in itertools.product(prompts, sample_indices)
    ]
