import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch import metrics
from jaxsearch.metrics import Max, Mean
from jaxsearch.monitor import writers
from jaxsearch.trajectory import Segment, Status, ToolCall, Trajectory


class Outcome:
    def __init__(self, reward, **terms):
        self.reward = reward
        self.terms = terms
        self.reason = "because"
        self.prediction = None


def make_trajectory(
    *, prompt_index=0, sample_index=0, status=Status.ANSWERED, tool_calls=()
):
    """A trajectory with 2 prompt tokens, 3 sampled and 5 retrieved tokens."""
    return Trajectory(
        question_id=f"q{prompt_index}",
        question="Who?",
        golden_answers=("Dorvin",),
        prompt_index=prompt_index,
        sample_index=sample_index,
        tokens=np.arange(10, dtype=np.int32),
        is_policy=np.array([0, 0, 1, 1, 1, 0, 0, 0, 0, 0], bool),
        logprobs=np.zeros(10, np.float32),
        sampling_logprobs=np.zeros(10, np.float32),
        prompt_len=2,
        segments=(Segment(text="x", is_policy=True),),
        tool_calls=tool_calls,
        status=status,
    )


def test_a_mean_of_parts_weighs_every_token_the_same():
    few = Mean(total=10 * 1.0, weight=10.0)
    many = Mean(total=90 * 0.0, weight=90.0)
    assert Mean.merged(few, many).value == 0.1  # the mean of means is 0.5


def test_means_join_inside_a_compiled_function():
    @jax.jit
    def join(a, b):
        return Mean.merged(a, b)

    part = Mean(total=jnp.float32(3.0), weight=jnp.float32(4.0))
    assert join(part, part).value == 0.75


def test_summary_has_a_float_for_each_kind_of_metric():
    summary = metrics.summarise(
        {
            "loss": Mean(total=jnp.float32(1.0), weight=jnp.int32(4)),
            "logprob_drift/max": Max.merged(Max(value=0.5), Max(value=np.float32(2.0))),
            "time/update": 1.5,
            "searches/failed": Mean.of([]),
        }
    )
    assert [type(value) for value in summary.values()] == [float] * 4
    assert list(summary.values())[:3] == [0.25, 2.0, 1.5]
    assert math.isnan(summary["searches/failed"])  # no value was measured


def test_calls_of_other_tools_are_counted_apart_from_searches():
    search = ToolCall(query="a", passage_ids=("p1",), num_deleted_tags=1)
    right = ToolCall(tool="calculator", query="1 + 1", num_deleted_tags=3)
    wrong = ToolCall(tool="calculator", query="1 +", has_failed=True, is_truncated=True)
    trajectories = [
        make_trajectory(sample_index=0, tool_calls=(search, right, wrong)),
        make_trajectory(sample_index=1, tool_calls=(right,)),
    ]
    means = metrics.trajectory_metrics(
        trajectories,
        [Outcome(1.0), Outcome(0.0)],
        em=[1.0, 0.0],
        f1=[1.0, 0.0],
        thoughts=["", ""],
    )
    summary = metrics.summarise(means)
    assert (summary["searches/mean"], summary["searches/failed"]) == (0.5, 0.0)
    assert summary["calls/calculator/mean"] == 1.5
    assert summary["calls/calculator/failed"] == pytest.approx(1 / 3)
    assert summary["calls/calculator/truncated"] == pytest.approx(1 / 3)
    assert "calls/search/mean" not in summary
    assert summary["tags_deleted"] == 3.5


def test_a_nan_is_not_lost_in_a_maximum():
    assert math.isnan(Max.merged(Max(value=math.nan), Max(value=1.0)).value)
    assert math.isnan(Max.merged(Max(value=1.0), Max(value=math.nan)).value)


