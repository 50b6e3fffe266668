"""An evaluation that is killed and continues equals one that never was."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_several_processes import ended, start_all

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("scripted_evaluation.py")


def ran(*arguments) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, PROGRAM, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    assert ran(folder) == 0
    return files(folder)


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(undisturbed, tmp_path):
    """Killed in the middle of a group, and once more."""
    out = tmp_path / "out"
    assert ran(out, 0, 33) == -signal.SIGKILL
    lines = (out / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 33 and not (out / "results.json").exists()
    with (out / "predictions.jsonl").open("a") as file:
        file.write(lines[0][:50])  # a line that was being written
    assert ran(out, 0, 20) == -signal.SIGKILL
    # One group is half written: only its missing sample is added.
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 33 + 19
    assert ran(out) == 0
    assert files(out) == undisturbed
    keys = [
        (line["set"], line["id"], line["sample"])
        for line in map(json.loads, undisturbed["predictions.jsonl"].splitlines())
    ]
    assert len(set(keys)) == len(keys) == 80


@pytest.mark.long
def test_processes_share_an_evaluation_and_one_goes_on_alone(undisturbed, tmp_path):
    two, out = tmp_path / "two", tmp_path / "out"
    statuses, outputs = ended(start_all(PROGRAM, two, count=2))
    assert not any(statuses), outputs
    assert files(two) == undisturbed
    statuses, _ = ended(start_all(PROGRAM, out, 1, 11, count=2))
    assert any(statuses) and (out / "predictions.1.jsonl").exists()
    assert ran(out) == 0
    assert files(out) == undisturbed
