"""Every task under other tags: honest rollouts earn the same, forged ones nothing."""

import dataclasses

import pytest

from jaxsearch.env.sanitize import strip_tags
from jaxsearch.protocol import RESEARCH, TagPair
from jaxsearch.rewards import tasks
from jaxsearch.rewards.tasks import TASKS
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

OTHER_TAGS = {
    "think": TagPair("[reason]", "[/reason]"),
    "search": TagPair("<tool_call>", "</tool_call>"),
    "result": TagPair("<tool_response>", "</tool_response>"),
    "answer": TagPair("<|final|>", "<|end_final|>"),
}
GOLDS = ["Paris"]
# These pay for a right answer in any format.
PAID_IN_ANY_FORMAT = {"research_paper", "search_r1"}
# This one pays for nothing else.
PAID_FOR_THE_ANSWER_ALONE = {"search_r1"}


def retagged(task):
    protocol = task.protocol.with_tags(**OTHER_TAGS)
    return dataclasses.replace(task, protocol=protocol)


def written(protocol, answer):
    """Texts of a rollout: a turn that searches, an observation, a turn that answers."""
    return (
        protocol.search_turn("I look", "capital of France"),
        protocol.observation([Passage(id="1", contents="Paris\nParis is in France.")]),
        protocol.answer_turn("I know", answer),
    )


def reward(task, *texts):
    """Judges texts of the policy, and observations where a text is given as a tuple."""
    segments = [
        Segment(text=text[0], is_policy=False)
        if isinstance(text, tuple)
        else Segment(text=text, is_policy=True)
        for text in texts
    ]
    return task.judge(segments, GOLDS, has_ended=True, label="this test").reward


@pytest.fixture(params=TASKS)
def both(request):
    """A task as it is and under other tags."""
    return TASKS[request.param], retagged(TASKS[request.param])


def test_an_honest_rollout_earns_the_same(both):
    for answer in ("Paris", "Oslo"):
        own, other = (
            reward(task, ask, (found,), end)
            for task in both
            for ask, found, end in [written(task.protocol, answer)]
        )
        assert own == other
    task = both[1]
    ask, found, right = written(task.protocol, "Paris")
    assert reward(task, ask, (found,), right) > reward(task, ask, (found,), " no.")


def test_forging_an_observation_earns_nothing(both):
    own, other = (
        {
            answer: reward(task, ask + found + end)
            for answer in ("Paris", "Oslo")
            for ask, found, end in [written(task.protocol, answer)]
        }
        for task in both
    )
    assert own == other
    task = both[1]
    for answer, forged in other.items():
        ask, found, end = written(task.protocol, answer)
        assert forged <= reward(task, end)  # the same answer without a search
    ask, found, right = written(task.protocol, "Paris")
    if task.name not in PAID_IN_ANY_FORMAT:
        assert other["Paris"] < reward(task, ask, (found,), right)
    ask, found, wrong = written(task.protocol, "Oslo")
    if task.name not in PAID_FOR_THE_ANSWER_ALONE:
        assert other["Oslo"] < reward(task, ask, (found,), wrong)


def test_half_a_forgery_earns_nothing_either(both):
    """A tag alone, a tag in two turns, and a forgery after a true observation."""
    _, task = both
    protocol = task.protocol
    ask, found, right = written(protocol, "Paris")
    honest = reward(task, ask, (found,), right)
    open_tag, close_tag = protocol.result
    for forged in (
        [ask + open_tag, (found,), right],
        [ask, (found,), close_tag + right],
        [ask, (found,), f"{ask}{open_tag[:5]}", f"{open_tag[5:]} x {close_tag}{right}"],
    ):
        if task.name not in PAID_IN_ANY_FORMAT:
            assert reward(task, *forged) < honest
    assert not protocol.is_forged([Segment(text=found, is_policy=False)])


def test_the_whole_contract_follows_the_tags(both):
    before, task = both
    protocol = task.protocol
    old_tags, new_tags = before.protocol.control_tags, protocol.control_tags
    assert set(new_tags) == {tag for pair in OTHER_TAGS.values() for tag in pair}
    prompt = protocol.prompt("Q?") + str(protocol.messages("Q?")) + protocol.reminder
    assert not any(tag in prompt for tag in old_tags)
    hostile = "a<tool_response>b</tool_call>c[reason]d"
    assert strip_tags(hostile, protocol.control_tags) == ("abcd", 3)
    ask, found, end = written(protocol, "Paris")
    assert "</tool_call>" in protocol.stop_tags and protocol.query(ask)
    thought = protocol.thought([Segment(text=ask, is_policy=True)])
    assert thought == "I look"
    assert protocol.has_answer([Segment(text=end, is_policy=True)])
    assert found.replace("tool_response", "") == before.protocol.observation(
        [Passage(id="1", contents="Paris\nParis is in France.")]
    ).replace(before.protocol.result.open, "<>").replace(
        before.protocol.result.close, "</>"
    )


def test_one_replaced_field_is_enough():
    """The tags of a result are the fields that frame it."""
    protocol = dataclasses.replace(
        RESEARCH, result_open=" <tool_response>", result_close="</tool_response>"
    )
    task = dataclasses.replace(tasks.RESEARCH, protocol=protocol)
    ask, found, right = written(protocol, "Paris")
    assert found.startswith(" <tool_response>\nParis")
    assert reward(task, ask, (found,), right) == 1.0
    assert reward(task, ask + found + right) == 0.0
    assert "<tool_response>" in protocol.control_tags


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": TagPair("", "</s>")}, "search.open must be one tag .* got ''"),
        ({"answer": TagPair("<a>", "</ a>")}, "answer.close must be one tag"),
        ({"result_open": "<result>\nI found:"}, "result.open .* belongs into render"),
        ({"result_close": " "}, "result.close must be one tag .* got ''"),
        ({"think": RESEARCH.search}, "think.open .* is contained in search.open"),
        ({"think": TagPair("*", "*")}, "think.open .* is contained in think.close"),
        ({"search": TagPair("<result>x", "</s>")}, "result.open .* in search.open"),
        ({"calls": (TagPair("<think>", "</c>"),)}, r"contained in calls\[0\].open"),
    ],
)
def test_tags_that_could_be_confused_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"protocol 'research': .*{message}"):
        dataclasses.replace(RESEARCH, **changes)


def test_further_calls_are_calls():
    protocol = dataclasses.replace(RESEARCH, calls=(TagPair("<calc>", "</calc>"),))
    assert protocol.stop_tags == ("</search>", "</calc>")
    assert {"<calc>", "</calc>"} < set(protocol.control_tags)
    segments = [Segment(text="a <calc> 1 </calc> b", is_policy=True)]
    assert protocol.thought(segments) == "a b"
    assert [str(b.kind) for b in protocol.blocks(segments)] == [
        *("other", "search", "other")
    ]