def test_trajectory_metrics_by_hand():
    found = ToolCall(query="a", passage_ids=("p1",), num_deleted_tags=4)
    empty = ToolCall(query="b", passage_ids=(), is_truncated=True)
    failed = ToolCall(query="c", passage_ids=(), has_failed=True)
    trajectories = [
        make_trajectory(prompt_index=7, sample_index=0, tool_calls=(found, empty)),
        make_trajectory(prompt_index=7, sample_index=1, tool_calls=(failed, found)),
        make_trajectory(prompt_index=9, sample_index=0, status=Status.ENDED),
        make_trajectory(prompt_index=9, sample_index=1),
    ]
    outcomes = [Outcome(1.0, f1=1.0), Outcome(0.0, f1=0.5), Outcome(0.2), Outcome(0.2)]
    means = metrics.trajectory_metrics(
        trajectories,
        outcomes,
        em=[1.0, 0.0, 0.0, 0.0],
        f1=[1.0, 0.5, 0.0, 0.5],
        thoughts=["", "who", "", "where"],
    )
    summary = metrics.summarise(means)
    assert summary["reward/mean"] == pytest.approx(0.35)
    assert summary["reward/f1"] == 0.75  # over the two rollouts that have this term
    assert summary["reward/group_std"] == 0.25  # 0.5 and 0, over two groups
    assert summary["groups_without_signal"] == 0.5
    assert summary["em"] == 0.25
    assert summary["f1"] == 0.5
    assert summary["searches/mean"] == 1.0
    assert summary["searches/failed"] == 0.25
    assert summary["searches/empty"] == 0.25  # the failed one is not counted twice
    assert summary["searches/truncated"] == 0.25
    assert summary["tags_deleted"] == 2.0  # 8 tags, 4 trajectories
    assert (summary["len/policy"], summary["len/observation"]) == (3.0, 5.0)
    assert summary["len/total"] == 10.0
    assert summary["len/think"] == 2.0  # characters
    assert summary["policy_token_share"] == 0.3
    assert summary["status/answered"] == 0.75
    # A policy on the run's own devices does not fail.
    own = set(Status) - {Status.MODEL_FAILED}
    assert {f"status/{status}" for status in own} <= summary.keys()
    assert "status/model_failed" not in summary


def test_a_dropped_rollout_is_counted_but_is_no_member_of_its_group():
    statuses = [Status.ANSWERED, Status.ANSWERED, Status.TOOL_FAILED]
    trajectories = [
        make_trajectory(
            prompt_index=prompt_index, sample_index=sample_index, status=status
        )
        for prompt_index in (7, 9)
        for sample_index, status in enumerate(statuses)
    ]
    trajectories.append(make_trajectory(prompt_index=11, status=Status.TOOL_FAILED))
    rewards = [1.0, 0.0, 0.0, 0.4, 0.4, 0.0, 0.0]
    summary = metrics.summarise(
        metrics.trajectory_metrics(
            trajectories,
            [
                Outcome(r, f1=0.25 * one.is_kept)
                for r, one in zip(rewards, trajectories, strict=True)
            ],
            em=[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
            f1=[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
            thoughts=[""] * 7,
        )
    )
    assert summary["rollouts_dropped"] == 3.0
    assert summary["status/search_failed"] == pytest.approx(3 / 7)
    # Only over judged rollouts: an unreachable retriever does not count as reward 0.
    assert summary["reward/mean"] == pytest.approx(1.8 / 4)
    assert summary["em"] == summary["f1"] == 0.5
    assert summary["reward/f1"] == 0.25
    # 0.5 and 0: a group without rollouts has no spread.
    assert summary["reward/group_std"] == 0.25
    assert summary["groups_without_signal"] == pytest.approx(2 / 3)


def test_trajectory_metrics_refuse_lists_that_do_not_agree():
    one = [make_trajectory()], [Outcome(1.0)]
    with pytest.raises(ValueError, match="1 trajectories, 1 outcomes, 2 em"):
        metrics.trajectory_metrics(*one, em=[1.0, 1.0], f1=[1.0], thoughts=[""])
    with pytest.raises(ValueError, match="1 f1, 0 thoughts"):
        metrics.trajectory_metrics(*one, em=[1.0], f1=[1.0], thoughts=[])


def test_a_reward_part_may_not_hide_the_mean():
    with pytest.raises(ValueError, match="may not be called"):
        metrics.trajectory_metrics(
            [make_trajectory()],
            [Outcome(1.0, mean=3.0)],
            em=[1.0],
            f1=[1.0],
            thoughts=[""],
        )


def test_numbers_that_are_not_finite_survive_in_strict_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    values = {"loss": math.nan, "kl": math.inf, "entropy": -math.inf, "em": 0.5}
    writers.JsonlWriter(path).write(3, "rl", values)

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    [line] = writers.read_metrics(path)
    assert math.isnan(line.pop("loss"))
    assert line == {
        "step": 3,
        "stage": "rl",
        "kl": math.inf,
        "entropy": -math.inf,
        "em": 0.5,
    }


def test_a_resumed_run_loses_later_lines_and_the_torn_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = writers.JsonlWriter(path)
    for step in range(1, 6):
        writer.write(step, "rl", {"loss": 1.0 / step})
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole) + '{"step": 6, "stage": "r')
    writers.cut_back(path, 3)
    assert path.read_text() == "".join(whole[:3])
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]
    writer.write(4, "rl", {"loss": 0.25})
    assert [line["step"] for line in writers.read_metrics(path)] == [1, 2, 3, 4]


