"""The record of what slots, tools and pages do during rollouts."""

import dataclasses
import itertools
import time

import numpy as np
import pytest

import jaxsearch
from jaxsearch.rollouts.pages import PageTable
from jaxsearch.rollouts.timeline import Activity, Timeline
from tests.api.conftest import ONE_HOP, PASSAGES, TWO_HOPS

SECONDS = 0.05  # of a search


@dataclasses.dataclass(frozen=True)
class Slow:
    """A retriever that takes its time."""

    retriever: jaxsearch.Retriever

    def search(self, queries, k):
        time.sleep(SECONDS)
        return self.retriever.search(queries, k)


@pytest.fixture(scope="module")
def rolled_out():
    policy = jaxsearch.load_policy("jaxsearch:quickstart")
    timeline = Timeline()
    trajectories = jaxsearch.rollout(
        policy,
        [ONE_HOP, TWO_HOPS],
        retriever=Slow(jaxsearch.load_retriever(PASSAGES)),
        group_size=3,
        budgets=dataclasses.replace(policy.config.rollout, num_slots=4),
        timeline=timeline,
    )
    return trajectories, timeline


@pytest.mark.slow
def test_every_rollout_decodes_calls_and_decodes(rolled_out):
    trajectories, timeline = rolled_out
    assert len(trajectories) == 6
    for one in trajectories:
        own = [
            span
            for span in timeline.spans
            if span[2:4] == (one.prompt_index, one.sample_index)
        ]
        assert len({span.slot for span in own}) == 1
        # One turn, and for each call its result and another turn.
        turns = [span.activity.value for span in own]
        assert turns == ["decoding", *["calling", "decoding"] * len(one.tool_calls)]
        for before, after in itertools.pairwise(own):
            assert before.start < before.end <= after.start


@pytest.mark.slow
def test_a_slot_has_one_rollout_at_a_time(rolled_out):
    _, timeline = rolled_out
    slots = {span.slot for span in timeline.spans}
    assert slots == {0, 1, 2, 3}
    for slot in slots:
        own = [span for span in timeline.spans if span.slot == slot]
        assert all(a.end <= b.start for a, b in itertools.pairwise(own))
    # Six rollouts in four slots: at least two slots were filled again.
    rollouts = {span[1:4] for span in timeline.spans}
    assert len(rollouts) == 6


@pytest.mark.slow
def test_calls_take_as_long_as_the_tool(rolled_out):
    trajectories, timeline = rolled_out
    spans = timeline.tool_spans
    assert all(SECONDS <= span.end - span.start < 20 * SECONDS for span in spans)
    num_calls = sum(len(one.tool_calls) for one in trajectories)
    assert sum(len(span.slots) for span in spans) == num_calls
    calling = [s for s in timeline.spans if s.activity is Activity.CALLING]
    assert len(calling) == num_calls
    for span in calling:
        # The slot waits from before the tool runs until its result is read.
        assert any(
            span.slot in tool.slots
            and span.start <= tool.start + 0.01
            and tool.end <= span.end
            for tool in spans
        )


@pytest.mark.slow
def test_pages_are_those_of_busy_slots(rolled_out):
    _, timeline = rolled_out
    assert len(timeline.pages) > 1
    for _, when, owners in timeline.pages:
        busy = {s.slot for s in timeline.spans if s.start <= when <= s.end}
        assert set(owners[owners >= 0].tolist()) <= busy
    assert (timeline.pages[0].owners >= 0).sum() >= 4


def test_owners_of_pages():
    table = PageTable(num_slots=3, num_pages=6, page_len=4, max_len=12)
    table.cover(2, 5)
    table.cover(0, 3)
    np.testing.assert_array_equal(table.owners(), [2, 2, 0, -1, -1, -1])
    table.release(2)
    np.testing.assert_array_equal(table.owners(), [-1, -1, 0, -1, -1, -1])


def test_an_observation_that_waits_for_room_is_recorded():
    timeline = Timeline()
    timeline.begin(0, 1, (2, 3), Activity.WAITING)
    timeline.begin(0, 1, (2, 3), Activity.WAITING)
    timeline.begin(0, 1, (2, 3), Activity.DECODING)
    timeline.end(0, 1)
    timeline.end(0, 1)
    assert [span.activity.value for span in timeline.spans] == ["waiting", "decoding"]
