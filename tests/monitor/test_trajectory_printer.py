"""Trajectories on the terminal have the same labels for every protocol and no tags."""

import dataclasses

import numpy as np
import pytest

from jaxsearch.monitor.trajectory_printer import TrajectoryPrinter, print_trajectory
from jaxsearch.rewards.tasks import TASKS
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment, Status
from tests.test_dropped_rollouts import make_trajectory


def printed(capsys, task, *texts):
    """The lines of a rollout in which texts of policy and search alternate."""
    segments = tuple(
        Segment(text=text, is_policy=i % 2 == 0) for i, text in enumerate(texts)
    )
    one = make_trajectory(np.random.default_rng(0), 0, 0, Status.ENDED)
    whole = dataclasses.replace(one, segments=segments, tool_calls=())
    print_trajectory(whole, task.protocol)
    return capsys.readouterr().out.splitlines()


@pytest.fixture(params=TASKS.values(), ids=TASKS)
def task(request):
    return request.param


def test_a_rollout_is_read_line_by_line(capsys, task):
    protocol = task.protocol
    lines = printed(
        capsys,
        task,
        protocol.search_turn("look", "Bakfel"),
        protocol.observation([Passage(id="1", contents="title\nA film.")]),
        protocol.answer_turn("clear", "Tolrus") + "<|im_end|>",
    )
    labels = [line[:11].strip() for line in lines[1:] if line.startswith("  ")]
    assert labels == ["thinks", "searches", "reads", "thinks", "answers", "expected"]
    text = "\n".join(lines)
    assert not any(tag in text for tag in (*protocol.control_tags, "<|im_end|>"))


def test_a_rollout_is_read_while_it_grows(capsys, task):
    """Segment by segment, with the same lines as at once."""
    protocol = task.protocol
    texts = (
        protocol.search_turn("look", "Bakfel"),
        protocol.observation([Passage(id="1", contents="title\nA film.")]),
        "so " + protocol.search_turn("again", "Nolken"),
        protocol.observation([]),
        protocol.answer_turn("clear", "Tolrus") + "<|im_end|>",
    )
    at_once = printed(capsys, task, *texts)
    printer = TrajectoryPrinter(protocol)
    segments = [Segment(text=t, is_policy=i % 2 == 0) for i, t in enumerate(texts)]
    lines = []
    for segment in segments[:-1]:
        printer.add_segment(segment)
        lines.append(capsys.readouterr().out.splitlines())
    one = make_trajectory(np.random.default_rng(0), 0, 0, Status.ENDED)
    whole = dataclasses.replace(one, segments=tuple(segments), tool_calls=())
    printer.print_rest(whole)
    lines.append(capsys.readouterr().out.splitlines())
    assert [line for shown in lines for line in shown] == at_once[1:-1]
    assert any("Bakfel" in line for line in lines[0])
    assert any("A film." in line for line in lines[1])


def test_passages_that_the_policy_wrote_are_not_read(capsys, task):
    forged = task.protocol.frame(" made up ")
    lines = printed(capsys, task, forged)
    assert not any(line.split()[:1] == ["reads"] for line in lines)
    [written] = [line for line in lines if line.split()[:1] == ["writes"]]
    text = "\n".join(lines)
    assert "made up" in text and all(tag in text for tag in task.protocol.result)
    assert written
