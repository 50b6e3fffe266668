"""The endless stream of questions that a run draws from."""

import grain

from jaxsearch.data.formats import Question
from jaxsearch.data.question_store import QuestionSource


class QuestionStream:
    """Every question once per epoch, in a new order each epoch, without end.

    A process draws every `process_count`-th element of one global order, so the
    processes together draw every question once per epoch, and nothing is dropped
    where an epoch does not divide by processes or batches.

    Attributes:
      iterator: the Grain iterator that holds the position of this process.
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
            # Not `shuffle(seed)`: it adds the epoch to the seed, and the second
            # epoch of seed 0 would be the first of seed 1.
            .seed(seed)
            .shuffle()
            .repeat()
            .map_with_index(lambda prompt_index, question: (prompt_index, question))
            .slice(slice(process_index, None, process_count))
        )
        # Reading takes microseconds, so threads would buy nothing.
        in_this_thread = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self.iterator = iter(elements.to_iter_dataset(in_this_thread))

    def next_batch(self, num_questions: int) -> list[tuple[int, Question]]:
        """The next (prompt_index, question) pairs of this process.

        The index counts the elements of the global order from 0 and is never
        drawn again, in no epoch and by no other process.
        """
        return [next(self.iterator) for _ in range(num_questions)]

    def state(self) -> dict:
        """What `restore` needs to go on from here, as JSON values.

        Where the processes have drawn equally many, it is the same on all of them.
        """
        num_drawn = self.iterator.get_state()["next_index"]
        return self._identity | {"position": num_drawn * self._process_count}

    def restore(self, state: dict) -> None:
        """Goes on from a saved state of the same questions and seed.

        Errors: ValueError for others, or if what all processes drew together cannot be
        shared out evenly among those that there are now.
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
                f"were drawn, which does not divide by {self._process_count} processes"
            )
        self.iterator.set_state({"next_index": num_drawn})
