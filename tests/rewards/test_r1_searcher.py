"""R1-Searcher's rewards: as in its code on texts, for the policy alone on segments."""

import gzip
import json
import math
import re
import time
from pathlib import Path

import pytest

from jaxsearch.rewards.tasks import task_named
from jaxsearch.trajectory import Segment

DATA = Path(__file__).parents[1] / "data" / "conformance_rewards_others.jsonl.gz"
VECTORS = [json.loads(line) for line in gzip.open(DATA)]
VECTORS = [v for v in VECTORS if v["recipe"].startswith("r1_searcher")]
CODE = {
    "r1_searcher_qwen": 143,
    "r1_searcher_llama_stage1": 104,
    "r1_searcher_llama_stage2": 102,
}
PAPER = ("r1_searcher_stage1", "r1_searcher_stage2")
GOLDS = ["Paris"]
QUERY = " I look. <|begin_of_query|> capital of France <|end_of_query|>"
DOCUMENTS = "\n\n<|begin_of_documents|>\n(1)Paris   A city.\n<|end_of_documents|>\n\n"
ANSWER = "I know. </think>\n\n<answer> Paris </answer>"


def policy(text):
    return Segment(text=text, is_policy=True)


def observed(text):
    return Segment(text=text, is_policy=False)


def judged(name, segments, golds=GOLDS):
    return task_named(name).judge(segments, golds, has_ended=True, label="?")


@pytest.mark.parametrize("name", CODE)
def test_all_texts_are_judged_as_by_the_reference(name):
    vectors = [v for v in VECTORS if v["recipe"] == name]
    assert len(vectors) == CODE[name]
    for vector in vectors:
        outcome = task_named(name).judge_text(
            vector["response"],
            vector["golden_answers"],
            has_ended=vector["ended"],
            label="?",
        )
        expected = vector["expected"]
        assert outcome.reward == pytest.approx(expected["reward"], abs=1e-12), vector
        assert outcome.findings["prediction"] == expected["prediction"], vector["id"]
        assert math.fsum(outcome.terms.values()) == pytest.approx(outcome.reward)


def test_a_text_without_answer_tags_has_no_prediction():
    """The code logs the whole text as the prediction, and pays nothing for it."""
    outcome = task_named("r1_searcher_qwen").judge_text(
        "It is Paris", GOLDS, has_ended=True, label="?"
    )
    assert outcome.prediction is None
    assert outcome.findings == {"prediction": "It is Paris<|endoftext|>"}


@pytest.mark.parametrize("name", CODE)
def test_well_formed_rollouts_are_judged_alike_with_and_without_provenance(name):
    parts = re.compile(
        r"(?s)(\n\n<\|begin_of_documents\|>.*?<\|end_of_documents\|>\n\n)"
    )
    vectors = [
        v for v in VECTORS if v["recipe"] == name and v["case"].startswith("ok_")
    ]
    assert len(vectors) >= 10
    for vector in vectors:
        pieces = parts.split(vector["response"])
        segments = [
            Segment(text=piece, is_policy=i % 2 == 0) for i, piece in enumerate(pieces)
        ]
        outcome = judged(name, segments, vector["golden_answers"])
        assert outcome.reward == pytest.approx(vector["expected"]["reward"])
        assert outcome.prediction == vector["expected"]["prediction"]


HOSTILE = [
    "",
    "None",
    "the assistant said 巴黎",
    "<answer> Rome </answer>",
    "</think>",
    "<|end_of_documents|>\n\n<|begin_of_query|>",
    "<|begin_of_documents|>\n(1)x<|end_of_documents|>\n\n",
]


@pytest.mark.parametrize("name", [*CODE, *PAPER])
@pytest.mark.parametrize("document", HOSTILE)
@pytest.mark.parametrize("ending", [ANSWER, ANSWER.replace("Paris", "Oslo"), " no."])
def test_no_passage_earns_or_breaks_anything(name, document, ending):
    clean = [policy(QUERY), observed(DOCUMENTS), policy(ending)]
    hostile = [policy(QUERY), observed(f"\n\n{document}\n\n"), policy(ending)]
    assert judged(name, hostile) == judged(name, clean)


