"""While searches fail, nothing is learned from the rollouts that did not search."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsearch.config import EvalConfig, RetrievalConfig
from jaxsearch.env.environment import Done, Environment
from jaxsearch.env.search import search_only
from jaxsearch.evaluation import heldout
from jaxsearch.evaluation.evaluate import evaluate
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run import outages
from jaxsearch.run.build import open_run
from jaxsearch.run.checkpoint import newest_step
from jaxsearch.run.updates import demonstration_row
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from jaxsearch.train import train
from jaxsearch.try_again import TryAgainError
from tests.env.sums import PASSAGES, age_demonstrations, sums_config
from tests.test_train import final_params, untimed

COUNTS = ("searches/steps_repeated", "searches/retries", "searches/failed_tries")


class Unsteady:
    """Is away from its first call in a step on, for as long as a test says."""

    num_failing = 0

    def search(self, queries, k):
        if self.num_failing:
            self.num_failing -= 1
            raise ConnectionResetError("away")
        found = [Passage(id=f"p-{one}", contents=f"t\n{one} is .") for one in queries]
        return [[Hit(passage=passage, score=1.0)] for passage in found]


UNSTEADY = Unsteady()


def config_with(out, **retrieval):
    # A tiny vocabulary, so that it searches without a warm-up.
    config = sums_config(out, has_search=True)
    options = {"retriever": UNSTEADY, "num_passages": 1, "attempts": 1}
    options["min_kept"] = 0.9
    return dataclasses.replace(
        config,
        environment=search_only,
        retrieval=RetrievalConfig(**options | retrieval),
        stages=config.stages[1:],
        eval=dataclasses.replace(config.eval, every=0, limit=1),
        steps=2,
    )


def counted_apart(lines):
    return [
        {key: value for key, value in line.items() if not key.startswith(COUNTS)}
        for line in untimed(lines)
    ]


@pytest.mark.slow
def test_a_run_waits_for_its_searches_and_loses_nothing(tmp_path, monkeypatch, capfd):
    """A step whose searches failed is repeated, and is as if they had not."""
    monkeypatch.setattr(outages, "_FIRST_PAUSE_S", 0.01)
    steady = config_with(tmp_path / "steady")
    UNSTEADY.num_failing = 0
    train(steady)
    waiting = config_with(tmp_path / "waiting", max_outage_s=0.0)
    train(dataclasses.replace(waiting, steps=1))
    UNSTEADY.num_failing = 10**6
    with pytest.raises(
        TryAgainError, match=r"^searches failed in \d+% of a step's .*on"
    ):
        train(waiting)
    assert newest_step(Path(waiting.out)) == 1
    # Longer than one try of a step, so that it is repeated more than once.
    UNSTEADY.num_failing = 20
    train(config_with(tmp_path / "waiting"))
    shown = capfd.readouterr().out
    assert (
        "of a step's rollouts, and retrieval.min_kept is 0.9: the step is repe" in shown
    )
    assert "searches succeed again: 100% of rollouts kept" in shown
    lines = [read_metrics(Path(c.out) / "metrics.jsonl") for c in (steady, waiting)]
    assert lines[1][1]["searches/steps_repeated"] >= 1.0
    assert "searches/steps_repeated" not in lines[1][0]
    assert counted_apart(lines[0]) == counted_apart(lines[1])
    params = map(final_params, (steady, waiting))
    jax.tree.map(np.testing.assert_array_equal, *params)


class Away:
    """Is away for its next `num_failing` calls."""

    num_failing = 0

    def search(self, queries, k):
        if self.num_failing:
            self.num_failing -= 1
            raise ConnectionResetError("away")
        return [[Hit(passage=PASSAGES[0], score=1.0)] for _ in queries]


AWAY = Away()


def searching_demonstrations(seed):
    """Demonstrations that begin with the same search, which is soon learned."""
    return [
        dataclasses.replace(
            one,
            turns=(" <search> Anna </search>", one.turns[-1]),
            observations=((PASSAGES[0],),),
        )
        for one in age_demonstrations(seed)
    ]


def evaluated_config(out, **retrieval):
    """A run that searches from its first step of RL, with an evaluation after it.

    It stops early there, at a step that is not saved otherwise.
    """
    config = config_with(out, retriever=AWAY, **retrieval)
    warm_up, search = sums_config(out, has_search=True).stages
    return dataclasses.replace(
        config,
        stages=(
            dataclasses.replace(
                warm_up, demonstrations=searching_demonstrations, steps=30
            ),
            dataclasses.replace(search, steps=12),
        ),
        steps=None,
        eval=EvalConfig(every=1, limit=4, patience=1),
        checkpoint=dataclasses.replace(config.checkpoint, every=100),
    )


def evaluations(config):
    return read_metrics(Path(config.out) / "eval.jsonl")


@pytest.mark.slow
def test_an_evaluation_waits_for_its_searches(tmp_path, monkeypatch, capfd):
    """One during an outage is no evaluation: it has no line, and is repeated."""
    monkeypatch.setattr(outages, "_FIRST_PAUSE_S", 0.01)
    AWAY.num_failing = num_evaluations = 0

    def evaluate_during_an_outage(*arguments, **options):
        nonlocal num_evaluations
        num_evaluations += 1
        if num_evaluations == 2:  # the first during RL
            AWAY.num_failing = 10**6
        return evaluate(*arguments, **options)

    monkeypatch.setattr(heldout, "evaluate", evaluate_during_an_outage)
    config = evaluated_config(tmp_path / "run")
    at_once = dataclasses.replace(config.retrieval, max_outage_s=0.0)
    with pytest.raises(
        TryAgainError, match=r"^searches failed in 100% of a held-out evaluation's .*on"
    ):
        train(dataclasses.replace(config, retrieval=at_once))
    assert newest_step(Path(config.out)) == 31
    assert [line["name"] for line in evaluations(config)] == ["before_rl"]
    capfd.readouterr()
    # More failures than one try has searches.
    AWAY.num_failing = 6
    train(config)
    shown = capfd.readouterr().out
    assert "min_kept is 0.9: the held-out evaluation is repeated in" in shown
    assert "searches succeed again: 100% of rollouts kept" in shown
    before, during, *after = evaluations(config)
    assert (during["name"], during["step"]) == ("heldout", 31)
    assert during["searches_per_question"] == before["searches_per_question"] == 1.0
    assert [line["num_search_failed"] for line in (before, during, *after)] == [0] * 5


class Ending(Environment):
    """Ends every rollout at its first turn."""

    def step(self, turns):
        return [Done() for _ in turns]


def ending(inputs):
    return Ending()


def test_a_failed_search_is_no_mistake_of_a_demonstration(tmp_path):
    config = config_with(tmp_path / "run", retriever=AWAY)
    [one, *_] = searching_demonstrations(0)
    one = dataclasses.replace(one, observations=(None,))
    run = open_run(config)
    AWAY.num_failing = 1
    with pytest.raises(
        TryAgainError, match="the demonstration of question 'add .* failed: .*away; the"
    ):
        demonstration_row(run, one)
    assert "is 3" in run.inputs.tokenizer.decode(demonstration_row(run, one).tokens)
    run = open_run(dataclasses.replace(config, environment=ending))
    with pytest.raises(ValueError, match="continues after ' <search> Anna </search>'"):
        demonstration_row(run, one)
