"""launch/smollm2_experiment.py: its inputs, and the table of finished runs."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from jaxsearch.json_lines import replace_lines
from jaxsearch.monitor.rollout_log import heldout_rollouts_path, write_rollouts
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.run.config_file import read_config
from tests.test_dropped_rollouts import make_trajectory

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(LAUNCH)
        yield runpy.run_path(str(LAUNCH / "experiments.py"))


def finished(folder, heldout, after):
    """A run whose policy answers so many of 20 held-out questions after RL."""
    rng = np.random.default_rng(0)
    trajectories = [make_trajectory(rng, i, 0) for i in range(20)]
    for name, num_right in (("before_rl", 5), ("after_rl", after)):
        rewards = [1.0] * num_right + [0.1] * 5 + [0.0] * (15 - num_right)
        outcomes = [
            Outcome(
                reward=reward,
                terms={},
                reason="",
                prediction="Dorvin" if reward == 1.0 else None,
            )
            for reward in rewards
        ]
        write_rollouts(heldout_rollouts_path(folder, name), trajectories, outcomes)
    lines = [
        {
            "id": one.question_id,
            "question": one.question,
            "golden_answers": list(one.golden_answers),
            "metadata": {"type": "bridge" if i % 2 else "comparison"},
        }
        for i, one in enumerate(trajectories)
    ]
    replace_lines(heldout, lines)
    names = {"before_rl": 0, "after_rl": 0, "after_rl_sampled": 0.4, "empty_index": 0.1}
    replace_lines(
        folder / "eval.jsonl",
        [
            {"name": name, "step": 3, "stage": "x", "n": 20, "em": f1, "f1": f1}
            for name, f1 in names.items()
        ],
    )
    metrics = [
        {"step": 1, "stage": "format", "time/update": 90.0},
        {
            "step": 2,
            "stage": "search",
            "logprob_drift/mean": 1e-6,
            "time/update": 4.0,
            "time/rollout": 6.0,
        },
        {
            "step": 3,
            "stage": "search",
            "logprob_drift/mean": 3e-6,
            "time/update": 5.0,
            "time/rollout": 7.0,
        },
    ]
    replace_lines(folder / "metrics.jsonl", metrics)
    (folder / "peak_bytes").write_text("2500000000")
    (folder / "done").touch()


def test_finished_runs_are_not_repeated_and_make_a_table(script, tmp_path, capsys):
    heldout = tmp_path / "heldout.jsonl"
    for variant, after in (("masked", 15), ("unmasked", 6)):
        folder = tmp_path / "out" / "smollm2" / f"1-{variant}"
        folder.mkdir(parents=True)
        finished(folder, heldout, after)
    words = ["experiments.py", "--only", "smollm2", "--seeds", "1"]
    words += ["--out", str(tmp_path / "out"), "--heldout", str(heldout)]
    words += ["--model", "m", "--questions", "q", "--index", "i"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", words)
        script["main"]()
    text = capsys.readouterr().out
    assert "| | seed 1, masked | seed 1, unmasked |" in text
    assert "| f1 before | 0.250 | 0.250 |" in text
    assert "| f1 after | 0.750 | 0.300 |" in text
    assert "| f1 of all after_rl | 0.750 | 0.300 |" in text
    assert "| well formed after_rl | 1.000 | 0.550 |" in text
    assert "| f1 empty index | 0.100 | 0.100 |" in text
    assert "| mean drift | 2.0e-06 | 2.0e-06 |" in text
    assert "| seconds per RL step | 11.000 | 11.000 |" in text
    assert "| peak GB | 2.500 | 2.500 |" in text
    found = json.loads((tmp_path / "out" / "smollm2.json").read_text())
    assert found[0]["difference"].startswith("+0.500 [+0.")
    by_type = [found[0][f"f1 of {kind} after_rl"] for kind in ("bridge", "comparison")]
    assert sum(by_type) / 2 == pytest.approx(0.75) and by_type[0] != by_type[1]


def test_missing_inputs_are_said_before_anything_runs(script, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        words = ["experiments.py", "--only", "smollm2", "--out", str(tmp_path)]
        patch.setattr("sys.argv", words)
        with pytest.raises(ValueError, match="needs --model, --questions, --heldout"):
            script["main"]()
    assert not list(tmp_path.iterdir())


def test_the_variants_differ_in_the_mask_alone(script):
    experiment = script["smollm2_experiment"]
    assert experiment.VARIANTS["masked"] == []
    [flag, value] = experiment.VARIANTS["unmasked"]
    assert (flag, value) == ("--stages.1.has-masked-observations", "False")
    [_, search] = read_config(str(experiment.CONFIG)).stages
    assert search.has_masked_observations
