"""A run that is killed anywhere and continues equals one that never was."""

import os
import random
import signal
import subprocess
import sys
import time
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


def started(folder, *moment):
    """The run's process, with its errors in a pipe."""
    return subprocess.Popen(
        [sys.executable, PROGRAM, folder, *map(str, moment)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """Status of the run's process."""
    errors = process.communicate()[1]
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode


def ran(folder, *moment):
    return ended(started(folder, *moment))


def cpu_seconds(process):
    """Processor time of a process so far: what a busy machine does not stretch."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def begun(folder, process):
    """Processor time at which the run has written its first file."""
    while process.poll() is None and not (folder / "config.json").exists():
        time.sleep(0.01)
    return cpu_seconds(process)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert ran(folder) == 0
    return folder


@pytest.fixture(scope="module")
def span(undisturbed, tmp_path_factory):
    """Processor time between a run's first file and its end; programs are kept."""
    folder = tmp_path_factory.mktemp("again") / "run"
    process = started(folder)
    first = last = begun(folder, process)
    while process.poll() is None:
        last = cpu_seconds(process)
        time.sleep(0.02)
    assert ended(process) == 0
    return last - first


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
    check_equal(folder, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_lost_at_any_moment(undisturbed, span, tmp_path, seed):
    folder = tmp_path / "run"
    process = started(folder)
    moment = begun(folder, process) + random.Random(seed).uniform(0.0, span)
    while process.poll() is None and cpu_seconds(process) < moment:
        time.sleep(0.005)
    process.kill()
    ended(process)
    assert ran(folder) == 0
    check_equal(folder, undisturbed)


def check_equal(folder, undisturbed):
    """Checks that a run has the lines, files and parameters of another one."""
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
