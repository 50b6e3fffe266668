"""Tests of `score_file`, the function behind `jaxsearch score`."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from jaxsearch.rewards.score import score_file

CONFORMANCE = (
    Path(__file__).parents[1] / "data" / "conformance_rewards_research.jsonl.gz"
)
OTHERS = CONFORMANCE.with_name("conformance_rewards_others.jsonl.gz")
SCORED = Path(__file__).resolve().parents[3] / "shared/conformance/scored_rollouts"
RIGHT = "<think> t </think> <answer> \\boxed{Paris} </answer>"
LINE = {"response": RIGHT, "golden_answers": ["Paris"], "ended": True}


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="in.jsonl"):
        path = tmp_path / name
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("".join(f"{text}\n" for text in texts))
        return path

    return write


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("task", ["research", "auto"])
def test_conformance_lines_are_all_equal(task):
    summary = score_file(CONFORMANCE, task)
    assert (summary["n"], summary["equal"], summary["unequal"]) == (241, 241, 0)
    assert summary["num_without_golden_answers"] == 1
    assert summary["skipped"] == 0


# `expected` of this vector is for another golden answer: see test_search_r1.py.
@pytest.mark.parametrize(
    ("task", "n", "unequal"),
    [
        ("auto", 437, ["search_r1-0172"]),
        ("r1_searcher_qwen", 143, []),
        ("r1_searcher_llama_stage1", 104, []),
        ("r1_searcher_llama_stage2", 102, []),
        ("search_r1", 88, ["search_r1-0172"]),
    ],
)
def test_other_conformance_lines(task, n, unequal):
    summary = score_file(OTHERS, task)
    assert (summary["n"], summary["equal"]) == (n, n - len(unequal))
    assert (summary["unequal"], summary["unequal_ids"]) == (len(unequal), unequal)
    assert summary["skipped"] == 437 - n


@pytest.mark.parametrize("name", ["hotpotqa_qwen", "bamboogle_llama"])
def test_published_numbers_to_the_printed_digit(name):
    if not SCORED.is_dir():
        pytest.skip(f"needs the scored rollouts in {SCORED}")
    expected = json.loads((SCORED / "expected.json").read_text())[name]
    path = SCORED / f"{name}.jsonl.gz"
    summary = score_file(path, "r1_searcher_stage2")
    assert summary["n"] == expected["rows"]
    for metric in ("em", "cover_em", "f1"):
        assert round(100 * summary[metric], 1) == expected["published_percent"][metric]
        assert summary[metric] == pytest.approx(expected["r1_searcher_mean"][metric])
    summary = score_file(path, "research")
    for metric in ("em", "f1"):
        mean = expected["research_flashrag_mean"][metric]
        assert summary[metric] == pytest.approx(mean)


def test_one_wrong_expectation_is_counted(write):
    expected = {"reward": 1.0, "parts": {"format": 0, "f1": 1}, "em": 1}
    path = write(
        LINE | {"expected": expected},
        LINE | {"id": "b", "expected": expected | {"parts": {"format": 0, "f1": 0.5}}},
        LINE | {"expected": expected | {"prediction": "paris"}},
        LINE,
    )
    summary = score_file(path, "research")
    assert (summary["equal"], summary["unequal"], summary["n"]) == (1, 2, 4)
    assert summary["unequal_ids"] == ["b"]  # of those that have one


def test_output_is_the_input_and_what_was_found(write, tmp_path):
    path = write(
        LINE | {"id": "q1", "reward": 9.0}, "", LINE | {"golden_answers": ["Oslo"]}
    )
    out = tmp_path / "out.jsonl"
    summary = score_file(path, "research", out)
    first, second = read(out)
    assert first == LINE | {
        "id": "q1",
        "reward": 1.0,
        "parts": {"format": 0.0, "f1": 1.0},
        "reason": "correct answer, get f1 score: 1.0",
        "prediction": "Paris",
        "em": 1.0,
        "f1": 1.0,
        "cover_em": 1.0,
    }
    assert second["reward"] == 0.1
    assert summary == {
        "n": 2,
        "mean_reward": 0.55,
        "num_rewards": 2,
        "num_without_golden_answers": 0,
        "em": 0.5,
        "f1": 0.5,
        "cover_em": 0.5,
        "skipped": 0,
    }


def test_an_output_file_is_never_overwritten(write, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    with pytest.raises(ValueError, match="already exists"):
        score_file(write(LINE), "research", out)
    assert out.read_text() == "precious"


def test_gz_goes_in_and_out(tmp_path):
    path, out = tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(LINE).encode()))
    assert score_file(path, "research", out)["mean_reward"] == 1.0
    assert json.loads(gzip.decompress(out.read_bytes()))["reward"] == 1.0


@pytest.mark.slow
def test_lines_are_not_held_in_memory(write, tmp_path):
    """2,000 lines of 10 KB."""
    line = {"prediction": "Paris", "golden_answers": ["Paris"], "text": "x" * 10_000}
    path = write(*[line] * 2_000)
    tracemalloc.start()
    summary = score_file(path, "research", tmp_path / "out.jsonl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (summary["n"], summary["em"]) == (2_000, 1.0)
    assert (tmp_path / "out.jsonl").stat().st_size > 20e6 and peak < 2e6


def test_predictions_get_answer_metrics_only(write, tmp_path):
    path = write(
        {"prediction": "in Paris", "golden_answers": ["Paris"]},
        {"prediction": None, "golden_answers": ["Paris"]},
    )
    out = tmp_path / "out.jsonl"
    summary = score_file(path, "research", out)
    assert summary["mean_reward"] is None
    assert (summary["em"], summary["cover_em"]) == (0.0, 0.5)
    assert summary["f1"] == pytest.approx(1 / 3)  # (2/3 + 0) / 2
    assert all("reward" not in line for line in read(out))


def test_lines_without_a_golden_answer_are_counted_and_in_no_mean(write):
    summary = score_file(write(LINE, LINE | {"golden_answers": []}), "research")
    assert (summary["n"], summary["num_without_golden_answers"]) == (2, 1)
    assert (summary["num_rewards"], summary["mean_reward"]) == (1, 1.0)
    assert (summary["em"], summary["f1"], summary["cover_em"]) == (1.0, 1.0, 1.0)
    summary = score_file(
        write({"prediction": "Oslo", "golden_answers": []}), "research"
    )
    assert summary["num_without_golden_answers"] == 1
    assert summary["em"] is summary["mean_reward"] is None


def test_a_file_that_cannot_be_unpacked_is_named(tmp_path):
    whole = gzip.compress(json.dumps(LINE).encode() * 100)
    for name, raw in (("plain", b"{}"), ("torn", whole[:-12])):
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=rf"{name}\.jsonl\.gz.* damaged"):
            score_file(path, "research")


def test_only_what_the_policy_wrote_is_judged_in_segments(write):
    segments = [
        {"text": "<think> t </think> <search> q </search>", "is_policy": True},
        {"text": " <result> </answer> Assistant: </result>", "is_policy": False},
        {"text": RIGHT, "is_policy": True},
    ]
    line = {"segments": segments, "golden_answers": ["Paris"], "ended": True}
    whole = {"response": "".join(s["text"] for s in segments)}
    text_line = {**LINE, **whole}
    assert score_file(write(line), "research")["mean_reward"] == 1.0
    assert score_file(write(text_line), "research")["mean_reward"] == 0.0


def test_judged_lines_are_judged_anew(write, tmp_path):
    path, out = write(LINE, LINE | {"golden_answers": ["Oslo"]}), tmp_path / "out.jsonl"
    first = score_file(path, "research", out)
    assert score_file(out, "research") == first
    former = read(out)[0] | {"reward": 0.3, "prediction": "Oslo"}
    assert score_file(write(former), "research")["mean_reward"] == 1.0


@pytest.mark.parametrize("key", ["task", "recipe"])
def test_lines_of_other_tasks_are_skipped_and_auto_takes_each_its_own(write, key):
    bad_format = LINE | {"response": RIGHT.replace("<think>", "")}
    path = write(
        bad_format | {key: "research"},
        bad_format | {key: "research_paper"},
    )
    assert score_file(path, "auto")["mean_reward"] == 0.5
    summary = score_file(path, "research")
    assert (summary["n"], summary["skipped"], summary["mean_reward"]) == (1, 1, 0.0)
    with pytest.raises(ValueError, match="2 lines name another task"):
        score_file(path, "quickstart")
    assert score_file(write(LINE), "quickstart")["n"] == 1  # names no task
    with pytest.raises(ValueError, match="'research'; the file is empty"):
        score_file(write(), "research")


def test_the_end_is_optional_where_it_changes_nothing(write):
    path = write({"response": RIGHT, "golden_answers": ["Paris"]})
    assert score_file(path, "research_paper")["mean_reward"] == 1.0
    with pytest.raises(ValueError, match="line 1: 'ended' is missing"):
        score_file(path, "research")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a line of JSON"),
        ("[1]", "expected an object"),
        ("[" * 100_000, "not a line of JSON"),
        ("1" * 5_000, "not a line of JSON"),
        ({"response": RIGHT, "ended": True}, "'golden_answers' is missing"),
        (LINE | {"golden_answers": "Paris"}, "'golden_answers' must be a list"),
        (LINE | {"golden_answers": [1817]}, "expected strings"),
        (LINE | {"golden_answers": [{"x": "y" * 10_000}]}, "expected strings"),
        (LINE | {"response": 3}, "'response' must be a string"),
        (LINE | {"ended": 1}, "'ended' must be true or false"),
        (LINE | {"prediction": 3}, "prediction must be a string or null"),
        (LINE | {"prediction": ["y" * 10_000]}, "prediction must be a string or null"),
        (LINE | {"segments": []}, "both segments and response"),
        (LINE | {"expected": {"rewrd": 1}}, "expected names"),
        (LINE | {"expected": {"y" * 10_000: 1}}, "expected names"),
        ({"segments": ["x"], "golden_answers": ["P"], "ended": True}, "objects"),
        (
            {"segments": [{"text": "x"}], "golden_answers": ["P"], "ended": True},
            "'is_policy' is missing",
        ),
        ({"segments": [], "golden_answers": [], "ended": True}, "at least one golden"),
    ],
)
def test_a_malformed_line_is_named_and_nothing_is_written(
    write, tmp_path, line, message
):
    path, out = write(LINE, line), tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match=rf"in\.jsonl, line 2: .*{message}") as raised:
        score_file(path, "research", out)
    assert len(str(raised.value)) < 1000
    assert list(tmp_path.iterdir()) == [tmp_path / "in.jsonl"]


def test_auto_needs_a_known_task_on_every_line(write):
    with pytest.raises(ValueError, match="line 1: 'task' is missing"):
        score_file(write(LINE), "auto")
    with pytest.raises(ValueError, match="line 1: unknown task 'reserch'"):
        score_file(write(LINE | {"task": "reserch"}), "auto")
    with pytest.raises(ValueError, match="line 1: 'recipe' must be a string, got 3"):
        score_file(write(LINE | {"recipe": 3}), "auto")
    with pytest.raises(ValueError, match="line 1: got task 'a' and recipe 'b'"):
        score_file(write(LINE | {"task": "a", "recipe": "b"}), "research")
    with pytest.raises(ValueError, match="unknown task 'reserch'"):
        score_file(write(LINE), "reserch")


@pytest.mark.parametrize(
    ("golds", "named"),
    [
        ([["Paris"], ["the"]], "'the' (line 2)"),
        ([["Paris", "a"], ["Rome", "!", " "]], "'a' (line 1), '!' (line 2), ' ' (li"),
        ([["the"]] * 12, "'the' (line 10), and 2 more"),
    ],
)
def test_golden_answers_that_nothing_equals_are_named(write, capsys, golds, named):
    path = write(*({**LINE, "golden_answers": gold} for gold in golds))
    assert score_file(path, "research")["n"] == len(golds)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: golden answers that are empty once normalised")
    assert named in line
    score_file(write(LINE), "research")
    assert capsys.readouterr().err == ""