def test_a_torn_line_goes_also_where_no_step_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "stage": "rl"}\n{"step": 2, "sta')
    writers.cut_back(path, 9)
    assert path.read_text() == '{"step": 1, "stage": "rl"}\n'
    writers.cut_back(tmp_path / "none.jsonl", 9)


def test_a_malformed_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "stage": "rl"}\n{"step": 2,\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON"):
        writers.read_metrics(path)
    path.write_text('{"step": 1}\n[2]\n')
    with pytest.raises(ValueError, match=r"line 2: expected a JSON object"):
        writers.read_metrics(path)


def test_writers_pass_everything_on(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    both = writers.Writers([writers.JsonlWriter(path) for path in paths])
    both.write(1, "rl", {"loss": 0.5})
    both.close()
    assert [writers.read_metrics(path) for path in paths] == [
        [{"step": 1, "stage": "rl", "loss": 0.5}]
    ] * 2


def test_tensorboard_gets_the_numbers(tmp_path):
    writer = writers.TensorBoardWriter(tmp_path)
    writer.write(1, "rl", {"loss": 0.5})
    writer.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_tensorboard_has_the_numbers_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "_TENSORBOARD_FLUSH_S", 0.1)
    writer = writers.TensorBoardWriter(tmp_path)
    # The first event is flushed in any case.
    for step in (1, 2):
        writer.write(step, "rl", {f"loss{step}": 0.5})
        time.sleep(0.05)
    [events] = (tmp_path / "tensorboard").iterdir()
    give_up = time.monotonic() + 10
    while b"loss2" not in events.read_bytes() and time.monotonic() < give_up:
        time.sleep(0.05)
    assert b"loss2" in events.read_bytes()
    writer.close()


def test_tensorboard_has_the_numbers_before_the_process_ends(tmp_path):
    """Also those that another thread has just written."""
    writer = writers.TensorBoardWriter(tmp_path, restored_step=3)
    for step in range(4, 8):
        writer.write(step, "rl", {f"a/{step}/{number}": 0.5 for number in range(30)})
    writers.Writers([writer]).finish()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"a/7/29" in events.read_bytes()
    # A step after it begins no other file.
    writer.write(8, "rl", {"loss": 0.5})
    writer.close()
    assert [*(tmp_path / "tensorboard").iterdir()] == [events]


def test_a_missing_tensorboard_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r"jaxsearch\[tensorboard\]"):
        writers.TensorBoardWriter(tmp_path)


@pytest.mark.slow
def test_wandb_keeps_one_id_for_a_resumed_run(tmp_path):
    """Two offline runs in separate processes, as in a resumed run."""
    program = (
        "import pathlib, sys; from jaxsearch.monitor.writers import WandbWriter\n"
        "writer = WandbWriter(pathlib.Path(sys.argv[1]), config={'seed': 1})\n"
        "writer.write(1, 'rl', {'loss': 0.5, 'kl': float('nan')})\n"
        "writer.close()\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            check=True,
            capture_output=True,
            text=True,
        )
        for _ in range(2)
    ]
    assert [run.stdout + run.stderr for run in outputs] == ["", ""]
    run_id = (tmp_path / "wandb_id").read_text()
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert folders and all(folder.name.endswith(f"-{run_id}") for folder in folders)
    assert list(folders[0].glob("*.wandb"))


SHOW_WANDB = """
import json, pathlib, sys
from jaxsearch.monitor.writers import WandbWriter
options = json.loads(sys.argv[2])
writer = WandbWriter(pathlib.Path(sys.argv[1]), config={}, **options)
run = writer._run
print(json.dumps([run.project, run.entity, run.name, list(run.tags or ())]))
writer.close()
"""


@pytest.mark.parametrize(
    ("options", "variables", "found"),
    [
        ({}, {}, ["jaxsearch", "", "a_run", []]),
        (
            {"project": "p", "entity": "e", "name": "n", "tags": ["a", "b"]},
            {"WANDB_PROJECT": "other", "WANDB_NAME": "other", "WANDB_TAGS": "other"},
            ["p", "e", "n", ["a", "b"]],
        ),
        (
            {},
            {
                "WANDB_PROJECT": "p",
                "WANDB_ENTITY": "e",
                "WANDB_NAME": "n",
                "WANDB_TAGS": "a,b",
            },
            ["p", "e", "n", ["a", "b"]],
        ),
        ({"name": "n"}, {"WANDB_PROJECT": "p"}, ["p", "", "n", []]),
    ],
)
def test_wandb_has_project_entity_name_and_tags(tmp_path, options, variables, found):
    (tmp_path / "a_run").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SHOW_WANDB, "a_run", json.dumps(options)],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | variables,
    )
    assert json.loads(done.stdout) == found


def test_importing_the_writers_is_cheap():
    program = (
        "import sys, jaxsearch.monitor.writers, jaxsearch.monitor.console\n"
        "heavy = {'jax', 'wandb', 'tensorboardX', 'rich'} & sys.modules.keys()\n"
        "import jaxsearch.metrics\n"
        "heavy |= {'wandb', 'tensorboardX', 'rich'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
