"""A baseline in the tags that the packaged policy knows."""

import dataclasses

from jaxsearch.protocol import QUICKSTART
from jaxsearch.rewards.tasks import QUICKSTART as TASK
from tests.protocols import changed

# Two searches are answered, the first of them with the question.
READ_FIRST = dataclasses.replace(
    TASK,
    name="read_first",
    protocol=changed(
        QUICKSTART,
        name="read_first",
        first_turn=lambda question: f" <search> {question} </search>",
        max_searches=2,
        enough=" <answer>",
    ),
)
