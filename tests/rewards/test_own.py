"""Own rewards as plain functions: what they see, return, and how they fail."""

import asyncio
import dataclasses
import functools
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.commands.command_line import COMMANDS
from jaxsearch.commands.main import main
from jaxsearch.config import RLStage
from jaxsearch.rewards.judge import judge, judged_metrics
from jaxsearch.rewards.own import TASK_REWARD, Search, check_reward
from jaxsearch.rewards.tasks import R1_SEARCHER_STAGE2, RESEARCH, RewardError
from jaxsearch.trajectory import Segment, Status, ToolCall, Trajectory

SEARCHED = (
    Segment(text="<think> t </think> <search> capital </search>", is_policy=True),
    Segment(text=" <result> Paris is\nthe capital. </result>", is_policy=False),
)


def end(answer):
    text = f"<think> t </think> <answer> \\boxed{{{answer}}} </answer>"
    return Segment(text=text, is_policy=True)


def rollout(answer="Paris", searches=1, **fields):
    """A rollout of ReSearch's protocol; answer None for one that never answers."""
    last = Segment(text="<think> so", is_policy=True) if answer is None else end(answer)
    call = ToolCall(query="capital", passage_ids=("p3", "p1"))
    values = {
        "question_id": "q7",
        "question": "The capital?",
        "golden_answers": ("Paris",),
        "prompt_index": 0,
        "sample_index": 2,
        "tokens": np.zeros(2, np.int32),
        "is_policy": np.ones(2, bool),
        "logprobs": np.zeros(2, np.float32),
        "sampling_logprobs": np.zeros(2, np.float32),
        "prompt_len": 1,
        "segments": (*SEARCHED * searches, last),
        "tool_calls": (call,) * searches,
        "status": Status.ENDED,
        "metadata": {"hops": 2},
    }
    return Trajectory(**values | fields)


def judged(reward, *trajectories, task=RESEARCH):
    stage = RLStage(name="rl", steps=1, task=task, reward=reward)
    return judge(trajectories, stage.judging_task)


def outcomes(reward, *trajectories):
    return judged(reward, *trajectories).outcomes


def brief(question, answer, *, searches, row):
    return {"right": float(answer in row["golden_answers"]), "few": -len(searches)}


def test_a_reward_sees_question_answer_searches_and_row():
    seen = []

    def reward(question, answer, *, searches, row):
        seen.append((question, answer, searches, row))
        return 0.5

    [outcome] = outcomes(reward, rollout())
    search = Search(
        query="capital", result="Paris is\nthe capital.", passage_ids=("p3", "p1")
    )
    row = {"id": "q7", "question": "The capital?", "golden_answers": ["Paris"]}
    assert seen == [("The capital?", "Paris", [search], row | {"hops": 2})]
    assert (outcome.reward, outcome.terms) == (0.5, {"reward": 0.5})
    assert outcome.prediction == "Paris"


@pytest.mark.parametrize(
    ("trajectory", "answer", "results"),
    [
        (rollout(None), None, ["Paris is\nthe capital."]),
        (rollout("", searches=0), "", []),
        # The last result was too long for the rollout.
        (
            rollout(None, segments=SEARCHED, tool_calls=(ToolCall(query="a"),) * 2),
            None,
            ["Paris is\nthe capital.", ""],
        ),
    ],
    ids=["no answer", "empty answer", "no room"],
)
def test_what_is_missing_is_none_or_empty(trajectory, answer, results):
    seen = []

    def reward(question, answer, *, searches, row):
        seen.append((answer, [search.result for search in searches]))
        return 0.0

    [outcome] = outcomes(reward, trajectory)
    assert seen == [(answer, results)]
    assert outcome.prediction == answer


def test_a_search_of_another_protocol_and_a_failed_one():
    protocol = R1_SEARCHER_STAGE2.protocol
    segments = (
        Segment(text=protocol.search_turn("t", "capital"), is_policy=True),
        Segment(text=protocol.frame("The search failed."), is_policy=False),
        Segment(text=protocol.answer_turn("t", "Paris"), is_policy=True),
    )
    calls = (
        ToolCall(query="capital", has_failed=True, failure="down"),
        ToolCall(tool="sum", query="1"),
    )
    trajectory = rollout(segments=segments, tool_calls=calls)

    def reward(question, answer, *, searches, row):
        [search] = searches
        assert (search.result, search.has_failed) == ("The search failed.", True)
        return len(answer)

    found = judged(reward, trajectory, task=R1_SEARCHER_STAGE2)
    assert found.outcomes[0].reward == 5.0


