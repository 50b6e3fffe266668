import gzip
import json
import math

import numpy as np
import pytest

from jaxsearch.monitor import rollout_log
from jaxsearch.trajectory import Segment, Status, ToolCall, Trajectory


class Outcome:
    reward = math.inf
    terms = {"answer": 1.0, "format": math.nan}
    reason = "correct"
    prediction = "NaN"


TRAJECTORY = Trajectory(
    question_id="q7",
    question='Is "Infinity"\u2028<a film>\n?',
    golden_answers=("Infinity", "∞"),
    prompt_index=12,
    sample_index=3,
    tokens=np.arange(9, dtype=np.int32),
    is_policy=np.array([0, 0, 1, 1, 1, 0, 0, 1, 1], bool),
    logprobs=np.zeros(9, np.float32),
    sampling_logprobs=np.zeros(9, np.float32),
    prompt_len=2,
    segments=(
        Segment(text=" <search> a </search>", is_policy=True),
        Segment(text=" <result> b\n\ud800 </result>", is_policy=False),
    ),
    tool_calls=(
        ToolCall(query="a", passage_ids=("p1", "p2"), num_deleted_tags=2),
        ToolCall(query="b", passage_ids=(), is_truncated=True, has_failed=True),
    ),
    status=Status.OUT_OF_LENGTH,
)


def test_rollouts_come_back_as_they_were_written(tmp_path):
    path = rollout_log.rollout_path(tmp_path, 10)
    assert path == tmp_path / "rollouts" / "step_000010.jsonl.gz"
    rollout_log.write_rollouts(
        path,
        [TRAJECTORY, TRAJECTORY],
        [Outcome(), Outcome()],
        advantages=[0.5, [-0.5, 0.25]],
    )
    first, second = rollout_log.read_rollouts(path)
    for name in (
        "question_id",
        "question",
        "golden_answers",
        "prompt_index",
        "sample_index",
        "segments",
        "tool_calls",
        "status",
    ):
        assert vars(first)[name] == vars(TRAJECTORY)[name]
    assert (first.total_len, first.policy_len) == (9, 5)
    assert (first.reward, first.reason) == (math.inf, "correct")
    assert first.terms["answer"] == 1.0 and math.isnan(first.terms["format"])
    assert first.prediction == "NaN"  # a text, and it stays one
    assert (first.advantage, second.advantage) == (0.5, [-0.5, 0.25])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_line_ends_at_a_newline_and_nowhere_else(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    rollout_log.write_rollouts(path, [TRAJECTORY], [Outcome()])
    text = gzip.decompress(path.read_bytes()).decode()
    assert "\\u2028" in text
    path.write_bytes(gzip.compress(text.replace("\\u2028", "\u2028").encode()))
    assert rollout_log.read_rollouts(path)[0].question == TRAJECTORY.question


def test_the_same_rollouts_give_the_same_bytes(tmp_path):
    paths = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    for path in paths:
        rollout_log.write_rollouts(path, [TRAJECTORY], [Outcome()])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert rollout_log.read_rollouts(paths[0])[0].advantage is None


def test_a_step_without_rollouts_is_an_empty_file(tmp_path):
    path = rollout_log.rollout_path(tmp_path, 1)
    rollout_log.write_rollouts(path, [], [])
    assert rollout_log.read_rollouts(path) == []


def test_files_are_found_in_the_order_of_steps(tmp_path):
    for step in (1_000_000, 20, 3):
        rollout_log.write_rollouts(rollout_log.rollout_path(tmp_path, step), [], [])
    (tmp_path / "rollouts" / "notes.jsonl.gz").touch()
    assert list(rollout_log.rollout_files(tmp_path)) == [3, 20, 1_000_000]
    assert rollout_log.rollout_files(tmp_path / "none") == {}


def test_malformed_files_are_named(tmp_path):
    path = tmp_path / "step_000001.jsonl.gz"
    rollout_log.write_rollouts(path, [TRAJECTORY], [Outcome()])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="step_000001.*the gzip data is truncated"):
        rollout_log.read_rollouts(path)
    path.write_bytes(gzip.compress(gzip.decompress(whole) + b'{"id": "q8"}\n'))
    with pytest.raises(ValueError, match="line 2: not a rollout"):
        rollout_log.read_rollouts(path)
    path.write_bytes(gzip.compress(b"{\n"))
    with pytest.raises(ValueError, match="line 1: not JSON"):
        rollout_log.read_rollouts(path)


def test_rollouts_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "step_000001.jsonl.gz"
    rollout_log.write_rollouts(path, [TRAJECTORY], [Outcome()])
    [rollout] = rollout_log.read_rollouts(path)
    text = gzip.decompress(path.read_bytes()).decode()
    for name, old_name in (
        ("prompt_index", "position"),
        ("sample_index", "member"),
        ("tool_calls", "searches"),
    ):
        assert text.count(f'"{name}": ') == 1
        text = text.replace(f'"{name}": ', f'"{old_name}": ')
    path.write_bytes(gzip.compress(text.encode()))
    [earlier] = rollout_log.read_rollouts(path)
    assert earlier.prompt_index == 12 and earlier.sample_index == 3
    assert earlier.tool_calls == rollout.tool_calls == TRAJECTORY.tool_calls


@pytest.mark.parametrize("opened", ["", "<think>"])
def test_a_line_has_the_tag_that_its_prompt_opened(tmp_path, opened):
    path = tmp_path / "step_000001.jsonl.gz"
    rollout_log.write_rollouts(path, [TRAJECTORY], [Outcome()], opened=opened)
    line = json.loads(gzip.decompress(path.read_bytes()))
    assert line.get("opened") == (opened or None)
    assert ("opened" in line) == bool(opened)
