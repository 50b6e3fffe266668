"""ReSearch's protocol against the queries and texts of the authors' rollout loop."""

import gzip
import itertools
import json
from pathlib import Path

import pytest

from jaxsearch.protocol import QUICKSTART, RESEARCH
from jaxsearch.protocol.spans import first_span
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

CASES = [
    json.loads(line)
    for line in gzip.open(
        Path(__file__).parents[1] / "data" / "conformance_research_loop.jsonl.gz"
    )
]

# Invariant 4: retrieved text enters a context without control tags and end tokens.
# The reference inserts these two documents as they are, so that its loop reads the
# tags and cuts the loss at the end token.
STRIPPED = {
    "doc_with_control_tags": RESEARCH.control_tags,
    "eos_in_document_cuts_loss": ("<|im_end|>",),
}


def searching_turns(rollout):
    return [turn["text"] for turn in rollout["turns"] if turn["stop"] == "</search>"]


def passages(contents):
    return [Passage(id=str(i), contents=text) for i, text in enumerate(contents)]


def policy(text):
    return Segment(text=text, is_policy=True)


def observed(text):
    return Segment(text=text, is_policy=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_queries_are_those_of_the_reference(case):
    rounds = itertools.zip_longest(*map(searching_turns, case["rollouts"]))
    queries = [
        [RESEARCH.query(turn) for turn in turns if turn is not None] for turns in rounds
    ]
    assert queries == case["queries"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_observations_are_those_of_the_reference(case):
    for rollout in case["rollouts"]:
        expected = [s["text"] for s in rollout["segments"] if not s["is_policy"]]
        for turn, text in zip(searching_turns(rollout), expected, strict=True):
            contents = case["documents"][RESEARCH.query(turn)][: case["top_n"]]
            if case["case"] == "budget_cut_inside_result":
                assert RESEARCH.observation(passages(contents)).startswith(text)
                continue
            for tag in STRIPPED.get(case["case"], ()):
                contents = [document.replace(tag, "") for document in contents]
            is_equal = RESEARCH.observation(passages(contents)) == text
            assert is_equal == (case["case"] not in STRIPPED)


@pytest.mark.parametrize(
    ("turn", "query"),
    [
        (
            "<search> who? </search>\n",
            "who?",
        ),  # one token may hold ">" and what follows
        ("<search> who? </search> <search>", "who?"),
        ("<search> who? ", ""),  # ended without a stop tag: nothing is asked
        ("who? </search>", ""),
        ("", ""),
    ],
)
def test_the_query_is_what_stands_before_the_stop_tag(turn, query):
    assert RESEARCH.query(turn) == query


def test_instructions_name_every_tag_and_keep_the_question_apart():
    system, user = RESEARCH.messages("Who wrote it?")
    assert (system["role"], user) == (
        "system",
        {"role": "user", "content": "Who wrote it?"},
    )
    for tag in (*RESEARCH.control_tags, "\\boxed{"):
        assert tag in system["content"]
        assert tag in RESEARCH.prompt("Who wrote it?")
    assert RESEARCH.prompt("Who wrote it?").count("Who wrote it?") == 1
    assert len(RESEARCH.control_tags) == 8


def test_quickstart_is_one_line_of_words():
    found = passages(['"Arlen"\nArlen lies\nin  Tolrus.', "Bor\nBor is big."])
    text = QUICKSTART.observation(found)
    assert text == " <result> Arlen lies in Tolrus. Bor is big. </result>"
    assert QUICKSTART.observation([]) == " <result> </result>"
    assert QUICKSTART.prompt("Where is Arlen?") == "Where is Arlen?"
    assert QUICKSTART.query(" <search> Arlen </search>") == "Arlen"


ANSWER = "<think> t </think> <answer> It is \\boxed{x} </answer>"


@pytest.mark.parametrize(
    ("segments", "has_answer"),
    [
        ([policy(ANSWER)], True),
        ([policy(ANSWER[:30]), policy(ANSWER[30:])], True),
        ([policy("<search> q </search>"), observed(ANSWER), policy(ANSWER)], True),
        ([policy(" <answer> \\boxed{ Tolrus } </answer>")], True),
        ([], False),
        ([policy("<search> q </search>"), observed(ANSWER)], False),
        ([policy(ANSWER + ANSWER)], False),
        ([policy("<answer> x </answer>")], False),
        ([policy("</answer> \\boxed{x} <answer>")], False),
        ([policy("<answer> \\boxed{"), observed("x"), policy("} </answer>")], False),
        ([policy("<ans"), observed(""), policy("wer> \\boxed{x} </answer>")], False),
    ],
)
def test_only_one_whole_answer_of_the_policy_counts(segments, has_answer):
    assert RESEARCH.has_answer(segments) is has_answer


def test_the_judged_text_holds_nothing_that_the_search_wrote():
    turn = "a <search> q </search>"
    segments = [policy(turn), observed("b"), observed("c"), policy("d"), policy("e")]
    assert RESEARCH.policy_text(segments) == f"{turn} <result></result> de"


def test_the_answer_is_the_first_that_closes():
    text = "</answer><answer>a<answer>b</answer>c</answer>"
    assert first_span(text, RESEARCH.answer) == "a<answer>b"
    assert first_span("</answer> <answer>", RESEARCH.answer) is None
