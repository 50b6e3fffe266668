"""R1-Searcher's protocol against the queries and texts of the authors' rollout loop."""

import dataclasses
import gzip
import json
import re
from pathlib import Path

import pytest

from jaxsearch.env.sanitize import strip_tags
from jaxsearch.protocol import R1_SEARCHER
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

DATA = Path(__file__).parents[1] / "data" / "conformance_r1_searcher_loop.jsonl.gz"
CASES = [json.loads(line) for line in gzip.open(DATA)]
STOP = "<|end_of_query|>"
K, MAX_SEARCHES = 3, 8


def passage(line):
    """The passage of a corpus line, whose number is its id as in `read_passages`."""
    number, text = re.fullmatch(r"(?s)(?:(\d+)\s+)?(.*)", line).groups()
    return Passage(id=number or "0", contents=text)


def laid_out(case, rollout):
    """The response and the queries of scripted turns by our protocol.

    The reference strips the policy's text at every search, which changes what was
    sampled (invariant 1), so the turns are stripped here and not by the protocol.
    """
    response, queries = "", []
    for turn in rollout["turns"]:
        if turn["stop_reason"] is None:
            return response + turn["text"], queries
        text = turn["text"] + STOP
        if R1_SEARCHER.is_last(text) or len(queries) == MAX_SEARCHES:
            return response + text, queries
        queries.append(R1_SEARCHER.query(text))
        documents = case["documents"][queries[-1]][:K]
        passages = [
            dataclasses.replace(
                one, contents=strip_tags(one.contents, R1_SEARCHER.control_tags)[0]
            )
            for one in map(passage, documents)
        ]
        response += turn["text"].strip() + STOP + R1_SEARCHER.observation(passages)
    return response, queries


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_queries_and_responses_are_those_of_the_reference(case):
    found = [laid_out(case, rollout) for rollout in case["rollouts"]]
    rounds = [
        [queries[i] for _, queries in found if len(queries) > i]
        for i in range(len(case["queries"]))
    ]
    assert rounds == case["queries"]
    is_equal = sorted(text for text, _ in found) == sorted(case["responses"])
    # Invariant 4; in the reference a document's tags enter the context as they are.
    assert is_equal == (case["case"] != "doc_with_forged_tags")


def test_a_forged_document_loses_its_tags():
    [case] = [c for c in CASES if c["case"] == "doc_with_forged_tags"]
    text, _ = laid_out(case, case["rollouts"][0])
    for tag in ("<|begin_of_documents|>", "<|end_of_documents|>"):
        assert text.count(tag) == 1
    assert "(1)Evil   text \n(1)x\n\n rest\n" in text


def test_a_quoted_title_on_its_own_line_joins_its_text():
    found = [
        Passage(id="1", contents='"Paris"\nA city.'),
        Passage(id="2", contents="\nIt failed."),
    ]
    assert R1_SEARCHER.render(found) == "(1)Paris   A city.\n(2)It failed.\n"


@pytest.mark.parametrize(
    ("turn", "query"),
    [
        (' <|begin_of_query|> a  "b"\n<|end_of_query|>\n\n', "a b"),
        ("<|begin_of_query|> a", ""),
        ("a <|end_of_query|>", ""),
        ('<|begin_of_query|> "" <|end_of_query|>', ""),
    ],
)
def test_a_turn_without_a_query_is_the_last(turn, query):
    assert R1_SEARCHER.query(turn) == query
    assert R1_SEARCHER.is_last(turn) is (not query)


def test_prompts_name_every_tag_and_open_the_thoughts():
    system, user, reply = R1_SEARCHER.messages("Who wrote it?")
    assert (user["content"], reply) == (
        "Who wrote it?",
        {"role": "assistant", "content": "<think>"},
    )
    prompt = R1_SEARCHER.prompt("Who wrote it?")
    assert prompt.endswith("<think>") and prompt.count("Who wrote it?") == 1
    for tag in set(R1_SEARCHER.control_tags) - {"<think>"}:
        assert tag in system["content"] and tag in prompt


@pytest.mark.parametrize(
    ("pieces", "has_answer"),
    [
        (["x </think> <answer> a </answer>"], True),
        (["q", None, "</think><answer>a</answer>"], True),
        (["<answer>a", None, "</answer>"], False),
        (["<ans", None, "wer>a</answer>"], False),
        (["<answer>a</answer><answer>b</answer>"], False),
        ([], False),
    ],
)
def test_only_one_whole_answer_of_the_policy_counts(pieces, has_answer):
    segments = [
        Segment(text=piece or "<answer> x </answer>", is_policy=piece is not None)
        for piece in pieces
    ]
    assert R1_SEARCHER.has_answer(segments) is has_answer
