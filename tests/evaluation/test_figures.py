"""Figures of single answers, their groups and their table."""

import math

import numpy as np
import pytest

from jaxsearch.evaluation.answer_table import Answers
from jaxsearch.evaluation.figures import answer_figures, groups_of
from jaxsearch.evaluation.predictions import write_results
from jaxsearch.evaluation.reading import has_read_answer, has_read_titles
from jaxsearch.evaluation.result_text import result_lines
from jaxsearch.evaluation.samples import majority, pass_at, powers
from jaxsearch.evaluation.set_results import results_of_sets
from jaxsearch.json_files import json_value
from jaxsearch.rewards.answers import normalise_research


def line(id_="q", prediction="Ann", read="", **fields) -> dict:
    """A line whose question has the answer Ann."""
    is_right = float(prediction == "Ann")
    found = {
        "id": id_,
        "question": f"Who is {id_}?",
        "golden_answers": ["Ann"],
        "prediction": prediction,
        "segments": [
            {"text": "<think> Ann </think>", "is_policy": True},
            {"text": read, "is_policy": False},
        ],
        "status": "answered",
        "searches": [{"query": "x", "has_failed": False}] if read else [],
        "calls": ["search"] if read else [],
        "policy_len": 10,
        "reward": is_right,
        **dict.fromkeys(("em", "f1", "cover_em"), is_right),
    }
    return found | fields


