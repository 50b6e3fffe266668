"""Baselines: what their prompts say, and what they let a policy do."""

import dataclasses

import pytest

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.prompts import opened_tags, prompt_ids
from jaxsearch.protocol import DIRECT, ITERATIVE, RETRIEVE_THEN_READ, SEARCH_R1
from jaxsearch.protocol.template import PromptTemplate
from jaxsearch.rewards.tasks import TASKS, task_named
from jaxsearch.trajectory import Segment

QUESTION = "Who built the {answer} tower?"


@pytest.mark.parametrize("protocol", [DIRECT, RETRIEVE_THEN_READ, ITERATIVE])
def test_prompts_name_the_tags_and_end_with_the_first_search(protocol):
    text = protocol.prompt(QUESTION)
    for tag in protocol.answer:
        assert tag in text
    assert "{think}" not in text and f"Question: {QUESTION}\n" in text
    assert text.endswith(protocol.first_turn(QUESTION) or "\n")
    user, *begun = protocol.messages(QUESTION)
    assert user["content"] + "".join(m["content"] for m in begun) == text
    assert [m["role"] for m in begun] == ["assistant"] * bool(
        protocol.first_turn(QUESTION)
    )
    tokenizer = Tokenizer.load("jaxsearch:quickstart")
    assert opened_tags(tokenizer, protocol) == ()
    assert prompt_ids(tokenizer, protocol, QUESTION)


@pytest.mark.parametrize("protocol", [RETRIEVE_THEN_READ, ITERATIVE])
def test_a_prompt_template_ends_with_the_first_search_too(protocol):
    first = protocol.first_turn(QUESTION)
    text = PromptTemplate(text="Read, then answer {question}: <think>", messages=())
    own = dataclasses.replace(protocol, template=text)
    assert own.prompt(QUESTION) == f"Read, then answer {QUESTION}: <think>{first}"
    tokenizer = Tokenizer.load("jaxsearch:quickstart")
    assert opened_tags(tokenizer, own) == ("<think>",)
    user = {"role": "user", "content": "{question}"}
    begun = {"role": "assistant", "content": "<think>"}
    for messages, end in (((user,), ""), ((user, begun), "<think>")):
        template = PromptTemplate(text="", messages=messages)
        own = dataclasses.replace(protocol, template=template)
        assert own.messages(QUESTION) == [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": end + first},
        ]


def test_only_what_is_retrieved_is_promised():
    assert "<information>" not in DIRECT.default_prompt(QUESTION)
    assert "<search>" not in DIRECT.default_prompt(QUESTION)
    assert "<information>" in RETRIEVE_THEN_READ.default_prompt(QUESTION)
    assert "<step> and </step>" in ITERATIVE.default_prompt(QUESTION)


def test_first_searches_are_those_of_the_question():
    assert DIRECT.first_turn(QUESTION) == ""
    for protocol in (RETRIEVE_THEN_READ, ITERATIVE):
        turn = protocol.first_turn(QUESTION)
        assert protocol.query(turn) == QUESTION and not protocol.is_last(turn)
    assert SEARCH_R1.first_turn(QUESTION) == ""


def test_each_sentence_of_the_iterative_baseline_is_a_query():
    turn = "<think> so </think> <step> The tower was built in 1889. </step>"
    assert ITERATIVE.query(turn) == "The tower was built in 1889."
    assert ITERATIVE.stop_tags == ("</step>", "</answer>")
    limits = [p.max_searches for p in (DIRECT, RETRIEVE_THEN_READ, ITERATIVE)]
    assert limits == [0, 1, 5]
    assert SEARCH_R1.max_searches is None


@pytest.mark.parametrize("name", ["direct", "retrieve_then_read", "iterative"])
def test_tasks_judge_the_answer_alone(name):
    task = task_named(name)
    assert task is TASKS[name]
    found = Segment(text="\n\n<information>a</information>\n\n", is_policy=False)
    wrote = Segment(text="<think> x </think><answer> Eiffel </answer>", is_policy=True)
    segments = [wrote] if name == "direct" else [found, wrote]
    outcome = task.judge(segments, ["eiffel"], has_ended=True, label="a question")
    assert (outcome.reward, outcome.prediction) == (1.0, "Eiffel")
    assert task.protocol.has_answer(segments)
