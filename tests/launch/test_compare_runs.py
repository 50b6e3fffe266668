"""launch/compare_runs.py: runs that agree, that differ, and of unequal length."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
_SPEC = importlib.util.spec_from_file_location(
    "compare_runs", LAUNCH / "compare_runs.py"
)
compare_runs = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(compare_runs)

ROLLOUT = {
    "id": "q",
    "question": "?",
    "golden_answers": ["a"],
    "prompt_index": 0,
    "sample_index": 0,
    "segments": [{"text": "a", "is_policy": True}],
    "tool_calls": [],
    "status": "answered",
    "total_len": 2,
    "policy_len": 1,
    "reward": 1.0,
    "parts": {},
    "reason": "",
    "prediction": "a",
    "advantage": 0.0,
}


@pytest.fixture
def compare(tmp_path, capsys):
    """Writes two runs with these losses, and returns the status and the output."""

    def made(name: str, losses, **others) -> Path:
        run = tmp_path / name
        (run / "rollouts").mkdir(parents=True)
        lines = [
            {"step": 3 + i, "stage": "search", "reward/mean": 0.5, "loss": loss}
            | {"time/update": 100.0 * i * len(name)}
            | others
            for i, loss in enumerate(losses)
        ]
        warm_up = {"step": 2, "stage": "read", "loss": 9.0}
        text = "".join(json.dumps(line) + "\n" for line in [warm_up, *lines])
        (run / "metrics.jsonl").write_text(text)
        rollouts = gzip.compress(json.dumps(ROLLOUT).encode())
        (run / "rollouts" / "step_000003.jsonl.gz").write_bytes(rollouts)
        return run

    def compared(first, second, **others) -> tuple[int, str]:
        runs = made("one", first), made("second", second, **others)
        status = compare_runs.main(*runs)
        return status, capsys.readouterr().out

    return compared


@pytest.mark.parametrize(("num_first", "num_second"), [(2, 4), (4, 2), (1, 9)])
def test_of_runs_of_unequal_length_the_common_steps_are_compared(
    compare, num_first, num_second
):
    status, shown = compare([0.1] * num_first, [0.1] * num_second)
    assert status == 0
    assert "inf" not in shown and "more than rounding" not in shown
    name = "one" if num_first < num_second else "second"
    least = min(num_first, num_second)
    assert f"{name} has only {least} RL step" in shown
    assert f"metrics of {least} RL step" in shown
    assert "  loss                         0 at step 3" in shown


def test_runs_of_more_than_five_steps_are_not_unequal(compare):
    status, shown = compare([0.1] * 6, [0.1] * 8)
    assert status == 0 and "only" not in shown and "metrics of 5 RL steps" in shown


def test_a_difference_is_marked_with_its_step(compare):
    status, shown = compare([0.1, 0.2, 0.3], [0.1, 0.25, 0.3])
    assert status == 1
    assert "0.05 at step 4  <- more than rounding" in shown


def test_a_metric_of_one_run_is_said_to_be_missing(compare):
    status, shown = compare([0.1] * 3, [0.1] * 2, kl=0.0)
    assert status == 1 and "inf" not in shown
    assert "kl                           only in one of the runs" in shown


def test_a_run_without_rl_steps_is_said(compare):
    status, shown = compare([], [0.1])
    assert status == 1 and shown.splitlines()[-1] == "no RL step to compare"


def test_values_that_are_not_numbers_are_equal(compare):
    status, shown = compare([float("nan")], [float("nan")])
    assert status == 0 and "nan" not in shown


def test_what_cannot_be_compared_is_not_a_difference(tmp_path, capsys):
    assert compare_runs.command(["one"]) == 2
    assert "launch/compare_runs.py runs/one runs/two" in capsys.readouterr().err
    assert compare_runs.command([str(tmp_path), str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.err == f"{tmp_path} has no rollouts: set --logging.rollouts-every 1\n"
    assert said.out == ""
