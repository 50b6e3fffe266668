"""A run in a bucket is ended, and continues on a machine without any of its files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.checkpoint import newest_step
from tests.faults.test_kills import check_equal, ran

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("bucket_run.py")
CONFIG = """
from pathlib import Path

from tests.tiny import tiny_config

config = tiny_config(Path("unnamed"))
"""


def started(store, machine):
    config = store / "own.py"
    config.write_text(CONFIG)
    return subprocess.Popen(
        [sys.executable, PROGRAM, store, machine, config],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_ended_run_continues_on_an_empty_machine(tmp_path, number):
    store = tmp_path / "store"
    bucket = store / "bucket" / "run"
    store.mkdir()
    process = started(store, tmp_path / "first")
    while not [*bucket.glob("checkpoints/*/hashes.json")]:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    # The bucket fails for a while, and the run goes on without it.
    (store / "down").touch()
    time.sleep(1.0)
    (store / "down").unlink()
    time.sleep(0.5)
    process.send_signal(number)
    errors = process.communicate()[1]
    assert "status 503" in errors and "has all changes again" in errors
    if number == signal.SIGTERM:
        assert process.returncode == 75, errors
        # The last step is in the bucket, with its line.
        step = newest_step(bucket)
        assert f"the same command continues after step {step}" in errors
        assert len(read_metrics(bucket / "metrics.jsonl")) == step
    again = started(store, tmp_path / "second")
    errors = again.communicate()[1]
    assert again.returncode == 0, errors
    assert "copying" in errors and "the run is in store://" in errors
    undisturbed = tmp_path / "undisturbed"
    assert ran(undisturbed) == 0
    (bucket / "run.lock").unlink()
    check_equal(bucket, undisturbed)
    # What the run deleted has gone from the bucket too.
    kept = [
        sorted(path.parent.relative_to(run) for path in run.glob("*/*/hashes.json"))
        for run in (bucket, undisturbed)
    ]
    assert kept[0] == kept[1]
