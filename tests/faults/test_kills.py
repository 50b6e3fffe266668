"""A run that is killed anywhere and goes on equals one that never was."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsearch.monitor.writers import read_metrics
from tests.test_train import final_params, untimed
from tests.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("killed_run.py")

# (place, number of the call, before or after it)
METRICS = "jaxsearch.monitor.writers:JsonlWriter.write"
SAVE = "jaxsearch.run.checkpoint:Checkpoints.save"
HASHES = "jaxsearch.run.checkpoint:write_hashes"
ROLLOUTS = "jaxsearch.run.recorder:write_rollouts"
EVALUATE = "jaxsearch.evaluation.heldout:evaluate"
BEST = "jaxsearch.run.recorder:Recorder.keep_as_best"
SAMPLE = (HASHES, 2, "before")
MOMENTS = [
    (METRICS, 5, "after"),
    (METRICS, 1, "before"),
    (METRICS, 7, "after"),
    (SAVE, 2, "before"),
    (SAVE, 2, "after"),
    (HASHES, 1, "after"),
    (ROLLOUTS, 2, "before"),
    (ROLLOUTS, 4, "after"),
    *((EVALUATE, number, "after") for number in range(1, 7)),
    (BEST, 1, "after"),
    ("jaxsearch.run.recorder:Recorder.end_stage", 1, "before"),
    ("jaxsearch.train:write_report", 1, "before"),
]


def ran(folder, *moment):
    """Status of the run's process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, *map(str, moment)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert ran(folder) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [SAMPLE, *(pytest.param(one, marks=pytest.mark.long) for one in MOMENTS)],
    ids=lambda moment: "-".join(map(str, moment)).rpartition(":")[2],
)
def test_nothing_is_lost_and_nothing_done_twice(undisturbed, tmp_path, moment):
    folder = tmp_path / "run"
    assert ran(folder, *moment) == -signal.SIGKILL
    assert ran(folder) == 0
    for name in ("metrics.jsonl", "eval.jsonl"):
        lines = [untimed(read_metrics(run / name)) for run in (folder, undisturbed)]
        assert lines[0] == lines[1]
    rollouts = [
        sorted(p.name for p in (run / "rollouts").iterdir())
        for run in (folder, undisturbed)
    ]
    assert rollouts[0] == rollouts[1]
    params = [final_params(tiny_config(run)) for run in (folder, undisturbed)]
    jax.tree.map(np.testing.assert_array_equal, *params)
    assert (folder / "report.html").is_file()
    assert not (folder / "run.lock").exists()
