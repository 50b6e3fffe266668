"""Finished rollouts are recorded in another thread; its errors are not lost."""

import threading

import pytest

from jaxsearch.evaluation import progress as progress_module
from jaxsearch.evaluation.progress import progress
from jaxsearch.evaluation.recorder import Recorder
from tests.evaluation.scripted_evaluation import SETS, trajectory

ROLLOUTS = [trajectory(i, SETS[0].questions[i], 0) for i in range(20)]


def test_all_rollouts_are_recorded_in_order_elsewhere():
    found, threads = [], set()

    def record(finished):
        found.extend(finished)
        threads.add(threading.get_ident())

    with Recorder(record) as recorder:
        for one in ROLLOUTS:
            recorder.add(one)
    assert found == ROLLOUTS and threads.isdisjoint({threading.get_ident()})


def test_an_error_ends_the_rollouts():
    def record(finished):
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"), Recorder(record) as recorder:
        while True:
            recorder.add(ROLLOUTS[0])


def test_an_error_of_the_last_rollouts_is_raised_at_the_end():
    def record(finished):
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"), Recorder(record) as recorder:
        recorder.add(ROLLOUTS[0])


def test_after_an_error_the_finished_rollouts_are_recorded():
    found = []
    with pytest.raises(RuntimeError, match="lost"), Recorder(found.extend) as recorder:
        recorder.add(ROLLOUTS[0])
        raise RuntimeError("lost")
    assert found == ROLLOUTS[:1]


def test_a_file_gets_lines_with_the_remaining_time(capsys, monkeypatch):
    monkeypatch.setattr(progress_module, "_LINE_S", 0.0)
    with progress(4, 2) as advance:
        advance(1)
        advance(3)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "1 of 4 answers (2 made before), 0:00, 0:00 left"
    assert last.startswith("4 of 4 answers")
