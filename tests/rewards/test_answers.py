"""Answer metrics against values of the references and values computed by hand."""

import gzip
import inspect
import json
from pathlib import Path

import pytest

from jaxsearch.rewards.answers import (
    cover_em,
    cover_exact_match_score_1,
    em_check,
    exact_match,
    f1,
    last_boxed,
    normalise_r1_searcher,
    normalise_research,
    require_golden_answers,
    sub_em,
)
from jaxsearch.rewards.tasks import task_named
from jaxsearch.trajectory import Segment

VECTORS = [
    json.loads(line)
    for line in gzip.open(
        Path(__file__).parents[1] / "data" / "conformance_answers.jsonl.gz"
    )
]
METRICS = (exact_match, em_check, f1, cover_em, cover_exact_match_score_1, sub_em)


def test_all_vectors_of_the_reference():
    assert len(VECTORS) == 593
    num_without_golds = 0
    for vector in VECTORS:
        prediction, golds, expected = (
            vector["prediction"],
            vector["golds"],
            vector["research"],
        )
        assert normalise_research(prediction) == expected["normalized_pred"]
        assert [normalise_research(g) for g in golds] == expected["normalized_golds"]
        if not golds:  # the reference says 0; here it is an error, tested below
            num_without_golds += 1
            continue
        found = (
            em_check(prediction, golds, normalise_research),
            f1(prediction, golds, normalise_research),
        )
        assert found == (expected["em"], expected["f1"]), vector["id"]
    assert num_without_golds == 2


def test_all_vectors_of_r1_searcher():
    with_golds = [vector for vector in VECTORS if vector["golds"]]
    assert len(with_golds) == 591
    for vector in with_golds:
        prediction, golds = vector["prediction"], vector["golds"]
        expected = vector["r1_searcher"]
        normalised = [normalise_r1_searcher(text) for text in (prediction, *golds)]
        assert normalised == [
            expected["normalized_pred"],
            *expected["normalized_golds"],
        ]
        for metric, name in (
            (em_check, "em"),
            (f1, "f1"),
            (cover_exact_match_score_1, "cover_em"),
            (sub_em, "cover_em_2"),
        ):
            found = metric(prediction, golds, normalise_r1_searcher)
            assert found == pytest.approx(expected[name]), (vector["id"], name)


def test_all_vectors_of_search_r1():
    for vector in VECTORS:
        prediction, golds = vector["prediction"], vector["golds"]
        if not golds:
            continue
        for metric, name in ((em_check, "em"), (sub_em, "subem")):
            found = metric(prediction, golds, normalise_research)
            assert found == vector["search_r1"][name], (vector["id"], name)
        assert found == vector["research"]["acc"], vector["id"]


def test_golden_answers_must_be_strings():
    # Without the type checks of the tests, as users call it.
    unchecked = inspect.unwrap(require_golden_answers)
    with pytest.raises(ValueError, match="must be strings, got \\[1817\\]"):
        unchecked([1817])


def test_hand_values():
    # Shared {x, y}; precision 2/3, recall 2/4: 2 * (1/3) / (7/6) = 4/7.
    assert f1("x y z", ["x y v w"], normalise_research) == pytest.approx(4 / 7)
    assert f1("yes it is", ["yes"], normalise_research) == 0.0
    assert f1("Paris", ["Rome", "the Paris!"], normalise_research) == 1.0
    assert exact_match("The Rome", ["Paris", "rome."], normalise_research) == 1.0
    assert exact_match("Rome city", ["Rome"], normalise_research) == 0.0
    assert cover_em("Wren, Sir Chris", ["Chris Wren"], normalise_research) == 1.0
    assert cover_em("Chris", ["Chris Wren"], normalise_research) == 0.0
    assert cover_em("Chris", ["the"], normalise_research) == 0.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("golds", [[], "Paris"])
def test_golden_answers_must_be_a_list_with_something_in_it(metric, golds):
    with pytest.raises(ValueError, match="at least one golden answer"):
        metric("Paris", golds, normalise_research)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (" \\boxed{ Tolrus } ", " Tolrus "),
        ("\\boxed{a} then \\boxed{b{c}}}", "b{c}"),
        ("\\boxed{a} \\boxed b$ c", "b"),
        ("\\boxed b$ \\boxed{a}", "b"),
        ("\\boxed{}", ""),
        ("\\boxed{{a}", None),
        ("\\boxed{a} \\boxedword{b}", None),
        ("{a}", None),
        ("\\fbox{a}", None),
        ("", None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize("normalise", [normalise_research, normalise_r1_searcher])
@pytest.mark.parametrize("gold", ["A", "the", "The The", "...", ""])
@pytest.mark.parametrize("prediction", ["A", "the", "...", "", "Paris"])
def test_nothing_equals_an_answer_that_normalises_to_nothing(
    normalise, gold, prediction
):
    """The references disagree: their exact match is 1 and their F1 is 0."""
    for metric in (exact_match, f1, cover_em):
        assert metric(prediction, [gold], normalise) == 0.0
    is_empty = float(prediction != "Paris")
    assert em_check(prediction, [gold], normalise) == is_empty
    assert cover_exact_match_score_1(prediction, [gold], normalise) == is_empty


def test_the_metrics_are_those_of_the_references_for_all_other_answers():
    for vector in VECTORS:
        prediction, golds = vector["prediction"], vector["golds"]
        for normalise in (normalise_research, normalise_r1_searcher):
            golds = [gold for gold in golds if normalise(gold)]
            if not golds:
                continue
            for metric, reference in (
                (exact_match, em_check),
                (cover_em, cover_exact_match_score_1),
            ):
                found = metric(prediction, golds, normalise)
                assert found == reference(prediction, golds, normalise)
            if exact_match(prediction, golds, normalise) == 1.0:
                assert f1(prediction, golds, normalise) == 1.0


@pytest.mark.parametrize("name", ["search_r1", "search_r1_format"])
def test_an_article_earns_no_reward_of_search_r1(name):
    task = task_named(name)
    text = "<think> t </think><answer> the </answer>"
    judged = {"golden_answers": ["A"], "has_ended": True, "label": "one"}
    policy = [Segment(text=text, is_policy=True)]
    assert task.judge(policy, **judged).terms["answer"] == 0.0
    # The reference's reward of a whole text stays what it is.
    assert task.judge_text(text, **judged).terms["answer"] > 0.0
