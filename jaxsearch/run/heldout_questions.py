"""Further sets of held-out questions of a run, read and checked as the first one."""

import dataclasses

from jaxsearch.data.formats import read_questions
from jaxsearch.data.prepared_set import EVALUATION_SPLITS
from jaxsearch.data.question import Question
from jaxsearch.processes import say_once
from jaxsearch.run.build import Run
from jaxsearch.run.inputs import check_prompts


def read_heldout(run: Run, source: str) -> list[Question]:
    """Reads questions for the run's policy, with the options of its config.

    Args:
      run: the run; its `eval.limit` limits the questions.
      source: file, address or name of the questions.

    Raises:
      ValueError: for a file that is missing or malformed, or prompts that exceed their
        budget.
    """
    config = run.config
    found = read_questions(
        source,
        normalise=config.task.normalise,
        splits=EVALUATION_SPLITS,
        skip_bad_rows=config.data.skip_bad_rows,
        note=say_once,
    )
    inputs = dataclasses.replace(
        run.inputs, questions={}, heldout=found[: config.eval.limit or None]
    )
    checked = check_prompts(
        inputs,
        config.rollout.max_prompt_len,
        drop_long=config.data.drop_long_prompts,
    )
    return checked.heldout
