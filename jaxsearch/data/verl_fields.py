"""Fields of verl's layout, as ReSearch and Search-R1 write it."""

import dataclasses
import os.path

from jaxsearch.data.fields import Record

_QUESTION_MARK = "Question:"


def id_of_verl(record: Record) -> str | None:
    """The id of a row of verl's layout, as written by ReSearch or Search-R1.

    Search-R1 numbers its rows from 0 in every source dataset, so the source becomes
    part of the id.
    """
    extra = record.part("extra_info")
    if (id_ := extra.id("id")) is not None:
        return id_
    index = extra.id("index")
    if index is None:
        return None
    parts = (record.id("data_source"), extra.id("split"), index)
    return "_".join(part for part in parts if part is not None)


def prompt_of_verl(record: Record) -> str:
    messages = record.require("prompt")
    is_list = isinstance(messages, list) and messages
    if not is_list or not isinstance(messages[-1], dict):
        raise record.wrong("prompt", "a list of objects, at least one", messages)
    return dataclasses.replace(record, fields=messages[-1]).text("content")


def asked_in(prompts: dict[str, str]) -> dict[str, str]:
    """The question in each prompt: the text after `Question:`.

    A question may contain this word, and so may examples that are part of every prompt:
    the last one that all prompts of a file share comes before the question. A single
    prompt has nothing to share, so its first one counts.

    Args:
      prompts: the prompts of a file, by the ids of their questions.
    """
    shared = ""
    if len(set(prompts.values())) > 1:
        shared = os.path.commonprefix(list(prompts.values()))
    end = shared.rfind(_QUESTION_MARK)
    asked = {}
    for id_, prompt in prompts.items():
        start = end if end >= 0 else prompt.find(_QUESTION_MARK)
        # Without the word, the whole prompt is the question.
        skipped = start + len(_QUESTION_MARK) if start >= 0 else 0
        asked[id_] = prompt[skipped:].strip()
    return asked
