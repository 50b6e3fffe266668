"""Search-R1's protocol against the actions and observations of the authors' code."""

import gzip
import json
from pathlib import Path

import pytest

from jaxsearch.env.sanitize import strip_all
from jaxsearch.protocol import SEARCH_R1
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

DATA = Path(__file__).parents[1] / "data" / "conformance_search_r1_actions.jsonl.gz"
CASES = [json.loads(line) for line in gzip.open(DATA)]

# A turn stops at the first closing tag of either kind: the rest is never sampled.
STOPPED_EARLIER = {"answer_inside_search": ("answer", "Paris")}
# Invariant 4; in the reference a document's tags enter the context as they are.
WITH_TAGS = {"doc_with_tags", "batch_same_query"}


def stopped(text):
    """A turn as the sampler ends it, and whether a stop tag ended it."""
    ends = [text.find(tag) + len(tag) for tag in SEARCH_R1.stop_tags if tag in text]
    return (text[: min(ends)], True) if ends else (text, False)


def action(text):
    """The reference's name for the action of a turn, and its content."""
    turn, has_stopped = stopped(text)
    if has_stopped and SEARCH_R1.is_last(turn):
        return "answer", turn.partition("<answer>")[2].removesuffix("</answer>").strip()
    if has_stopped and "<search>" in turn and turn.endswith("</search>"):
        return "search", SEARCH_R1.query(turn)
    assert SEARCH_R1.query(turn) == ""
    return None, ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_actions_are_those_of_the_reference(case):
    for text, name, content in zip(
        case["generated"], case["actions"], case["contents"], strict=True
    ):
        expected = STOPPED_EARLIER.get(case["case"], (name, content))
        assert action(text) == expected


@pytest.mark.parametrize(
    "case", [c for c in CASES if "observations" in c], ids=lambda case: case["case"]
)
def test_observations_are_those_of_the_reference(case):
    if case["case"] in STOPPED_EARLIER:
        return
    for text, is_active, expected in zip(
        case["generated"], case["is_active"], case["observations"], strict=True
    ):
        name, query = action(text)
        if not is_active or name != "search":
            assert expected in ("", "invalid")
            continue
        documents = case["documents"][query] if case["do_search"] else []
        found = [document["contents"] for document in documents[:3]]
        texts, num_deleted = strip_all(found, SEARCH_R1.control_tags)
        passages = [Passage(id=str(i), contents=text) for i, text in enumerate(texts)]
        is_equal = SEARCH_R1.observation(passages) == expected
        assert is_equal == (case["case"] not in WITH_TAGS) == (num_deleted == 0)


def test_the_prompt_and_the_reminder_name_the_tags():
    [message] = SEARCH_R1.messages("Who wrote it?")
    assert message["role"] == "user"
    assert message["content"] == SEARCH_R1.prompt("Who wrote it?")
    assert message["content"].count("Who wrote it?") == 1
    for tag in SEARCH_R1.control_tags:
        assert tag in message["content"]
    for tag in ("<search>", "</search>", "<answer>", "</answer>"):
        assert tag in SEARCH_R1.reminder


def test_an_answer_needs_one_turn():
    def has_answer(*texts):
        segments = [Segment(text=t, is_policy=i % 2 == 0) for i, t in enumerate(texts)]
        return SEARCH_R1.has_answer(segments)

    assert has_answer("<think>x</think><answer>a</answer>")
    assert not has_answer("<answer>a", "x", "</answer>")
    assert not has_answer("<search>q</search>", "<answer>a</answer>")