def test_named_terms_are_metrics_and_their_sum_is_the_reward():
    found = judged(brief, rollout(), rollout("Oslo", searches=2))
    first, second = found.outcomes
    assert first.terms == {"right": 1.0, "few": -1.0} and first.reward == 0.0
    assert second.terms == {"right": 0.0, "few": -2.0} and second.reward == -2.0
    metrics = judged_metrics(found, RESEARCH)
    assert metrics["reward/right"].value == 0.5
    assert metrics["reward/few"].value == -1.5
    assert metrics["reward/mean"].value == -1.0
    # Answer metrics stay those of the task.
    assert metrics["em"].value == 0.5


def batched(questions, answers, *, searches, rows):
    return [{"n": len(s) + len(questions)} for s, _ in zip(searches, rows, strict=True)]


async def asynchronous(question, answer, *, searches, row):
    await asyncio.sleep(0)
    return float(answer == "Paris")


async def asynchronous_batch(questions, answers, *, searches, rows):
    await asyncio.sleep(0)
    return np.array([answer == "Paris" for answer in answers])


class Charge:
    def __init__(self, cost):
        self.cost = cost

    def __call__(self, question, answer, *, searches, row):
        return -self.cost * len(searches)


@pytest.mark.parametrize(
    ("reward", "terms"),
    [
        (batched, [{"n": 3.0}, {"n": 4.0}]),
        (asynchronous, [{"asynchronous": 1.0}, {"asynchronous": 0.0}]),
        (
            asynchronous_batch,
            [{"asynchronous_batch": 1.0}, {"asynchronous_batch": 0.0}],
        ),
        (Charge(0.5), [{"Charge": -0.5}, {"Charge": -1.0}]),
        (functools.partial(brief), [{"right": 1, "few": -1}, {"right": 0, "few": -2}]),
        (
            ((asynchronous, 2.0), [batched, 0.5]),
            [{"asynchronous": 2.0, "n": 1.5}, {"asynchronous": 0.0, "n": 2.0}],
        ),
    ],
)
def test_every_kind_of_reward(reward, terms):
    found = outcomes(reward, rollout(), rollout("Oslo", searches=2))
    assert [outcome.terms for outcome in found] == terms
    assert [outcome.reward for outcome in found] == [sum(t.values()) for t in terms]


def test_the_reward_of_the_task_is_one_of_several():
    rollouts = rollout(), rollout("Oslo"), rollout(None)
    found = outcomes([(TASK_REWARD, 2.0), (Charge(1), 0.5)], *rollouts)
    for outcome, of_task in zip(found, outcomes(None, *rollouts), strict=True):
        doubled = {name: 2 * value for name, value in of_task.terms.items()}
        assert outcome.terms == {**doubled, "Charge": -0.5}
        assert outcome.reward == pytest.approx(2 * of_task.reward - 0.5)


@pytest.mark.parametrize("scalar", [np.float32(0.5), jnp.float32(0.5), np.array(0.5)])
def test_scalars_of_arrays_are_numbers(scalar):
    [outcome] = outcomes(lambda q, a, *, searches, row: scalar, rollout())
    assert type(outcome.reward) is float and outcome.reward == 0.5


def test_calls_of_an_async_reward_run_at_once_and_in_one_loop_also_in_a_notebook():
    waiting, loops = [], set()

    async def reward(question, answer, *, searches, row):
        loops.add(asyncio.get_running_loop())
        waiting.append(asyncio.Event())
        if len(waiting) == 3:
            for event in waiting:
                event.set()
        await asyncio.wait_for(waiting[-1].wait(), 30)
        return 1.0

    async def notebook():
        return outcomes(reward, *[rollout()] * 3)

    assert len(asyncio.run(notebook())) == 3
    waiting.clear()
    outcomes(reward, *[rollout()] * 3)
    assert len(loops) == 1


def test_a_failed_search_is_not_judged():
    failed = rollout(status=Status.TOOL_FAILED)

    def reward(questions, answers, *, searches, rows):
        assert len(questions) == 1
        return [7.0]

    first, second = outcomes(reward, failed, rollout())
    assert (first.reward, second.reward) == (0.0, 7.0)
    assert [o.reward for o in outcomes(reward, failed)] == [0.0]


async def failing(question, answer, *, searches, row):
    return row["difficulty"]