def test_both_normalisers_stand_side_by_side():
    """Deleting "-" makes one word, replacing it two; True is yes for one of them."""
    found = answer_figures(line(prediction="well-known", golden_answers=["well known"]))
    assert (found["research/em"], found["r1_searcher/em"]) == (0.0, 1.0)
    found = answer_figures(line(prediction="True", golden_answers=["yes"]))
    assert (found["research/em"], found["r1_searcher/em"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("prediction", "read", "cell"),
    [
        ("Ann", "Ann is here.", "right_read"),
        ("Ann", "Annabel is here.", "right_not_read"),
        ("Bob", "It was (Ann).", "wrong_read"),
        (None, "Bob is here.", "wrong_not_read"),
    ],
)
def test_an_answer_is_in_one_of_four_cells(prediction, read, cell):
    found = answer_figures(line(prediction=prediction, read=read))
    cells = ("right_read", "right_not_read", "wrong_read", "wrong_not_read")
    assert [name for name in cells if found[name] == 1.0] == [cell]
    assert sum(found[name] for name in cells) == 1.0


def test_only_what_was_retrieved_is_read():
    assert has_read_answer(line(read="Bob")) is False  # the thought has the answer
    assert has_read_answer(line(golden_answers=["yes", "No"], read="no")) is None
    assert has_read_answer({"golden_answers": ["Ann"]}) is None


@pytest.mark.parametrize(
    "read",
    [
        ' <result>\n"Rome"\nA city of Bob\n\n"Ann Lee"\nAnn was born.\n</result>',
        "<information>Doc 1(Title: Rome) A city of Bob\nDoc 2(Title: Ann Lee) Born.",
        "<|begin_of_documents|>\n(1)Rome   Of Bob\n(2)Title: Ann Lee Text:  Born.",
    ],
)
def test_titles_are_found_where_each_system_puts_them(read):
    assert has_read_titles(line(read=read, metadata={})) is None
    lists = [["Rome", "Ann Lee"], ["Rome", "Bob"], ["Ann"]]
    found = [
        has_read_titles(line(read=read, metadata={"supporting_titles": titles}))
        for titles in lists
    ]
    assert found == [True, False, False]


@pytest.mark.parametrize(
    ("fields", "hops", "kind"),
    [
        ({"metadata": {"hops": "2"}}, "2", ""),
        ({"metadata": {"type": "3hop1"}}, "3", "3hop1"),
        ({"id_": "2hop__13_4"}, "2", ""),
        # The columns of a table without values.
        ({"metadata": {"hops": None, "type": None}}, "", ""),
        ({"id_": "2hop__13_4", "metadata": {"hops": None}}, "2", ""),
        ({"metadata": {"hops": 0}}, "0", ""),
        ({"metadata": {"type": "bridge"}}, "", "bridge"),
    ],
)
def test_hops_are_told_or_in_the_names_of_musique(fields, hops, kind):
    found = groups_of(line(**fields))
    assert (found["hops"], found["type"]) == (hops, kind)


def test_groups_are_sorted_whatever_their_names_are():
    """Some characters are digits, but not of a number."""
    names = ["²", "10", "①", "9", "comparison"]
    lines = [line(name, metadata={"hops": name}) for name in names]
    found = results_of_sets({"a": answers_of(*lines)})
    assert [*found["sets"]["a"]["by_hops"]] == ["9", "10", "comparison", "²", "①"]
    assert any(one.strip().startswith("²") for one in result_lines(found))


def test_lines_of_earlier_versions_lack_figures():
    old = {"id": "q", "golden_answers": ["Ann"], "prediction": "Ann", "em": 1.0}
    found = answer_figures(old)
    assert found["em"] == 1.0 and found["research/f1"] == 1.0
    assert all(
        math.isnan(found[name]) for name in ("tokens", "answer_read", "searches")
    )


def test_results_are_json_without_nan(tmp_path):
    """`jq` and JavaScript refuse NaN, which Python writes."""
    write_results(tmp_path, {"em": math.nan, "sets": [math.inf, 1.0]})
    text = (tmp_path / "results.json").read_text()
    assert json_value(text, allow_nan=False) == {"em": "NaN", "sets": ["Infinity", 1.0]}


def answers_of(*lines: dict) -> Answers:
    answers = Answers(normalise_research)
    for one in lines:
        answers.add(one)
    return answers


def test_pass_at_k_by_hand():
    """Of 4 samples one is right: 2 of them hold it in 3 of 6 draws."""
    assert (
        pass_at(4, 1, 2) == 0.5 and pass_at(4, 0, 4) == 0.0 and pass_at(4, 3, 2) == 1.0
    )
    assert powers(1) == [1] and powers(4) == [1, 2, 4] and powers(6) == [1, 2, 4, 6]


def test_the_majority_needs_an_answer_and_ties_go_to_the_first():
    assert majority(["a", "b", "b"]) == 1 and majority(["a", "b"]) == 0
    assert majority(["", "", "a"]) == 2 and majority(["", ""]) is None


def test_samples_count_by_question():
    found = results_of_sets(
        {
            "a": answers_of(
                line("q1", "Ann"),
                line("q1", "the Ann"),
                line("q1", "Bob"),
                line("q2", "Bob"),
                line("q2", "Cid"),
                line("q2", None),
            )
        }
    )
    one = found["sets"]["a"]
    assert (one["n"], one["samples_per_question"]) == (2, 3)
    assert one["em"] == pytest.approx(1 / 6)  # "the Ann" is judged so in this file
    assert one["pass@1"] == pytest.approx(1 / 6)
    assert one["pass@2"] == pytest.approx((2 / 3 + 0) / 2) and one["pass@3"] == 0.5
    assert one["majority_em"] == 0.5
    assert one["normalisers"]["research"]["em"] == pytest.approx(2 / 6)


def test_questions_that_lack_answers_are_told():
    """pass@2 is that of q1 alone, and pass@1 that of both."""
    rows = [line("q1", "Ann"), line("q1", "Bob"), line("q2", "Ann")]
    found = results_of_sets({"a": answers_of(*rows)})
    assert (found["pass@1"], found["pass@2"]) == (0.75, 1.0)
    assert found["num_with_fewer_samples"] == 1
    assert "than others: 1 questions" in "\n".join(result_lines(found))
    assert "pass@1" not in results_of_sets({"a": answers_of(line())})


def test_groups_and_cells_have_intervals_and_a_row():
    def questions(hops: str, number: int, right: int) -> list[dict]:
        return [
            line(
                f"{hops}-{i}",
                "Ann" if i < right else "Bob",
                read="Ann" if i % 2 else "",
                metadata={"hops": hops},
            )
            for i in range(number)
        ]

    rows = [*questions("1", 20, 15), *questions("2", 30, 6)]
    found = results_of_sets({"a": answers_of(*rows)})
    one = found["sets"]["a"]
    assert found["em"] == one["em"] == pytest.approx(21 / 50)
    assert one["by_hops"]["2"]["em"] == pytest.approx(0.2)
    assert one["by_searches"]["1"]["n"] == 25 and one["by_searches"]["0"]["n"] == 25
    low, high = one["intervals"]["hops/2/em"]
    assert low < 0.2 < high and high - low == pytest.approx(0.28, abs=0.04)
    cells = [one["retrieval"][name] for name in ("right_read", "right_not_read")]
    assert sum(cells) == pytest.approx(0.42)
    text = "\n".join(result_lines(found))
    assert "2 hops" in text and "1 search " in text and "right, not read" in text


def test_each_set_counts_once_in_their_mean():
    sets = {
        "a": answers_of(*(line(f"q{i}", "Ann") for i in range(9))),
        "b": answers_of(*(line(f"q{i}", "Bob") for i in range(2))),
    }
    found = results_of_sets(sets)
    assert (found["n"], found["em"]) == (11, 0.5)
    assert found["intervals"]["em"] == [0.5, 0.5]
    assert "mean of 2 sets" in "\n".join(result_lines(found))


def test_the_table_sums_what_answers_have():
    table = answers_of(
        line("q1"), line("q1", "Bob"), line("q2", policy_len=None)
    ).table()
    tokens = table.columns.index("tokens")
    np.testing.assert_array_equal(table.totals[:, tokens], [20.0, 0.0])
    np.testing.assert_array_equal(table.weights[:, tokens], [2.0, 0.0])


def test_hops_of_musique_are_found_in_a_mixture():
    assert groups_of(line("musique/3hop1__5"))["hops"] == "3"
    assert groups_of(line("2hop__5"))["hops"] == "2"
    assert groups_of(line("some 2hop__5"))["hops"] == ""


def test_a_type_of_its_own_for_each_question_makes_no_groups():
    """Each group is four columns of ten thousand resamples."""
    answers = Answers()
    for i in range(101):
        answers.add(line(f"q{i}", metadata={"type": f"t{i}", "hops": i % 3}))
    columns = answers.table().columns
    assert "hops/2/em" in columns and not any("type/" in name for name in columns)
