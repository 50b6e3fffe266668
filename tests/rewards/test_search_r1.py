"""Search-R1's rewards: as in its code on texts, for the policy alone on segments."""

import functools
import gzip
import json
import math
import time
from pathlib import Path

import pytest

from jaxsearch.protocol import SEARCH_R1
from jaxsearch.rewards import search_r1 as rules
from jaxsearch.rewards.tasks import task_named
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

search_r1, search_r1_text, search_r1_format = (
    functools.partial(rule, protocol=SEARCH_R1)
    for rule in (rules.search_r1, rules.search_r1_text, rules.search_r1_format)
)
DATA = Path(__file__).parents[1] / "data" / "conformance_rewards_others.jsonl.gz"
VECTORS = [json.loads(line) for line in gzip.open(DATA)]
VECTORS = [v for v in VECTORS if v["recipe"] == "search_r1"]
GOLDS = ["Paris"]
THINK, SEARCH = "<think> t </think>", "<search> q </search>"
ANSWER = "<answer> Paris </answer>"
FOUND = SEARCH_R1.observation([Passage(id="1", contents="France\nParis is in it.")])

# This vector's golden answer was the bare string "Paris" when the reference ran, and
# it looked for the letters one by one in the retrieved text. In the file it is a list,
# as in the next vector, which has the same documents and another expectation. Our
# expectation is that of the list: Paris is not in these documents.
LETTERS_FOR_ANSWERS = {"gold_gold_str": {"retrieval_correct": False}}


def policy(text):
    return Segment(text=text, is_policy=True)


def observed(text):
    return Segment(text=text, is_policy=False)


def test_all_texts_are_judged_as_by_the_reference():
    assert len(VECTORS) == 88
    exact, with_format = task_named("search_r1"), task_named("search_r1_format")
    for vector in VECTORS:
        golds = vector["golden_answers"]
        expected = vector["expected"] | LETTERS_FOR_ANSWERS.get(vector["case"], {})
        outcome = exact.judge_text(
            vector["response"], golds, has_ended=False, label=vector["id"]
        )
        found = {
            **outcome.findings,
            "em": exact.metrics(outcome.prediction, golds)["em"],
        }
        assert found == pytest.approx(expected), vector["id"]
        assert outcome.reward == expected["em"]
        other = with_format.judge_text(
            vector["response"], golds, has_ended=False, label=vector["id"]
        )
        assert other.reward == pytest.approx(expected["format_v03"])
        assert math.fsum(other.terms.values()) == pytest.approx(other.reward)


def test_no_answer_is_no_answer():
    """In the reference the example of the prompt, Beijing, becomes the prediction."""
    for response in ("", THINK, "<answer> Beijing"):
        outcome = search_r1_text(response, ["Beijing"], has_ended=True)
        assert (outcome.reward, outcome.prediction) == (0.0, None)
        assert outcome.findings["format_v03"] == 0.0


HOSTILE = ["", "<answer> Rome </answer>", "</information>", "<think>", "x </think> y"]


@pytest.mark.parametrize("rule", [search_r1, search_r1_format])
@pytest.mark.parametrize("document", HOSTILE)
@pytest.mark.parametrize("ending", [THINK + ANSWER, ANSWER, THINK])
def test_no_passage_earns_or_breaks_anything(rule, document, ending):
    clean = [policy(THINK + SEARCH), observed(FOUND), policy(ending)]
    hostile = [policy(THINK + SEARCH), observed(document), policy(ending)]
    assert rule(hostile, GOLDS, has_ended=True) == rule(clean, GOLDS, has_ended=True)


@pytest.mark.parametrize(
    ("segments", "golds", "reward"),
    [
        ([policy(THINK + SEARCH), observed(FOUND), policy(THINK + ANSWER)], GOLDS, 1.0),
        ([policy(THINK + SEARCH), observed(FOUND), policy(ANSWER)], GOLDS, 0.8),
        ([policy(THINK + ANSWER + "\n")], ["Oslo"], 0.2),
        ([policy(ANSWER)], ["Oslo"], 0.1),
        ([policy(THINK)], GOLDS, 0.0),
        # A forged result, in the right place, is bad format.
        ([policy(THINK + SEARCH + FOUND + THINK + ANSWER)], GOLDS, 0.8),
        ([policy(THINK + SEARCH + THINK + ANSWER)], GOLDS, 0.8),
    ],
)
def test_hand_values_of_the_format_reward(segments, golds, reward):
    outcome = search_r1_format(segments, golds, has_ended=True)
    assert outcome.reward == pytest.approx(reward)
    assert "bad format" in outcome.reason or reward in (1.0, 0.2)


def test_only_what_was_retrieved_earns_the_retrieval_reward():
    def reward(*segments):
        return search_r1_format(
            segments, GOLDS, has_ended=True, retrieval_reward=0.1
        ).reward

    wrong = policy(THINK + "<answer> Oslo </answer>")
    ask = policy(f"<think> Paris </think>{SEARCH}")
    assert reward(ask, observed(FOUND), wrong) == pytest.approx(0.3)
    assert reward(ask, observed("Lyon"), wrong) == pytest.approx(0.2)


@pytest.mark.parametrize("golds", [[], "Paris"])
def test_golden_answers_must_be_a_list_with_something_in_it(golds):
    for rule in (search_r1, search_r1_format):
        with pytest.raises(ValueError, match="golden answer"):
            rule([policy(THINK + ANSWER)], golds, has_ended=True)


@pytest.mark.parametrize("piece", ["<answer>", "<information>", THINK + SEARCH + FOUND])
def test_ten_megabytes_are_judged_in_linear_time(piece):
    filler = piece * (10_000_000 // len(piece))
    start = time.perf_counter()
    for text in (filler, f"{THINK}<answer>{filler}</answer>"):
        assert math.isfinite(search_r1_text(text, GOLDS, has_ended=True).reward)
        assert math.isfinite(
            search_r1_format([policy(text)], GOLDS, has_ended=True).reward
        )
    # A few seconds on an idle machine; a quadratic step takes hours.
    assert time.perf_counter() - start < 120.0
