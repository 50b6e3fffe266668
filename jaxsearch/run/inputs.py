"""The inputs of a run, read and checked before anything is written."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsearch.config import RLStage, RunConfig
from jaxsearch.data.formats import read_questions
from jaxsearch.data.mixture import QuestionsFrom, check_unweighted, read_from
from jaxsearch.data.prepared_set import EVALUATION_SPLITS, TRAINING_SPLITS
from jaxsearch.data.question import Question
from jaxsearch.data.source_questions import check_answers, check_ids
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.prompts import plain_prompt_ids, prompt_text
from jaxsearch.processes import say_once
from jaxsearch.protocol import Protocol
from jaxsearch.run.heldout_split import own_file, own_heldout, question_files, without
from jaxsearch.run.long_prompts import LongPrompts
from jaxsearch.run.prompting import (
    load_prompting,
    report_special_tokens,
    report_system_role,
)
from jaxsearch.search.passages import Passage, read_passages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of a run.

    Attributes:
      tokenizer: the policy's tokenizer.
      protocol: the protocol of the run's stages.
      questions: questions of each RL stage, by the stage's name.
      heldout: held-out questions, limited by eval.limit.
      passages: passages to index; None if the config gives an index, a retriever, a
        search server or the open web.
      heldout_passages: passages for held-out questions; empty to use the same index as
        training.
      own_heldout: all questions that are held out of the run's own file, for the record
        in its folder; empty if held-out questions come from elsewhere.
    """

    tokenizer: Tokenizer
    protocol: Protocol
    questions: dict[str, list[Question]]
    heldout: list[Question]
    passages: list[Passage] | None
    heldout_passages: list[Passage]
    own_heldout: list[Question] = dataclasses.field(default_factory=list)


def load_inputs(config: RunConfig) -> Inputs:
    """Reads questions, passages and tokenizer.

    Raises:
      ValueError: for a file that is missing or malformed, a tokenizer that is missing
        or has no end token, or prompts that exceed their budget.
    """
    dataset = config.data.source(Path(config.out), config.seed)
    tokenizer, protocol = load_prompting(config, dataset.tokenizer)
    options: dict[str, Any] = {
        "skip_bad_rows": config.data.skip_bad_rows,
        "note": say_once,
    }
    normalise = config.task.normalise
    read = functools.partial(read_questions, normalise=normalise, **options)
    check = functools.partial(check_answers, normalise=normalise, **options)
    train = functools.partial(read, splits=TRAINING_SPLITS)
    questions = _questions(config, lambda: check(dataset.questions), train)
    # Held-out questions of the user are answered from the training corpus.
    own, heldout_passages = [], []
    if config.data.heldout:
        check_unweighted(config.data.heldout)
        heldout = read_from(
            config.data.heldout, functools.partial(read, splits=EVALUATION_SPLITS)
        )
    elif own_file(config):
        heldout = own = own_heldout(config, [*questions.values()][-1], read)
        questions = without(questions, own)
    else:
        heldout, heldout_passages = check(dataset.heldout), dataset.heldout_passages
    check_ids(heldout, "held-out questions")
    passages = dataset.passages
    if config.retrieval.corpus:
        passages = read_passages(config.retrieval.corpus, **options)
    retrieval = config.retrieval
    has_retriever = (
        retrieval.index or retrieval.retriever or retrieval.url or retrieval.web
    )
    inputs = Inputs(
        tokenizer=tokenizer,
        protocol=protocol,
        questions=questions,
        heldout=heldout[: config.eval.limit or None],
        passages=None if has_retriever else passages,
        heldout_passages=heldout_passages,
        own_heldout=own,
    )
    return check_prompts(
        inputs,
        config.rollout.max_prompt_len,
        drop_long=config.data.drop_long_prompts,
    )


def check_complete(config: RunConfig, inputs: Inputs, *, has_search: bool) -> None:
    """Checks that each RL stage has questions, and the search has passages.

    Raises:
      ValueError: if either is missing, or held-out questions for early stopping are.
    """
    if config.eval.patience and not inputs.heldout:
        raise ValueError(
            "eval.patience stops a run early by its exact match on held-out questions, "
            "but it has none: give a file with --data.heldout, or a share of your own "
            "questions with --data.heldout-share"
        )
    for number, stage in enumerate(config.stages):
        if isinstance(stage, RLStage) and not inputs.questions[stage.name]:
            raise ValueError(
                f"stage {stage.name!r} has no questions: give a file with "
                f"--data.questions, or with --stages.{number}.questions for this stage"
            )
    if has_search and inputs.questions and inputs.passages == []:
        raise ValueError(
            "there is nothing to search: give passages with --retrieval.corpus, an "
            "index with --retrieval.index, a search server with --retrieval.url, a "
            "retriever with --retrieval.retriever, or the open web with --retrieval.web"
        )


def _questions(
    config: RunConfig,
    of_source: Callable[[], list[Question]],
    read: Callable[[str], list[Question]],
) -> dict[str, list[Question]]:
    """Questions of each RL stage: from data.questions, its own, or data.source."""
    files = question_files(config)
    by_file: dict[QuestionsFrom, list[Question]] = {
        file: read_from(file, read) if file else of_source()
        for file in dict.fromkeys(files.values())
    }
    return {name: by_file[file] for name, file in files.items()}


def check_prompts(
    inputs: Inputs, max_prompt_len: int, *, drop_long: bool = False
) -> Inputs:
    """Checks that prompts fit their budget; counts those with unknown words.

    Standard error says how many questions were dropped, and how many have words that
    the tokenizer cannot spell, or special tokens.

    Args:
      inputs: the inputs of a run.
      max_prompt_len: the budget in tokens.
      drop_long: whether to drop questions whose prompts are longer.

    Returns:
      The inputs without the dropped questions.

    Raises:
      ValueError: if prompts are too long and not dropped, or no question is left.
    """
    unknown_id = inputs.tokenizer.unknown_id
    sets = {id(questions): questions for questions in inputs.questions.values()}
    questions = [*itertools.chain(*sets.values(), inputs.heldout)]
    report_system_role(inputs.tokenizer, inputs.protocol)
    texts = report_special_tokens(inputs.tokenizer, questions)
    long = LongPrompts(max_prompt_len)
    unknown = []
    for question, text in zip(questions, texts, strict=True):
        ids = plain_prompt_ids(inputs.tokenizer, inputs.protocol, text)
        is_long = long.is_long(question, len(ids))
        if not is_long and unknown_id is not None and unknown_id in ids:
            words = unknown_words(inputs, question.question)
            unknown += [(words[0], question.id)] if words else []
    long.settle(drop=drop_long, note=say_once)
    if unknown:
        word, question_id = unknown[0]
        say_once(
            f"{len(unknown)} of {len(questions)} questions have words that the "
            f"tokenizer cannot spell, such as {word!r:.80} in question "
            f"{question_id!r:.80}"
        )
    if not long.found:
        return inputs
    rest = {name: long.rest(those) for name, those in inputs.questions.items()}
    return dataclasses.replace(
        inputs, questions=rest, heldout=long.rest(inputs.heldout)
    )


def unknown_words(inputs: Inputs, question: str) -> list[str]:
    """Words of a question that the policy reads as unknown tokens in its prompt."""
    prompt = prompt_text(inputs.tokenizer, inputs.protocol, question)
    unknown = set(inputs.tokenizer.unknown_words(prompt))
    return [word for word in dict.fromkeys(question.split()) if word in unknown]
