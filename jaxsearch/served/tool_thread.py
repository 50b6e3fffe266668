"""The thread that answers the turns of many rollouts, those that wait in one call."""

import threading
from concurrent.futures import Future

from jaxsearch.data.question import Question
from jaxsearch.env.daemon_executor import DaemonExecutor
from jaxsearch.env.environment import Done, RolloutId
from jaxsearch.env.token_environment import ObservedTokens, TokenEnvironment


class ToolThread:
    """Calls an environment from one thread, for callers in many.

    While a call runs, turns wait; they are the next call. So a search has few batches
    of many queries, not many of one.

    Args:
      environment: the environment.
    """

    def __init__(self, environment: TokenEnvironment):
        self._environment = environment
        self._executor = DaemonExecutor()
        self._lock = threading.Lock()
        self._waiting: list[tuple[RolloutId, str, Future]] = []

    def start(self, rollout_id: RolloutId, question: Question) -> None:
        """Begins a rollout."""
        begun = [(rollout_id, question)]
        start = self._environment.environment.start
        self._executor.submit(start, begun).result()

    def close(self, rollout_id: RolloutId) -> None:
        """Ends a rollout."""
        close = self._environment.environment.close
        self._executor.submit(close, [rollout_id]).result()

    def step(self, rollout_id: RolloutId, turn: str) -> ObservedTokens | Done:
        """The environment's answer to a turn; raises what the environment raises."""
        answer: Future = Future()
        with self._lock:
            self._waiting.append((rollout_id, turn, answer))
        self._executor.submit(self._answer_waiting)
        return answer.result()

    def shutdown(self) -> None:
        """Ends the thread, after the call that it is in."""
        self._executor.shutdown()

    def _answer_waiting(self) -> None:
        """Answers all turns that wait; none may, if an earlier call took them."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        if not taken:
            return
        try:
            answers = self._environment.step([(one, turn) for one, turn, _ in taken])
        except BaseException as error:
            # Not swallowed: each of the callers raises it.
            for _, _, future in taken:
                future.set_exception(error)
            return
        for (_, _, future), answer in zip(taken, answers, strict=True):
            future.set_result(answer)