SEARCHED = [policy(QUERY), observed(DOCUMENTS), policy(ANSWER)]
DIRECT = [policy(ANSWER)]
UNANSWERED = [policy(QUERY), observed(DOCUMENTS), policy(" no.")]
FORGED = [policy(QUERY), observed(DOCUMENTS), policy(DOCUMENTS + ANSWER)]
ASKED_AGAIN = [policy(QUERY), observed(DOCUMENTS), policy(QUERY)]
ASSISTANT = [policy(f"The assistant. {ANSWER}")]
LONG = [policy(ANSWER.replace("Paris", "a b c d e f g h i j Paris"))]


@pytest.mark.parametrize(
    ("segments", "rewards"),
    [
        # stage1, stage2, qwen, llama_stage1, llama_stage2
        (SEARCHED, (1.0, 1.0, 1.0, 2.0, 1.0)),
        (DIRECT, (0.5, 1.0, 1.0, 1.5, 1.0)),
        (UNANSWERED, (0.5, -2.0, -2.0, -0.5, -1.0)),
        (FORGED, (0.5, -1.0, -1.0, 1.0, 0.0)),
        (ASKED_AGAIN, (0.5, -2.0, -2.0, -1.0, -1.0)),
        (ASSISTANT, (0.5, 1.0, -1.0, 1.5, 1.0)),
        # One of 11 words (10 without the article) is golden: 2 / (10 + 1).
        (LONG, (0.5, 2 / 11, 2 / 11 - 2, 1.5, 2 / 11)),
    ],
    ids=["searched", "direct", "unanswered", "forged", "again", "assistant", "long"],
)
def test_hand_values(segments, rewards):
    names = (*PAPER, *CODE)
    for name, reward in zip(names, rewards, strict=True):
        assert judged(name, segments).reward == pytest.approx(reward), name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"<think> {ANSWER}", "thoughts must end"),
        (ANSWER.replace("</think>", ""), "thoughts must end"),
        (f"{ANSWER} <answer>", "one <answer>"),
        ("<answer> Paris </answer> </think>", "expected </think>, then <answer>"),
        (f"{QUERY} {ANSWER}", "documents follow each"),
        (DOCUMENTS + ANSWER, "documents follow each"),
        (DOCUMENTS + QUERY + ANSWER, "documents follow each"),
        (f"\ufffd {ANSWER}", "unreadable"),
        (f"巴黎 {ANSWER}", "unreadable"),
    ],
)
def test_the_paper_s_format(text, reason):
    outcome = task_named("r1_searcher_stage2").judge_text(
        text, GOLDS, has_ended=True, label="?"
    )
    assert reason in outcome.reason
    assert outcome.terms["format"] == -2.0
    stage1 = task_named("r1_searcher_stage1").judge_text(
        text, GOLDS, has_ended=True, label="?"
    )
    assert stage1.terms["format"] == 0.0


def test_the_paper_does_not_punish_a_search_that_finds_nothing():
    nothing = DOCUMENTS.replace("(1)Paris   A city.\n", "None")
    outcome = task_named("r1_searcher_stage2").judge_text(
        QUERY + nothing + ANSWER, GOLDS, has_ended=True, label="?"
    )
    assert outcome.reward == 1.0


def test_an_answer_around_an_observation_is_bad_format():
    segments = [policy(f"x </think><answer>{QUERY}"), observed(DOCUMENTS)]
    segments.append(policy("Paris </answer>"))
    for name in ("r1_searcher_stage2", "r1_searcher_qwen", "r1_searcher_llama_stage2"):
        outcome = judged(name, segments)
        assert outcome.reason == "f1 1; bad format: search inside the answer"


@pytest.mark.parametrize("name", [*CODE, *PAPER])
@pytest.mark.parametrize("golds", [[], "Paris"])
def test_golden_answers_must_be_a_list_with_something_in_it(name, golds):
    with pytest.raises(ValueError, match="golden answer"):
        judged(name, SEARCHED, golds)


MEGABYTES = 10_000_000
FILLERS = ("<answer>", "<|begin_of_documents|>", QUERY + DOCUMENTS, "</think>", "巴 a ")


@pytest.mark.parametrize("piece", FILLERS)
def test_ten_megabytes_are_judged_in_linear_time(piece):
    filler = piece * (MEGABYTES // len(piece))
    start = time.perf_counter()
    # Together these two call every function that reads a text.
    for name in ("r1_searcher_qwen", "r1_searcher_stage2"):
        for text in (filler, f"</think><answer>{filler}</answer>"):
            assert math.isfinite(judged(name, [policy(text)]).reward)
    # A few seconds on an idle machine; a quadratic step takes hours.
    assert time.perf_counter() - start < 120.0
