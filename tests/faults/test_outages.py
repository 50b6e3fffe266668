"""While searches fail, nothing is learned from the rollouts that did not search."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsearch.config import RetrievalConfig
from jaxsearch.env.search import search_only
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run import outages
from jaxsearch.run.checkpoint import newest_step
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from jaxsearch.train import train
from jaxsearch.try_again import TryAgainError
from tests.env.sums import sums_config
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
