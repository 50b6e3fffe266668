"""Tasks by name, unknown names, and user-defined tasks."""

import dataclasses
import json
import math
import re
import sys
import types

import numpy as np
import pytest

from jaxsearch.commands.command_line import COMMANDS
from jaxsearch.commands.main import main
from jaxsearch.config import RLStage
from jaxsearch.rewards.judge import judge
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import RESEARCH, TASKS, RewardError, task_named
from jaxsearch.trajectory import Segment, Status, Trajectory
from tests.protocols import changed


def test_every_task_is_found_under_its_own_name():
    assert list(TASKS) == [
        *("research", "research_paper"),
        *("r1_searcher_stage1", "r1_searcher_stage2"),
        *("r1_searcher_qwen", "r1_searcher_llama_stage1", "r1_searcher_llama_stage2"),
        *("search_r1", "search_r1_format"),
        *("direct", "retrieve_then_read", "iterative"),
        "quickstart",
        *("quickstart_r1_searcher_stage1", "quickstart_r1_searcher_stage2"),
    ]
    for name in TASKS:
        assert task_named(name).name == name


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(ValueError, match="did you mean research_paper"):
        task_named("reserch_paper")
    with pytest.raises(ValueError, match="expected one of research, "):
        task_named("zzz")


def test_nothing_scores_against_an_empty_golden_answer():
    task = task_named("research")
    assert task.metrics(None, ["the"]) == {"em": 0.0, "f1": 0.0, "cover_em": 0.0}
    assert task.metrics("the", ["the"]) == {"em": 0.0, "f1": 0.0, "cover_em": 0.0}


def own_task(monkeypatch, reward):
    task = dataclasses.replace(
        task_named("research"), name="own", reward=reward, reward_of_text=reward
    )
    module = types.ModuleType("own_rewards")
    module.OWN, module.other = task, reward
    monkeypatch.setitem(sys.modules, "own_rewards", module)
    return task


def test_one_s_own_task_is_found_where_it_is_defined(monkeypatch, tmp_path):
    task = own_task(monkeypatch, task_named("search_r1").reward)
    assert task_named("own_rewards:OWN") is task
    assert RLStage(name="rl", steps=1, task=task).task is task
    with pytest.raises(ValueError, match="expected a Task called other .* function"):
        task_named("own_rewards:other")
    with pytest.raises(ValueError, match="called nothing in own_rewards, got NoneType"):
        task_named("own_rewards:nothing")
    with pytest.raises(ValueError, match="cannot import nowhere .* on PYTHONPATH"):
        task_named("nowhere:OWN")


def outcome(reward, **terms):
    return Outcome(reward=reward, terms=terms, reason="why", prediction=None)


def rollout():
    return Trajectory(
        question_id="q7",
        question="?",
        golden_answers=("Paris",),
        prompt_index=0,
        sample_index=2,
        tokens=np.zeros(2, np.int32),
        is_policy=np.ones(2, bool),
        logprobs=np.zeros(2, np.float32),
        sampling_logprobs=np.zeros(2, np.float32),
        prompt_len=1,
        segments=(Segment(text="x", is_policy=True),),
        tool_calls=(),
        status=Status.ENDED,
    )


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: outcome(math.nan), "finite Python numbers, got nan"),
        (lambda: outcome(-math.inf), "finite Python numbers, got -inf"),
        (lambda: outcome(1.0, f1=math.nan), "'f1': nan"),
        (lambda: dataclasses.replace(outcome(1.0), prediction=5), "(?s)prediction"),
        (lambda: None, "a reward must return an Outcome, got None"),
        (lambda: {}["score"], r"KeyError: 'score' \(test_tasks.py, line \d+\)"),
        (lambda: int("one"), r"ValueError: invalid .*: 'one' \(test_tasks.py, line"),
    ],
)
def test_a_reward_that_fails_is_named_and_never_a_silent_0(monkeypatch, made, message):
    task = own_task(monkeypatch, lambda *_, **__: made())
    whose = "; in the reward of question 'q7', answer 2 by task 'own'$"
    with pytest.raises(RewardError, match=f"{message}.*{whose}"):
        judge([rollout()], task)


@pytest.mark.parametrize(
    "rollout", [{"segments": [{"text": "x", "is_policy": True}]}, {"response": "x"}]
)
def test_the_command_names_line_and_reward(monkeypatch, capsys, tmp_path, rollout):
    own_task(monkeypatch, lambda *_, **__: {}["score"])
    line = {**rollout, "golden_answers": ["Paris"], "ended": True}
    (tmp_path / "in.jsonl").write_text(json.dumps(line))
    path = str(tmp_path / "in.jsonl")
    assert main(["score", "--recipe", "own_rewards:OWN", path]) == 2
    [words] = capsys.readouterr().err.strip().splitlines()
    assert "line 1: KeyError: 'score' (test_tasks.py" in words


@pytest.mark.parametrize("text", ["1 / 0", "def broken(:"])
def test_a_module_that_cannot_be_imported_is_named(monkeypatch, tmp_path, text):
    (tmp_path / "broken_rewards.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot import 'broken_rewards': .*Error"):
        task_named("broken_rewards:OWN")
    for name in (":OWN", ".rewards:OWN"):
        with pytest.raises(ValueError, match="cannot import"):
            task_named(name)


def test_where_a_command_judges_rollouts_its_line_names_the_question(
    monkeypatch, capsys
):
    task = own_task(monkeypatch, lambda *_, **__: outcome(math.nan))
    failing = dataclasses.replace(
        COMMANDS["doctor"], run=lambda _: judge([rollout()], task)
    )
    monkeypatch.setitem(COMMANDS, "doctor", failing)
    assert main(["doctor"]) == 2
    [words] = capsys.readouterr().err.strip().splitlines()
    assert words.endswith("; in the reward of question 'q7', answer 2 by task 'own'")


@pytest.mark.parametrize(
    ("field", "reward"),
    [
        ("reward", lambda segments, golden_answers, *, has_ended: None),
        ("reward_of_text", lambda segments: None),
    ],
)
def test_a_reward_that_a_task_could_not_call_is_refused_when_it_is_built(field, reward):
    message = rf"task 'own': {field} must accept .*, but its signature is \(segments"
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RESEARCH, name="own", **{field: reward})


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"query": lambda turn: ""}, "asks for '' and does not end .* for 'a query'"),
        ({"is_last": lambda turn: True}, "asks for 'a query' and ends the rollout"),
        ({"stop_tags": ("</answer>",)}, "ends with none of the stop tags"),
        ({"stop_tags": ()}, "ends with none of the stop tags"),
        ({"has_answer": lambda segments: False}, "in which has_answer finds none"),
        ({"control_tags": ("<search>",)}, "'</search>' is not among control_tags"),
        ({"frame": lambda body: body}, "frame writes '' without the tags"),
    ],
)
def test_a_protocol_that_contradicts_itself_is_refused(members, message):
    protocol = changed(RESEARCH.protocol, **members)
    with pytest.raises(
        ValueError, match=f"task 'own': protocol 'research': .*{message}"
    ):
        dataclasses.replace(RESEARCH, name="own", protocol=protocol)


def test_the_help_of_score_names_every_task(capsys):
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    assert TASKS.keys() <= set(re.findall(r"\w+", capsys.readouterr().out))
