"""The endless stream of training questions."""

import hashlib
from collections.abc import Sequence

import grain

from jaxsearch.data.question import Question
from jaxsearch.data.question_store import QuestionSource


class QuestionStream:
    """Yields every question once per epoch, in a new order each time.

    Several sources are drawn from evenly, in proportion to their weights: with weights
    2 and 1, every three questions are two of the first and one of the second. Each
    source has its own epochs and orders. The stream depends only on the sources, their
    weights, the seed and the position.

    Each process draws every `process_count`-th element of one global order. Together
    the processes draw every question once per epoch, even if the number of questions is
    not divisible by the number of processes or the batch size.

    Attributes:
      iterator: the Grain iterator, which keeps the position of this process.

    Args:
      source: the questions, or several sources of them.
      seed: decides the orders.
      weights: share of each source, relative to the others; equal if empty.
      process_index: index of this process.
      process_count: number of processes.

    Raises:
      ValueError: if process_index is not in 0..process_count - 1.
    """

    def __init__(
        self,
        source: QuestionSource | Sequence[QuestionSource],
        *,
        seed: int,
        weights: Sequence[float] = (),
        process_index: int = 0,
        process_count: int = 1,
    ):
        if not 0 <= process_index < process_count:
            raise ValueError(
                f"process_index must be in 0..{process_count - 1} "
                f"(process_count is {process_count}), got {process_index}"
            )
        sources = [source] if isinstance(source, QuestionSource) else list(source)
        weights = weights or [1.0] * len(sources)
        self._identity = {"fingerprint": _fingerprint(sources, weights), "seed": seed}
        self._process_count = process_count
        elements = (
            _mixed(sources, weights, seed)
            .map_with_index(lambda prompt_index, question: (prompt_index, question))
            .slice(slice(process_index, None, process_count))
        )
        # Reading takes microseconds, so threads would not help.
        in_this_thread = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self.iterator = iter(elements.to_iter_dataset(in_this_thread))

    def next_batch(self, num_questions: int) -> list[tuple[int, Question]]:
        """Returns the next (prompt_index, question) pairs of this process.

        The index is the position in the global order, counted from 0. It is unique over
        all epochs and processes.
        """
        return [next(self.iterator) for _ in range(num_questions)]

    def state(self) -> dict:
        """The state for `restore`, as JSON values.

        It is equal on all processes if they have drawn the same number of questions.
        """
        num_drawn = self.iterator.get_state()["next_index"]
        return self._identity | {"position": num_drawn * self._process_count}

    def restore(self, state: dict) -> None:
        """Continues from a saved state.

        Raises:
          ValueError: if the state was saved with other questions or another seed, or if
            the number of questions drawn is not divisible by the number of processes.
        """
        for name, here in self._identity.items():
            if state[name] != here:
                raise ValueError(
                    f"cannot resume the question stream: it was saved with {name} "
                    f"{state[name]!r} and this run has {here!r}; resume with the same "
                    "questions and seed, or start a new run"
                )
        num_drawn, rest = divmod(state["position"], self._process_count)
        if rest:
            raise ValueError(
                f"cannot resume the question stream: {state['position']} questions "
                f"were drawn, which is not divisible by {self._process_count} processes"
            )
        self.iterator.set_state({"next_index": num_drawn})


def _fingerprint(sources: Sequence[QuestionSource], weights: Sequence[float]) -> str:
    """A hash of the questions; for several sources also of their order and weights."""
    if len(sources) == 1:
        return sources[0].fingerprint
    lines = [
        f"{weight!r} {source.fingerprint}\n"
        for source, weight in zip(sources, map(float, weights), strict=True)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _mixed(
    sources: Sequence[QuestionSource], weights: Sequence[float], seed: int
) -> grain.MapDataset:
    """The endless order of the questions of all sources."""
    endless = [
        # Not `shuffle(seed)`, which adds the epoch to the seed: the second epoch of
        # seed 0 would equal the first epoch of seed 1.
        grain.MapDataset.source(source).seed(seed).shuffle().repeat()
        for source in sources
    ]
    if len(endless) == 1:
        return endless[0]
    return grain.MapDataset.mix(endless, weights)
