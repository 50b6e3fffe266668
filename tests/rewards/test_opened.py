"""Tags that the prompt has opened count as the policy's when a rollout is judged."""

import json

import pytest

from jaxsearch.rewards.score import score_file
from jaxsearch.rewards.tasks import TASKS
from jaxsearch.trajectory import Segment

THINK = "<think>"
# Replies after a prompt that ends with <think>, by the format of their protocol.
TURNS = {
    "research": ("\nIs it? </think> <search> q </search>", "<think> Yes. </think> "),
    "search_r1": ("\nIs it? </think><search> q </search>", "<think> Yes. </think>"),
}
ANSWERS = {
    "research": "<answer> It is \\boxed{Paris} </answer>",
    "search_r1": "<answer> Paris </answer>",
}
RESULTS = {
    "research": " <result>\nParis\n</result>",
    "search_r1": "\n\n<information>Paris</information>\n\n",
}
NAMES = ["research", "research_paper", "search_r1_format"]


def rollout(name, *, has_search=True, again=""):
    """A good rollout; `again` is written at its beginning."""
    kind = "search_r1" if name.startswith("search_r1") else "research"
    first, last = TURNS[kind]
    if not has_search:
        text = first.partition("</think>")[0] + "</think> " + ANSWERS[kind]
        return [Segment(text=again + text, is_policy=True)]
    return [
        Segment(text=again + first, is_policy=True),
        Segment(text=RESULTS[kind], is_policy=False),
        Segment(text=last + ANSWERS[kind], is_policy=True),
    ]


def outcome(task, segments, gold="Paris"):
    return task.judge(segments, [gold], has_ended=True, label="it")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("has_search", [False, True])
def test_a_good_rollout_earns_its_reward(name, has_search):
    task, segments = TASKS[name], rollout(name, has_search=has_search)
    told = task.with_opened(THINK)
    assert outcome(told, segments).reward == 1.0
    assert "bad format" not in outcome(told, segments, "Rome").reason
    # Without the prompt's tag, the format is bad.
    assert "bad format" in outcome(task, segments, "Rome").reason
    # As if the policy had written it.
    written = rollout(name, has_search=has_search, again=THINK)
    for gold in ("Paris", "Rome"):
        assert outcome(task, written, gold) == outcome(told, segments, gold)
    # Written once more, it is one too many.
    assert "bad format" in outcome(told, written, "Rome").reason


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_judged_alike(name):
    task, told = TASKS[name], TASKS[name].with_opened(THINK)
    text = "".join(segment.text for segment in rollout(name))
    for gold in ("Paris", "Rome"):
        found = told.judge_text(text, [gold], has_ended=True, label="it")
        assert found == task.judge_text(
            THINK + text, [gold], has_ended=True, label="it"
        )
    assert "bad format" not in found.reason


@pytest.mark.parametrize("name", sorted(TASKS))
def test_an_unopened_prompt_changes_no_task(name):
    opened = THINK if "r1_searcher" in name else ""
    assert TASKS[name].with_opened(opened) == TASKS[name]


@pytest.mark.parametrize("kind", ["segments", "response"])
def test_saved_rollouts_say_what_their_prompt_opened(tmp_path, kind):
    segments = rollout("research")
    text = "".join(segment.text for segment in segments)
    written = [{"text": s.text, "is_policy": s.is_policy} for s in segments]
    line = {"golden_answers": ["Rome"], "ended": True}
    line[kind] = {"segments": written, "response": text}[kind]
    path = tmp_path / "saved.jsonl"
    path.write_text(f"{json.dumps(line)}\n{json.dumps(line | {'opened': THINK})}\n")
    assert score_file(path, "research")["mean_reward"] == pytest.approx(0.05)
    path.write_text(json.dumps(line | {"opened": "<search>"}))
    with pytest.raises(ValueError, match="line 1: the prompt begins the reply with <s"):
        score_file(path, "research")
