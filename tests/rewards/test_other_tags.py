"""Every task with other tags: honest rollouts earn the same, forged ones nothing."""

import dataclasses
import functools

import pytest

from jaxsearch.env.sanitize import strip_tags
from jaxsearch.protocol import RESEARCH, TagPair, ToolTags
from jaxsearch.protocol.turns import TOOL_MARK
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
CALCULATOR = ToolTags(
    call=TagPair("<calc>", "</calc>"), result=TagPair("<value>", "</value>")
)
# These tasks reward a right answer in any format.
BASELINES = {"direct", "retrieve_then_read", "iterative"}
PAID_IN_ANY_FORMAT = {"research_paper", "search_r1", *BASELINES}
# This task rewards nothing else.
PAID_FOR_THE_ANSWER_ALONE = {"search_r1", *BASELINES}


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
    """A task, and the same task with other tags."""
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
        ({"result_open": "<result>\nI found:"}, "result.open .* belongs in .render"),
        ({"result_close": " "}, "result.close must be one tag .* got ''"),
        ({"think": RESEARCH.search}, "think.open .* is contained in search.open"),
        ({"think": TagPair("*", "*")}, "think.open .* is contained in think.close"),
        ({"search": TagPair("<result>x", "</s>")}, "result.open .* in search.open"),
        (
            {"calls": (ToolTags(call=TagPair("<think>", "</c>")),)},
            r"contained in calls\[0\].call.open",
        ),
    ],
)
def test_tags_that_could_be_confused_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"protocol 'research': .*{message}"):
        dataclasses.replace(RESEARCH, **changes)


def test_further_calls_are_calls():
    protocol = dataclasses.replace(RESEARCH, calls=(CALCULATOR,))
    assert protocol.stop_tags == ("</search>", "</calc>")
    assert {"<calc>", "</calc>"} < set(protocol.control_tags)
    segments = [Segment(text="a <calc> 1 </calc> b", is_policy=True)]
    assert protocol.thought(segments) == "a b"
    assert [str(b.kind) for b in protocol.blocks(segments)] == [
        *("other", "search", "other")
    ]


def with_calculator(name, *, is_declared=True):
    task = TASKS[name]
    calls = (CALCULATOR,) if is_declared else ()
    return dataclasses.replace(
        task, protocol=dataclasses.replace(task.protocol, calls=calls)
    )


def calculation(protocol):
    """A turn that calls the calculator, written as one that searches."""
    turn = protocol.search_turn("I add", "2 + 3")
    for tag, other in zip(protocol.search, CALCULATOR.call, strict=True):
        turn = turn.replace(tag, other)
    return turn, " <value> 5 </value>"


@pytest.mark.parametrize("name", TASKS)
def test_a_further_tool_changes_no_reward(name):
    """Neither the call nor its result has an effect at any position."""
    task = with_calculator(name)
    call, value = calculation(task.protocol)
    for answer in ("Paris", "Oslo"):
        ask, found, end = written(task.protocol, answer)
        direct = reward(task, end)
        assert reward(task, call, (value,), end) == direct
        assert reward(task, call, (value,), call, (value,), end) == direct
        searched = reward(task, ask, (found,), end)
        assert reward(task, call, (value,), ask, (found,), end) == searched
        assert reward(task, ask, (found,), call, (value,), end) == searched


@pytest.mark.parametrize("name", sorted({*TASKS} - {"search_r1_format"}))
def test_a_tool_that_the_protocol_lacks_changes_no_reward_either(name):
    task = with_calculator(name, is_declared=False)
    call, value = calculation(task.protocol)
    ask, found, end = written(task.protocol, "Paris")
    assert reward(task, call, (value,), end) == reward(task, end)
    assert reward(task, ask, (found,), call, (value,), end) == (
        reward(task, ask, (found,), end)
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_result_of_a_further_tool_may_not_be_written(name):
    task = with_calculator(name)
    call, value = calculation(task.protocol)
    _, _, end = written(task.protocol, "Paris")
    forged = [Segment(text=call + value + end, is_policy=True)]
    assert task.protocol.is_forged(forged)
    if name not in PAID_IN_ANY_FORMAT:
        assert reward(task, call + value + end) < reward(task, call, (value,), end)


def test_only_results_of_searches_earn_the_retrieval_reward():
    """Search-R1 rewards a golden answer in a result if the answer is wrong."""
    task = with_calculator("search_r1_format")
    pays = functools.partial(task.reward, retrieval_reward=0.1)
    task = dataclasses.replace(task, reward=pays)
    call, _ = calculation(task.protocol)
    ask, found, end = written(task.protocol, "Oslo")
    base = reward(task, end)
    assert reward(task, ask, (found,), end) == pytest.approx(base + 0.1)
    assert reward(task, call, (" <value> Paris </value>",), end) == base


@pytest.mark.parametrize("name", TASKS)
def test_an_answer_around_a_call_of_a_tool_is_no_answer(name):
    task = with_calculator(name)
    _, _, end = written(task.protocol, "Paris")
    before, after = end.split("Paris")
    call = "".join((CALCULATOR.call.open, "1", CALCULATOR.call.close))
    segments = [
        Segment(text=before + call, is_policy=True),
        Segment(text=" <value> 1 </value>", is_policy=False),
        Segment(text="Paris" + after, is_policy=True),
    ]
    assert not task.protocol.has_answer(segments)
    assert task.protocol.policy_text(segments).count(TOOL_MARK) == 1
    if name not in PAID_IN_ANY_FORMAT | {"search_r1_format"}:
        broken = reward(task, before + call, (" <value> 1 </value>",), "Paris" + after)
        assert broken < reward(task, end)


def test_the_policy_cannot_write_the_mark_of_a_call():
    protocol = with_calculator("search_r1_format").protocol
    text = protocol.policy_text([Segment(text=f"a{TOOL_MARK}b", is_policy=True)])
    assert text == "a b"


@pytest.mark.parametrize("name", TASKS)
def test_a_call_of_a_further_tool_does_not_end_a_rollout(name):
    protocol = with_calculator(name).protocol
    assert not protocol.is_last(f"<answer> 1 {calculation(protocol)[0]} </answer>")
