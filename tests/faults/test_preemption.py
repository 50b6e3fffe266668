"""SIGTERM: the last step is saved, status 75, and the same command continues."""

import random
import signal
import time
from pathlib import Path

import pytest

from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.checkpoint import newest_step
from tests.faults.test_kills import begun, cpu_seconds
from tests.test_several_processes import ended, start_all
from tests.test_train import untimed

CONFIG = """
import dataclasses
from pathlib import Path

from jaxsearch.config import CheckpointConfig
from tests.tiny import tiny_config

tiny = tiny_config(Path("unnamed"))
read, search = tiny.stages
stages = (
    dataclasses.replace(read, steps=400),
    dataclasses.replace(search, questions_per_step=4, steps=12),
)
config = dataclasses.replace(
    tiny, stages=stages, checkpoint=CheckpointConfig(every=1000)
)
"""

# Its processes are asked to end at a random moment.
SHORT = CONFIG.replace("steps=400", "steps=40").replace("steps=12", "steps=4")


@pytest.fixture
def command(tmp_path):
    (tmp_path / "own.py").write_text(CONFIG)
    return ["-m", "jaxsearch", "train", tmp_path / "own.py", "--out", tmp_path / "run"]


def num_lines(run: Path) -> int:
    path = run / "metrics.jsonl"
    return len(read_metrics(path)) if path.exists() else 0


def wait_for(run, steps, processes):
    while num_lines(run) < steps:
        assert all(process.poll() is None for process in processes), "it ended early"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "count", [1, pytest.param(2, marks=pytest.mark.long)], ids=["alone", "two"]
)
def test_processes_save_their_last_step_and_go_on(tmp_path, command, count):
    """In a warm-up and in RL, where only every thousandth step would be saved."""
    run = tmp_path / "run"
    for steps in (20, 404):
        processes = start_all(*command, count=count, num_devices=count)
        wait_for(run, steps, processes)
        asked = time.monotonic()
        # To one of them, as when one host of a pod is taken away.
        processes[-1].send_signal(signal.SIGTERM)
        statuses, outputs = ended(processes)
        assert statuses == [75] * count, outputs
        assert time.monotonic() - asked < 60
        step = num_lines(run)
        assert newest_step(run) == step >= steps
        assert f"the same command continues after step {step}" in outputs[0]
        assert not (run / "run.lock").exists()
    statuses, outputs = ended(start_all(*command, count=count, num_devices=count))
    assert statuses == [0] * count, outputs
    again = [*command[:-1], tmp_path / "undisturbed"]
    statuses, outputs = ended(start_all(*again, count=count, num_devices=count))
    assert statuses == [0] * count, outputs
    lines = [
        untimed(read_metrics(tmp_path / name / "metrics.jsonl"))
        for name in ("run", "undisturbed")
    ]
    assert lines[0] == lines[1]


def train_command(folder):
    (folder / "own.py").write_text(SHORT)
    return ["-m", "jaxsearch", "train", folder / "own.py", "--out", folder / "run"]


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "two"])
def whole(request, tmp_path_factory):
    """Number of processes, a run without a signal, and its processor time."""
    count = request.param
    # The second one finds its programs compiled, as those of the tests do.
    for _ in range(2):
        folder = tmp_path_factory.mktemp("whole")
        processes = start_all(*train_command(folder), count=count, num_devices=count)
        first = last = begun(folder / "run", processes[-1])
        while processes[-1].poll() is None:
            last = cpu_seconds(processes[-1])
            time.sleep(0.02)
        statuses, outputs = ended(processes)
        assert statuses == [0] * count, outputs
    return count, folder / "run", last - first


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_processes_end_in_order_at_any_moment(tmp_path, whole, seed):
    """In the warm-up, in RL, in evaluations and at saves."""
    count, undisturbed, span = whole
    command, run = train_command(tmp_path), tmp_path / "run"
    processes = start_all(*command, count=count, num_devices=count)
    asked_one = processes[seed % count]
    moment = begun(run, asked_one) + random.Random(seed).uniform(0.0, 0.9 * span)
    while asked_one.poll() is None and cpu_seconds(asked_one) < moment:
        time.sleep(0.005)
    has_ended = asked_one.poll() is not None
    asked_one.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    statuses, outputs = ended(processes)
    assert time.monotonic() - asked < 60
    # Two processes that are asked after their last step have nothing to save.
    has_ended = has_ended or (count == 2 and newest_step(run) == 44)
    assert statuses == [0 if has_ended else 75] * count, outputs
    assert num_lines(run) - (newest_step(run) or 0) <= 1
    assert not (run / "run.lock").exists()
    statuses, outputs = ended(start_all(*command, count=count, num_devices=count))
    assert statuses == [0] * count, outputs
    for name in ("metrics.jsonl", "eval.jsonl"):
        lines = [untimed(read_metrics(one / name)) for one in (run, undisturbed)]
        assert lines[0] == lines[1]
