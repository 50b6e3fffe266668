"""One process at a time trains in a run's folder."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxsearch.data.selection import Bounds
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.evaluation.selection import select_to
from jaxsearch.evaluation.tries import Criterion
from jaxsearch.run import folder_lock
from jaxsearch.run.folder_lock import LOCK, check_unlocked, locked
from jaxsearch.run.start import fresh_folder
from jaxsearch.try_again import TryAgainError
from tests.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[2]
HOLDING = """
import sys, time
from pathlib import Path
from jaxsearch.run.folder_lock import locked

with locked(Path(sys.argv[1]), print):
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
"""
# Beats more often than tests would wait.
QUICK = "import jaxsearch.run.folder_lock as own; own._HEARTBEAT_S = 0.2\n"


@contextlib.contextmanager
def holder_of(folder, seconds, program=HOLDING):
    """A process that holds the lock for some time."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, folder, str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "run"


def written_by(folder, seconds_ago, **holder):
    folder.mkdir(parents=True)
    (folder / LOCK).write_text(json.dumps(holder))
    then = time.time() - seconds_ago
    os.utime(folder / LOCK, (then, then))


def test_a_folder_without_files_is_gone_afterwards(folder):
    with locked(folder, print):
        assert json.loads((folder / LOCK).read_text())["process"] == os.getpid()
    assert not folder.parent.exists()
    with locked(folder, print):
        (folder / "config.json").touch()
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_a_living_holder_is_named_and_nothing_changes(folder, monkeypatch, capsys):
    monkeypatch.setattr(folder_lock, "_STALE_S", 1.0)
    monkeypatch.setattr(folder_lock, "_HEARTBEAT_S", 0.1)
    with holder_of(folder, 100, QUICK + HOLDING) as process:
        told = (
            rf"^process {process.pid} on \S+ trains in {folder} since .*; stop it, or"
        )
        with pytest.raises(TryAgainError, match=told), locked(folder, print):
            raise AssertionError("both hold it")
        assert f"process {process.pid} on " in capsys.readouterr().out
        for refused in (check_unlocked, lambda one: fresh_folder(one).__enter__()):
            with pytest.raises(TryAgainError, match=told):
                refused(folder)
    # A killed one is not waited for.
    before = time.monotonic()
    with locked(folder, print):
        assert time.monotonic() - before < 0.5
    assert not capsys.readouterr().out


def test_an_evaluation_and_a_selection_have_their_folder_alone(folder, monkeypatch):
    monkeypatch.setattr(folder_lock, "_STALE_S", 1.0)
    monkeypatch.setattr(folder_lock, "_HEARTBEAT_S", 0.1)

    def evaluate():
        evaluate_to(folder, model="./nowhere")

    def select():
        criterion, bounds = Criterion(), Bounds(tries=2)
        select_to(
            folder,
            tiny_config(folder),
            model="./nowhere",
            bounds=bounds,
            criterion=criterion,
        )

    program = QUICK + HOLDING.replace("print)", "print, 'evaluates')")
    with holder_of(folder, 100, program) as process:
        for second in (evaluate, select):
            told = rf"^process {process.pid} on \S+ evaluates in {folder} since"
            with pytest.raises(TryAgainError, match=told):
                second()
    # Each has the folder now, and looks for its model.
    for alone in (evaluate, select):
        with pytest.raises(ValueError, match="nowhere does not exist"):
            alone()
    assert not folder.exists()


def test_a_requeued_run_waits_for_its_predecessor(folder, capsys):
    with holder_of(folder, 1.0) as process, locked(folder, print):
        assert process.wait(timeout=5) == 0
        assert json.loads((folder / LOCK).read_text())["process"] == os.getpid()
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith("; waiting for it to end")


@pytest.mark.parametrize(
    ("holder", "seconds_ago", "is_gone"),
    [
        ({"host": "elsewhere", "process": 1}, 0, False),
        ({"host": "elsewhere", "process": 1}, 60, True),
        # The same container, started again.
        ({"process": os.getpid()}, 0, True),
        ({"process": "1; rm"}, 0, True),
        ({"process": 2**22 + 1}, 0, True),
        # A process of another run may have the number by now.
        ({"process": 1}, 60, True),
        ({}, 0, False),
    ],
    ids=["elsewhere", "silent", "self", "nonsense", "ended", "reused", "unwritten"],
)
def test_who_is_gone(folder, holder, seconds_ago, is_gone, monkeypatch):
    monkeypatch.setattr(folder_lock, "_HEARTBEAT_S", 0.01)
    if holder and "host" not in holder:
        holder = {"host": os.uname().nodename, **holder}
    written_by(folder, seconds_ago, **holder)
    if is_gone:
        check_unlocked(folder)
    else:
        with pytest.raises(TryAgainError):
            check_unlocked(folder)


def test_a_clock_that_was_set_forward_takes_no_lock(folder, monkeypatch):
    """The lock of a living holder is old then, until it is touched again."""
    monkeypatch.setattr(folder_lock, "_HEARTBEAT_S", 0.4)
    with holder_of(folder, 100, QUICK + HOLDING):
        for _ in range(3):
            os.utime(folder / LOCK, (time.time() - 3600,) * 2)
            with pytest.raises(TryAgainError, match=" trains in "):
                check_unlocked(folder)


def test_a_clock_that_was_set_back_keeps_no_lock_for_ever(folder, monkeypatch):
    monkeypatch.setattr(folder_lock, "_STALE_S", 0.5)
    written_by(folder, -3600, host="elsewhere", process=1)
    with locked(folder, print):
        assert json.loads((folder / LOCK).read_text())["process"] == os.getpid()


def test_a_lock_that_was_taken_ends_the_process(folder):
    with holder_of(folder, 100, QUICK + HOLDING) as process:
        lock = folder / LOCK
        holder = {"host": "b\x1b[2J", "process": 5, "started": "now"}
        lock.write_text(json.dumps(holder))
        _, err = process.communicate(timeout=30)
        assert process.returncode == 75
    assert err.startswith(r"process 5 on b\x1b[2J trains in ")
    assert lock.exists()


def test_a_file_is_no_folder(folder):
    folder.parent.mkdir()
    folder.write_text("a")
    with (
        pytest.raises(ValueError, match="is a file; choose another"),
        locked(folder, print),
    ):
        pass
