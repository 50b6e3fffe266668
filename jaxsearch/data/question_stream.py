"""The endless stream of training questions."""

import grain

from jaxsearch.data.question import Question
from jaxsearch.data.question_store import QuestionSource


class QuestionStream:
    """Yields every question once per epoch, in a new order each time.

    Each process draws every `process_count`-th element of one global order. Together
    the processes draw every question once per epoch, even if the number of questions is
    not divisible by the number of processes or the batch size.

    Attributes:
      iterator: the Grain iterator, which keeps the position of this process.

    Raises:
      ValueError: if process_index is not in 0..process_count - 1.
    """

    def __init__(
        self,
        source: QuestionSource,
        *,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if not 0 <= process_index < process_count:
            raise ValueError(
                f"process_index must be in 0..{process_count - 1} "
                f"(process_count is {process_count}), got {process_index}"
            )
        self._identity = {"fingerprint": source.fingerprint, "seed": seed}
        self._process_count = process_count
        elements = (
            grain.MapDataset.source(source)
            # Not `shuffle(seed)`, which adds the epoch to the seed: the second epoch of
            # seed 0 would equal the first epoch of seed 1.
            .seed(seed)
            .shuffle()
            .repeat()
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
