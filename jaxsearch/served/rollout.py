"""One rollout with a model server: turns, tool calls, and budgets."""

import dataclasses
import hashlib
import threading
import time
from collections.abc import Sequence

import numpy as np

from jaxsearch.env.environment import Done
from jaxsearch.env.token_environment import ObservedTokens, TokenEnvironment
from jaxsearch.protocol import Protocol
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.records import Rollout
from jaxsearch.rollouts.slots import Row
from jaxsearch.served.client import ModelClient
from jaxsearch.served.completions import Answer, ModelError, RequestFields
from jaxsearch.served.tool_thread import ToolThread
from jaxsearch.served.turn import Ending, ServedTurn, TurnReader
from jaxsearch.trajectory import Status, Trajectory

_MAX_SEED = 2**31


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedPolicy:
    """State shared by the rollouts of a run.

    Attributes:
      client: the client of the server.
      fields: the request fields.
      reader: reads turns from answers.
      budgets: token budgets, and the number of tool calls.
      seed: seed of the run.
    """

    client: ModelClient
    fields: RequestFields
    reader: TurnReader
    budgets: Budgets
    protocol: Protocol
    environment: TokenEnvironment
    tools: ToolThread
    temperature: float
    seed: int


class ServedRollout:
    """A rollout in progress.

    Attributes:
      num_turns: number of requests so far.
      num_observed: number of observation tokens so far.
      num_cut: number of tokens so far that were dropped after the ends of turns.
      tool_wait_s: time that the rollout waited for tools, in seconds.
    """

    def __init__(self, policy: ServedPolicy, rollout: Rollout):
        self.num_turns = 0
        self.num_observed = 0
        self.num_cut = 0
        self.tool_wait_s = 0.0
        self._is_encoded_again = False
        self._policy = policy
        self._rollout = rollout
        prompt_len = len(rollout.prompt.ids)
        self._tokens = rollout.prompt.ids.tolist()
        self._is_policy = [False] * prompt_len
        self._logprobs = [float("nan")] * prompt_len

    def finish(self, stop: threading.Event) -> Trajectory:
        """Rolls out until the policy ends, a budget is used up or the server fails.

        Args:
          stop: once set, failed turns are not retried.
        """
        policy, rollout = self._policy, self._rollout
        policy.tools.start(rollout.id, rollout.prompt.question)
        status, failure = None, ""
        first = policy.protocol.first_turn(rollout.prompt.question.question)
        try:
            if first:
                status = self._call(first)
            while status is None:
                status = self._take(self._turn(stop))
        except ModelError as error:
            status, failure = Status.MODEL_FAILED, str(error)
        policy.tools.close(rollout.id)
        decode = policy.environment.tokenizer.decode
        done = rollout.trajectory(self._row(), status, policy.protocol, decode)
        return dataclasses.replace(
            done, failure=failure, is_encoded_again=self._is_encoded_again
        )

    def _turn(self, stop: threading.Event) -> ServedTurn:
        """Requests and appends the next turn of the policy.

        Raises:
          ModelError: if the server fails to give one.
        """
        policy = self._policy
        budgets = policy.budgets
        room = min(budgets.max_turn_len, budgets.max_len - len(self._tokens))
        body = policy.fields.body(
            self._tokens,
            max_tokens=room,
            temperature=policy.temperature,
            seed=self._seed() if policy.temperature else None,
        )
        answer: Answer = policy.client.ask(body, stop)
        turn = policy.reader.read(answer, room)
        self.num_turns += 1
        self.num_cut += turn.num_cut
        self._is_encoded_again |= answer.ids is None
        if not turn.ids:
            raise ModelError("the server sampled no token")
        self._append(turn.ids, turn.logprobs, is_policy=True)
        return turn

    def _take(self, turn: ServedTurn) -> Status | None:
        """Sends a turn to the tools; returns how the rollout ends, or None."""
        policy, rollout = self._policy, self._rollout
        if turn.ending is not Ending.TAG:
            is_end = turn.ending is Ending.END
            return Status.ENDED if is_end else Status.OUT_OF_LENGTH
        text = policy.environment.tokenizer.decode(turn.ids)
        if policy.environment.ends_rollout(text):
            return Status.ENDED
        if len(rollout.tool_calls) >= policy.budgets.max_calls:
            return Status.OUT_OF_CALLS
        return self._call(text)

    def _call(self, text: str) -> Status | None:
        """Appends the observation of a call; returns how the rollout ends, or None."""
        started = time.perf_counter()
        answer = self._policy.tools.step(self._rollout.id, text)
        self.tool_wait_s += time.perf_counter() - started
        if answer.call is not None:
            self._rollout.tool_calls.append(answer.call)
        if isinstance(answer, Done):
            return answer.status
        if len(self._tokens) + len(answer.ids) >= self._policy.budgets.max_len:
            return Status.OUT_OF_LENGTH
        self._observe(answer)
        return None

    def _observe(self, answer: ObservedTokens) -> None:
        unknown = [float("nan")] * len(answer.ids)
        self._append(answer.ids, unknown, is_policy=False)
        self.num_observed += len(answer.ids)

    def _append(
        self, ids: Sequence[int], logprobs: Sequence[float], *, is_policy: bool
    ) -> None:
        self._tokens += ids
        self._is_policy += [is_policy] * len(ids)
        self._logprobs += logprobs

    def _row(self) -> Row:
        logprobs = np.asarray(self._logprobs, np.float32)
        return Row(
            tokens=np.asarray(self._tokens, np.int32),
            is_policy=np.asarray(self._is_policy, bool),
            logprobs=logprobs,
            sampling_logprobs=logprobs,
        )

    def _seed(self) -> int:
        """A number unique to this turn of this rollout, like our sampler's keys."""
        identity = (self._policy.seed, *self._rollout.id, self.num_turns)
        digest = hashlib.blake2b(repr(identity).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % _MAX_SEED
