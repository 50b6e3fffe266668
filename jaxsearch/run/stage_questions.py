"""The stream of questions of an RL stage."""

from collections.abc import Sequence
from pathlib import Path

import jax

from jaxsearch.config import RunConfig
from jaxsearch.data.mixture import Mixture, parse_questions, questions_by_source
from jaxsearch.data.question import Question
from jaxsearch.data.question_store import open_questions
from jaxsearch.data.question_stream import QuestionStream
from jaxsearch.run.heldout_split import question_files


def stage_stream(
    config: RunConfig, number: int, questions: Sequence[Question]
) -> QuestionStream:
    """The stream of this process, from the start.

    Args:
      config: the config of the run, in whose folder the questions are stored.
      number: index of the stage; each stage has its own order.
      questions: the questions of the stage.

    Raises:
      ValueError: if a source of a mixture has no question left.
    """
    origin = question_files(config)[config.stages[number].name]
    if isinstance(origin, str):
        origin = parse_questions(origin)
    parts, weights = [questions], [1.0]
    if isinstance(origin, Mixture):
        parts = questions_by_source(questions, origin)
        weights = [source.weight for source in origin.sources]
    folder = Path(config.out) / "questions"
    return QuestionStream(
        [open_questions(part, folder) for part in parts],
        seed=config.seed + number,
        weights=weights,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
