"""Reads and checks additional sets of held-out questions of a run."""

import dataclasses
import functools

from jaxsearch.config import RunConfig
from jaxsearch.data.formats import read_questions
from jaxsearch.data.mixture import check_unweighted, read_from
from jaxsearch.data.prepared_set import EVALUATION_SPLITS
from jaxsearch.data.question import Question
from jaxsearch.processes import say_once
from jaxsearch.run.inputs import Inputs, check_prompts


def read_heldout(config: RunConfig, inputs: Inputs, source: str) -> list[Question]:
    """Reads questions for a run's policy, with the options of its config.

    Args:
      config: the run's config; its `eval.limit` limits the questions.
      inputs: the inputs of the run, with its tokenizer and its protocol.
      source: file, address or name of the questions, or several separated by commas.

    Raises:
      ValueError: if a file is missing or malformed, or prompts exceed their budget.
    """
    check_unweighted(source)
    read = functools.partial(
        read_questions,
        normalise=config.task.normalise,
        splits=EVALUATION_SPLITS,
        skip_bad_rows=config.data.skip_bad_rows,
        note=say_once,
    )
    found = read_from(source, read)
    further = dataclasses.replace(
        inputs, questions={}, heldout=found[: config.eval.limit or None]
    )
    checked = check_prompts(
        further,
        config.rollout.max_prompt_len,
        drop_long=config.data.drop_long_prompts,
    )
    return checked.heldout
