"""Rollouts cut by purpose, for every protocol."""

import pytest

from jaxsearch.protocol import R1_SEARCHER, RESEARCH, SEARCH_R1
from jaxsearch.protocol.display import SpanKind, unmarked
from jaxsearch.rewards.tasks import TASKS
from jaxsearch.trajectory import Segment


def segments(*texts):
    return [Segment(text=text, is_policy=is_policy) for text, is_policy in texts]


def purposes(protocol, *texts):
    return [
        (str(block.kind), "".join(piece.text for piece in block.pieces).strip())
        for block in protocol.blocks(segments(*texts))
    ]


def test_queries_inside_thinking_are_told_apart():
    asked = "hm <|begin_of_query|> a <|end_of_query|>"
    brought = "\n<|begin_of_documents|>b<|end_of_documents|>\n"
    texts = ((asked, True), (brought, False), ("so</think>ok", True))
    assert purposes(R1_SEARCHER, *texts) == [
        ("think", "hm"),  # the prompt has opened the thoughts
        ("search", "<|begin_of_query|> a <|end_of_query|>"),
        ("result", "<|begin_of_documents|>b<|end_of_documents|>"),
        ("think", "so</think>"),
        ("other", "ok"),
    ]


def test_text_without_tags_or_with_unmatched_ones_is_all_there():
    assert purposes(RESEARCH, ("just text", True)) == [("other", "just text")]
    assert purposes(RESEARCH, ("a</answer>b<search>c", True)) == [
        ("other", "a</answer>b"),
        ("search", "<search>c"),
    ]
    assert purposes(RESEARCH) == []


def test_tags_of_another_protocol_are_text():
    text = "<result> a </result> <information> b </information>"
    assert purposes(RESEARCH, (text, True)) == [
        ("result", "<result> a </result>"),
        ("other", "<information> b </information>"),
    ]
    assert purposes(SEARCH_R1, (text, True)) == [
        ("other", "<result> a </result>"),
        ("result", "<information> b </information>"),
    ]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_demonstration_of_every_task_is_told_apart(task):
    protocol = task.protocol
    texts = (
        (protocol.search_turn("a thought", "a query"), True),
        (protocol.frame("a passage"), False),
        (protocol.answer_turn("another thought", "an answer"), True),
    )
    found = protocol.blocks(segments(*texts))
    kinds = [block.kind for block in found]
    think, search, result, answer, _ = SpanKind
    assert kinds == [think, search, result, think, answer]
    words = ("a thought", "a query", "a passage", "another thought", "an answer")
    for block, text in zip(found, words, strict=True):
        assert text in "".join(p.text for p in block.pieces if not p.is_tag)
    everything = "".join(piece.text for block in found for piece in block.pieces)
    assert everything == "".join(text for text, _ in texts)


def test_without_a_protocol_only_authors_are_told_apart():
    found = unmarked(segments(("<think> a </think>", True), ("b", False)))
    assert [(block.kind, block.pieces[0].text) for block in found] == [
        (SpanKind.OTHER, "<think> a </think>"),
        (SpanKind.RESULT, "b"),
    ]
