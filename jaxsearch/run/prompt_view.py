"""The exact prompt of a question, with its token ids."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsearch import json_lines
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.data.dataset import Dataset
from jaxsearch.data.formats import read_questions
from jaxsearch.data.mixture import read_from
from jaxsearch.data.prepared_set import TRAINING_SPLITS
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.prompts import plain_question, prompt_ids
from jaxsearch.protocol import Protocol
from jaxsearch.run.inputs import Inputs
from jaxsearch.run.prompting import load_prompting

# Around special tokens, so that they differ from text that looks like them.
_MARKS = ("⟦", "⟧")


def view_prompt(config: RunConfig, question: str) -> dict[str, Any]:
    """The prompt of a question as the policy of a run would read it.

    Args:
      config: the run's config.
      question: "" for the first question of the run's data.

    Returns:
      The `question`; its `prompt` as text, with special tokens marked; its `ids`;
      `num_tokens` and the budget `max_prompt_len`; whether it is a "chat" or a "base"
      prompt (`form`); the tag that it opens (`opened`); the number of special tokens
      left out of the question (`num_deleted`); and the tokens that end the reply, with
      their ids (`end_tokens`).

    Raises:
      ValueError: if an input is invalid, or the prompt contradicts the task.
    """
    dataset = config.data.source(Path(config.out), config.seed)
    tokenizer, protocol = load_prompting(config, dataset.tokenizer)
    question = question or _first_question(config, dataset)
    budget = config.rollout.max_prompt_len
    return _view(tokenizer, protocol, question) | {"max_prompt_len": budget}


def record_prompt(config: RunConfig, inputs: Inputs) -> None:
    """Writes the prompt of the run's first question to its folder, for the report."""
    asked = [*itertools.chain(*inputs.questions.values(), inputs.heldout)]
    if asked:
        view = _view(inputs.tokenizer, inputs.protocol, asked[0].question)
        text = json_lines.encode(view) + "\n"
        json_lines.replace_file(Path(config.out) / "prompt.json", text.encode())


def _view(tokenizer: Tokenizer, protocol: Protocol, question: str) -> dict[str, Any]:
    """The fields of `view_prompt` without the budget."""
    ids = prompt_ids(tokenizer, protocol, question)
    return {
        "question": question,
        "prompt": _marked(tokenizer, ids),
        "ids": ids,
        "num_tokens": len(ids),
        "form": "chat" if tokenizer.has_chat_prompt else "base",
        "opened": protocol.opened,
        "num_deleted": plain_question(tokenizer, question)[1],
        "end_tokens": {tokenizer.decode([i]): i for i in tokenizer.end_ids},
    }


def _first_question(config: RunConfig, dataset: Dataset) -> str:
    """The first question of a run's data.

    Raises:
      ValueError: if it has none.
    """
    stages = [stage for stage in config.stages if isinstance(stage, RLStage)]
    files = [config.data.questions, *(stage.questions for stage in stages)]
    file = next(filter(None, files), config.data.heldout)
    found = dataset.questions or dataset.heldout
    if file:
        read = functools.partial(
            read_questions,
            skip_bad_rows=config.data.skip_bad_rows,
            splits=TRAINING_SPLITS,
        )
        found = read_from(file, read)
    if not found:
        raise ValueError("this config has no questions: give one with --question")
    return found[0].question


def _marked(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of the ids, with marks around special tokens."""
    texts, start = [], 0
    for end, i in enumerate(ids):
        if i in tokenizer.special_ids:
            texts.append(tokenizer.decode(ids[start:end]))
            texts.append(tokenizer.decode([i]).join(_MARKS))
            start = end + 1
    return "".join([*texts, tokenizer.decode(ids[start:])])
