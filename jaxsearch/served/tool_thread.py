"""A thread that answers the waiting turns of many rollouts in one call."""

import threading
from concurrent.futures import Future

from jaxsearch.data.question import Question
from jaxsearch.env.daemon_executor import DaemonExecutor
from jaxsearch.env.environment import Done, RolloutId
from jaxsearch.env.token_environment import ObservedTokens, TokenEnvironment


class ToolThread:
    """Calls an environment in one thread, for callers in many threads.

    Turns that arrive during a call wait for the next call. So a search has a few large
    batches of queries instead of many batches of one.

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
        """The environment's answer to a turn; errors of the environment propagate."""
        answer: Future = Future()
        with self._lock:
            self._waiting.append((rollout_id, turn, answer))
        self._executor.submit(self._answer_waiting)
        return answer.result()

    def shutdown(self) -> None:
        """Ends the thread after its current call."""
        self._executor.shutdown()

    def _answer_waiting(self) -> None:
        """Answers all waiting turns; an earlier call may have taken them already."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        if not taken:
            return
        try:
            answers = self._environment.step([(one, turn) for one, turn, _ in taken])
        except BaseException as error:
            # Each of the callers raises it.
            for _, _, future in taken:
                future.set_exception(error)
            return
        for (_, _, future), answer in zip(taken, answers, strict=True):
            future.set_result(answer)
