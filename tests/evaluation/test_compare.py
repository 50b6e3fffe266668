"""Two evaluations compared question by question."""

import json

import pytest

from jaxsearch.commands.main import main
from jaxsearch.evaluation.compare import compare, mcnemar
from jaxsearch.evaluation.comparison_text import comparison_lines


def line(id_: str, em: float, set_name: str = "a", question: str = "") -> dict:
    return {
        "set": set_name,
        "id": id_,
        "question": question or f"Who is {id_}?",
        "golden_answers": ["Ann"],
        "prediction": "Ann" if em else "Bob",
        **dict.fromkeys(("em", "f1", "cover_em"), em),
    }


def written(folder, *lines: dict):
    folder.mkdir()
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / "predictions.jsonl").write_text(text)
    return folder


def test_questions_won_and_lost(tmp_path):
    """30 questions: 12 right in both, 8 won, 2 lost; an order of its own, one alone."""
    first = [float(i < 14) for i in range(30)]
    second = [float(i < 12 or 14 <= i < 22) for i in range(30)]
    a = written(tmp_path / "a", *(line(f"q{i}", em) for i, em in enumerate(first)))
    b = written(
        tmp_path / "b",
        line("other", 1.0),
        *(line(f"q{i}", em) for i, em in reversed(list(enumerate(second)))),
    )
    found = compare(a, b / "predictions.jsonl", num_resamples=2_000)
    one = found["sets"]["a"]
    assert (one["n"], one["num_only_in_first"], one["num_only_in_second"]) == (30, 0, 1)
    em = one["figures"]["em"]
    assert (em["won"], em["lost"], em["equal"]) == (8, 2, 20)
    assert em["p"] == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert em["difference"] == pytest.approx(0.2)
    # Paired: sd of the differences is sqrt(10/30 - 0.04) = 0.54; / sqrt(30) * 1.96.
    low, high = em["interval"]
    assert low == pytest.approx(0.006, abs=0.04) and high == pytest.approx(
        0.394, abs=0.04
    )
    assert one["figures"]["research/f1"]["difference"] == pytest.approx(0.2)
    assert "tokens" not in one["figures"]
    text = "\n".join(comparison_lines(found))
    assert "0 only in the first, 1 in the second" in text and "+0.200" in text


def test_equal_evaluations_do_not_differ(tmp_path):
    a = written(tmp_path / "a", *(line(f"q{i}", float(i % 2)) for i in range(9)))
    found = compare(a, a)["sets"]["a"]["figures"]["em"]
    assert found["interval"] == [0.0, 0.0] and found["p"] == 1.0


def test_each_set_counts_once_in_the_mean(tmp_path):
    def lines(em: float) -> list[dict]:
        return [
            *(line(f"q{i}", em) for i in range(9)),
            *(line(f"q{i}", 0.0, "b") for i in range(2)),
        ]

    found = compare(
        written(tmp_path / "x", *lines(0.0)), written(tmp_path / "y", *lines(1.0))
    )
    assert found["mean_over_sets"]["em"]["difference"] == 0.5
    assert found["mean_over_sets"]["em"]["interval"] == [0.5, 0.5]


def test_an_exact_test_stays_exact():
    assert mcnemar(0, 0) == 1.0 and mcnemar(1, 0) == 1.0 and mcnemar(0, 6) == 2 / 2**6
    assert 0.0 < mcnemar(3_000, 2_800) < 0.01 and mcnemar(7_000, 10) == 0.0


def test_what_cannot_be_compared_is_refused(tmp_path):
    a = written(tmp_path / "a", line("q1", 1.0))
    with pytest.raises(ValueError, match="there is no .*nowhere"):
        compare(a, tmp_path / "nowhere")
    other = written(tmp_path / "b", line("q1", 1.0, question="Who is Bob?"))
    with pytest.raises(ValueError, match="question 'q1' is .* compare evaluations of"):
        compare(a, other)
    with pytest.raises(ValueError, match="no question in common"):
        compare(a, written(tmp_path / "c", line("q2", 1.0)))
    two = written(tmp_path / "d", line("q", 1.0, "x"), line("q", 1.0, "y"))
    with pytest.raises(ValueError, match="no set of questions in common"):
        compare(a, two)
    bad = written(tmp_path / "e", {"id": "q1", "prediction": 3, "golden_answers": []})
    with pytest.raises(ValueError, match="line 1: expected a line of predictions"):
        compare(a, bad)


def test_figures_of_other_questions_alone_are_left_out(tmp_path):
    """As NaN they would be no JSON; without a verdict no question is won or lost."""
    long = line("q3", 1.0) | {"policy_len": 9}
    a = written(tmp_path / "a", line("q1", 1.0), line("q2", 0.0), long)
    unknown = line("q2", 1.0)
    del unknown["em"]
    short = line("q4", 1.0) | {"policy_len": 4}
    b = written(tmp_path / "b", line("q1", 1.0), unknown, short)
    found = compare(a, b, num_resamples=100)["sets"]["a"]["figures"]
    assert "tokens" not in found
    em = found["em"]
    assert (em["won"], em["lost"], em["equal"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"metadata": None}, "metadata"),
        ({"searches": [1]}, "searches"),
        ({"calls": [[1]]}, "calls"),
        ({"em": "a"}, "em"),
        ({"golden_answers": [1]}, "golden_answers"),
        ({"segments": [{"is_policy": False}]}, "segments"),
    ],
)
def test_a_field_of_another_type_is_named_with_its_line(tmp_path, fields, name):
    a = written(tmp_path / "a", line("q1", 1.0), line("q2", 1.0) | fields)
    with pytest.raises(ValueError, match=f"line 2: expected a line .* its '{name}' is"):
        compare(a, a)


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    a = written(tmp_path / "a", line("q1", 0.0), line("q2", 1.0))
    b = written(tmp_path / "b", line("q1", 1.0), line("q2", 1.0))
    assert main(["eval", "compare", str(a), str(b)]) == 0
    assert "a: 2 in both" in capsys.readouterr().out
    for words in (["eval", "compare", "--json"], ["eval", "--json", "compare"]):
        assert main([*words, str(a), str(b)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["sets"]["a"]["figures"]["em"]["difference"] == 0.5
    assert main(["eval", "compare", str(a), str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--model", "x"], ["--out", "x"]])
def test_an_evaluation_needs_a_policy_and_a_folder(capsys, words):
    assert main(["eval", *words]) == 2
    assert "compare A B" in capsys.readouterr().err
