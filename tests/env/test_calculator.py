"""A tool in a user's file, trained alone and together with search."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from jaxsearch.evaluation.ask import ask
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.loading import load_run
from jaxsearch.run.options import RunOptions
from jaxsearch.train import train
from tests.env.calculator_tool import Calculator
from tests.env.sums import sums_config
from tests.environments import turns


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 * (3 + 4)", "14"),
        ("7 / 2 - 1", "2.5"),
        ("-3", "-3"),
        ("1 / 0", "error: division by zero"),
        ("", "error: invalid syntax"),
        ("__import__('os')", "error: only numbers, + - * / and brackets"),
        ("2 ** 9", "error: only numbers, + - * / and brackets"),
        ("'a' * 9", "error: only numbers, + - * / and brackets"),
    ],
)
def test_the_calculator_calculates_and_fails_with_a_value(expression, value):
    turn = f" so <calc> {expression} </calc>"
    [observation] = Calculator().step(turns(turn))
    assert observation.text(observation.parts).startswith(f" <value> {value}")
    assert observation.call.tool == "calculator"
    assert observation.call.query == expression
    assert observation.call.has_failed == value.startswith("error")


@pytest.fixture(scope="module", params=["alone", "with_search"])
def run(request, tmp_path_factory):
    """A finished run, and whether it searches."""
    has_search = request.param == "with_search"
    out = tmp_path_factory.mktemp("runs") / request.param
    config = sums_config(out, has_search=has_search)
    return config, train(config), has_search


def test_a_policy_trains_with_the_tool(run):
    config, summary, has_search = run
    folder = Path(config.out)
    lines = read_metrics(folder / "metrics.jsonl")[-2:]
    rollouts = [
        one for path in rollout_files(folder).values() for one in read_rollouts(path)
    ]
    calls = [call for one in rollouts for call in one.tool_calls]
    tools = {"search", "calculator"} if has_search else {"calculator"}
    assert {call.tool for call in calls} >= tools
    assert all(line["calls/calculator/mean"] > 0.0 for line in lines)
    assert all((line["searches/mean"] > 0.0) == has_search for line in lines)
    assert any({call.tool for call in one.tool_calls} >= tools for one in rollouts)
    assert (folder / "indexes").exists() == has_search
    assert ("em_empty_index" in summary) == has_search
    assert all(np.isfinite(line["loss"]) for line in lines)
    num_right = 0
    for one in rollouts:
        read = [segment.text for segment in one.segments if not segment.is_policy]
        for call, text in zip(one.tool_calls, read, strict=False):
            if call.tool == "calculator" and not call.has_failed:
                # A policy that has learned for 80 steps may also ask for "+ 4".
                a, _, b = call.query.partition(" + ")
                if a.isdecimal() and b.isdecimal():
                    num_right += text == f" <value> {int(a) + int(b)} </value>"
    assert num_right > 0


def test_the_finished_run_is_evaluated_and_asked_with_its_tool(run, tmp_path):
    config, _, has_search = run
    results = evaluate_to(
        tmp_path / "eval",
        model=config.out,
        options=RunOptions(limit=4),
    )
    assert results["calls_per_question"]["calculator"] > 0.0
    assert (results["searches_per_question"] > 0.0) == has_search
    loaded, params = load_run(config.out)
    assert loaded.config.environment is config.environment
    question = " add Anna Bert" if has_search else " add 3 4"
    trajectory, _ = ask(loaded, params, question)
    assert "calculator" in {call.tool for call in trajectory.tool_calls}


def test_a_task_whose_tags_the_policy_cannot_write_is_not_evaluated(run, tmp_path):
    config, _, _ = run
    with pytest.raises(ValueError, match="cannot spell .*begin_of_query"):
        evaluate_to(
            tmp_path / "eval",
            model=config.out,
            options=RunOptions(task="quickstart_r1_searcher_stage1", limit=4),
        )
    assert not (tmp_path / "eval").exists()


def test_a_run_without_search_needs_no_passages_and_one_with_it_does(tmp_path):
    config = sums_config(tmp_path / "run", has_search=True)
    nothing = sums_config(tmp_path / "run", has_search=False).data
    with pytest.raises(ValueError, match="nothing to search: give passages with"):
        train(dataclasses.replace(config, data=nothing))
    assert not (tmp_path / "run").exists()


def not_an_environment(inputs):
    return "calculator"


def test_an_environment_is_checked_before_anything_is_written(tmp_path):
    config = sums_config(tmp_path / "run", has_search=True)
    wrong = dataclasses.replace(config, environment=not_an_environment)
    with pytest.raises(ValueError, match="must be a function that returns an Env"):
        train(wrong)
    small = dataclasses.replace(config.rollout, max_observation_len=1)
    with pytest.raises(ValueError, match="empty observation of 'search' already takes"):
        train(dataclasses.replace(config, rollout=small))
    assert not (tmp_path / "run").exists()


def test_the_record_of_a_run_names_its_environment(run):
    config, _, has_search = run
    record = json.loads((Path(config.out) / "config.json").read_text())
    name = "with_search" if has_search else "alone"
    assert record["environment"] == f"tests.env.calculator_tool:{name}"
