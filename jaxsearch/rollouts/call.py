"""The arguments of a sampler's call: their checks, and the prompts of the questions."""

import math
from collections.abc import Sequence

import numpy as np

from jaxsearch.data.question import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.prompts import prompt_ids
from jaxsearch.protocol import Protocol
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.records import Prompt


def checked_order(
    questions: Sequence[tuple[int, Question]], group_size: int, temperature: float
) -> dict[int, int]:
    """The place of each prompt_index in a call whose arguments are valid.

    Raises:
      ValueError: for a repeated prompt_index, whose random keys would be the same, or
        an impossible group size or temperature.
    """
    order = {prompt_index: i for i, (prompt_index, _) in enumerate(questions)}
    if len(order) < len(questions):
        raise ValueError("the prompt indices of a call must be distinct")
    if group_size < 1 or not 0 <= temperature < math.inf:
        raise ValueError(
            f"expected group_size >= 1 and temperature >= 0, got {group_size} "
            f"and {temperature}"
        )
    return order


def prompts_of(
    questions: Sequence[tuple[int, Question]],
    tokenizer: Tokenizer,
    protocol: Protocol,
    budgets: Budgets,
) -> list[Prompt]:
    """The prompts of (prompt_index, question) pairs.

    Raises:
      ValueError: for a prompt that exceeds its budget.
    """
    prompts = []
    for prompt_index, question in questions:
        ids = prompt_ids(tokenizer, protocol, question.question)
        if not 0 < len(ids) <= budgets.max_prompt_len:
            raise ValueError(
                f"the prompt of question {question.id!r} has {len(ids)} tokens; "
                f"expected 1 to {budgets.max_prompt_len} (max_prompt_len)"
            )
        array = np.asarray(ids, np.int32)
        prompts.append(Prompt(question=question, index=prompt_index, ids=array))
    return prompts