def wrong(value):
    return lambda question, answer, *, searches, row: value


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (
            lambda q, a, *, searches, row: row["difficulty"],
            r"raised KeyError: 'difficulty' \(test_own.py, line \d+\) for",
        ),
        (failing, r"test_own:failing raised KeyError: 'difficulty' \(test_own.py, l"),
        (wrong(math.nan), "must return a finite number, or .* but returned nan for"),
        (wrong(-math.inf), "but returned -inf for"),
        (wrong({"a": 1.0, "b": math.nan}), "returned {'a': 1.0, 'b': nan} for"),
        (wrong(None), "but returned None for"),
        (wrong("1"), "but returned '1' for"),
        (wrong([1.0]), r"but returned \[1.0\] for"),
        (wrong(np.ones(1)), r"but returned array\(\[1.\]\) for"),
        (wrong({}), "returned an empty dict"),
        (wrong({3: 1.0}), "a term called 3;"),
        (wrong({"mean": 1.0}), "a term called 'mean';"),
        (wrong({"overlong": 1.0}), "a term called 'overlong';"),
        ((brief, wrong({"few": 0})), "returned 'few' for .* a term of another reward"),
        (
            lambda questions, answers, *, searches, rows: [1.0, 2.0],
            "one reward for each rollout, but returned 2 rewards for 1 rollouts",
        ),
        (
            lambda questions, answers, *, searches, rows: {"a": [1.0]},
            r"one reward for each rollout, but returned {'a': \[1.0\]} for",
        ),
        (
            lambda questions, answers, *, searches, rows: [[1.0]],
            r"finite number, .* but returned \[1.0\] for",
        ),
        (
            lambda questions, answers, *, searches, rows: rows[0]["x"],
            "raised KeyError: 'x' .* for 1 rollouts, the first of",
        ),
    ],
)
def test_a_reward_that_fails_is_named_with_its_question(
    monkeypatch, capsys, reward, message
):
    with pytest.raises(RewardError, match=f"(?s)^reward tests.*{message}") as caught:
        outcomes(reward, rollout())
    assert "question 'q7', answer 2" in str(caught.value)
    command = dataclasses.replace(
        COMMANDS["doctor"], run=lambda _: outcomes(reward, rollout())
    )
    monkeypatch.setitem(COMMANDS, "doctor", command)
    assert main(["doctor"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "reward tests.rewards.test_own:" in line


def test_an_error_without_an_answer_says_so():
    def shortest(question, answer, *, searches, row):
        return 1 / len(answer)

    with pytest.raises(RewardError, match=r"'NoneType'.*no answer \(answer is None\)$"):
        outcomes(shortest, rollout(None))
    with pytest.raises(RewardError, match="ZeroDivisionError.*, answer 2$"):
        outcomes(shortest, rollout(""))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (3, r"must be a function \(question, answer, \*, searches, row\), .* got 3"),
        ("my_rewards.py:brief", "must be a function .*; got 'my_rewards.py:brief'"),
        ((), "at least one reward"),
        ((brief, 0.5), r"\(function, weight\) pairs; got 0.5"),
        (((brief, 0),), "weight of reward .*:brief must be .* other than 0, got 0"),
        (((brief, math.nan),), "weight of reward .*:brief must be .*, got nan"),
        (((brief, "1"),), "weight of reward .*:brief must be .*, got '1'"),
        ((brief, brief), "reward/brief is the metric of another reward"),
        (wrong, r"must accept \(question, answer, \*, searches, row\), but its sig"),
        (
            lambda questions, *, searches, rows: [],
            r"must accept \(questions, answers, \*, searches, rows\), but its sig",
        ),
        (
            lambda segments, golden_answers, *, has_ended, protocol: 0,
            "must accept .*question, answer",
        ),
    ],
)
def test_a_wrong_reward_is_refused_before_a_run(reward, message):
    with pytest.raises(ValueError, match=message):
        check_reward(reward)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RESEARCH, own_reward=reward)


def test_a_wrong_reward_is_refused_when_the_stage_is_built():
    with pytest.raises(ValueError, match="got 0.5"):
        RLStage(name="rl", steps=1, reward=(brief, 0.5))


def test_the_help_of_train_explains_own_rewards(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"function \(question, answer, \*, searches, row\)", shown)
    assert "--stages.N.reward my_rewards.py:NAME" in shown
    assert "path/to/file.py:NAME" in shown
