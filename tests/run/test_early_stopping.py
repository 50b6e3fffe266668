"""Early stopping on held-out questions."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsearch.config import EvalConfig, RunConfig
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.checkpoint import Progress
from jaxsearch.run.early_stopping import is_stopped, plateau, stopping_line
from jaxsearch.run.start import start_line
from jaxsearch.train import train
from tests.test_train import final_params, untimed
from tests.tiny import tiny_config


def config_with(patience: int, min_improvement: float = 0.0) -> RunConfig:
    limits = EvalConfig(
        every=1, patience=patience, min_improvement=min_improvement, limit=6
    )
    return tiny_config(Path("run"), eval=limits)


def lines_of(*ems: float, name="heldout", stage="search", first=4) -> list[dict]:
    return [
        {"name": name, "stage": stage, "step": first + number, "em": em}
        for number, em in enumerate(ems)
    ]


@pytest.mark.parametrize(
    ("ems", "min_improvement", "stops"),
    [
        ([0.5, 0.6, 0.7], 0.0, False),
        ([0.5, 0.4, 0.5], 0.0, True),  # equal is not better
        ([0.5, 0.4, 0.6], 0.0, False),
        ([0.5, 0.6, 0.4, 0.5], 0.0, True),
        ([0.5, 0.54, 0.54], 0.05, True),
        ([0.5, 0.54, 0.57], 0.05, False),  # in sum it is better
        ([0.5, 0.4], 0.0, False),
        ([0.0, 0.0, 0.0], 0.0, True),
        ([], 0.0, False),
    ],
)
def test_a_run_stops_after_evaluations_without_a_new_best(ems, min_improvement, stops):
    assert is_stopped(config_with(2, min_improvement), lines_of(*ems)) is stops
    assert not is_stopped(config_with(0, min_improvement), lines_of(*ems))


def test_the_last_evaluation_before_the_stage_is_the_first_to_be_exceeded():
    before = lines_of(0.2, 0.6, name="before_rl", stage="other", first=2)
    config = config_with(2)
    assert plateau(config, before + lines_of(0.5, 0.6)) == (0.6, 3, 2)
    assert plateau(config, before + lines_of(0.7)) == (0.7, 4, 0)
    others = lines_of(0.1, 0.1, name="after_rl", first=9)
    assert plateau(config, before + lines_of(0.7) + others) == (0.7, 4, 0)
    line = stopping_line(config, before + lines_of(0.5, 0.6))
    assert "not risen above 0.600 of step 3 in the last 2 evaluations" in line


def test_a_run_that_stopped_early_is_complete():
    progress = Progress(step=6, stage=1, stage_step=3, stream=None)
    lines = lines_of(0.5, 0.4, 0.4)
    assert start_line(config_with(2), progress, lines) == (
        "run is complete, after step 6 of 7, where it stopped early; a larger "
        "--eval.patience than 2 continues; --fresh starts it again from its first step"
    )
    assert start_line(config_with(3), progress, lines).startswith("resuming run")


def test_patience_without_evaluations_is_refused():
    with pytest.raises(ValueError, match=r"eval\.every is 0, so there are none"):
        EvalConfig(patience=2)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run whose exact match stays 0, and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    config = dataclasses.replace(
        config_with(2),
        out=str(folder),
        # The step at which it stops has no checkpoint of its own.
        stages=tuple(
            dataclasses.replace(stage, steps=12 if stage.name == "search" else 1)
            for stage in config_with(2).stages
        ),
        checkpoint=dataclasses.replace(config_with(2).checkpoint, every=5),
    )
    return config, train(config)


@pytest.mark.slow
def test_it_stops_saves_and_evaluates(stopped):
    config, result = stopped
    lines = read_metrics(Path(config.out) / "eval.jsonl")
    during = [line for line in lines if line["name"] == "heldout"]
    assert [line["num_since_best"] for line in during][-1] == 2
    last = during[-1]["step"]
    assert last < 13
    assert (Path(config.out) / "checkpoints" / str(last)).is_dir()
    assert {"step": last, "name": "after_rl"}.items() <= lines[-3].items()
    assert result["stopped_early"] is True


@pytest.mark.slow
def test_it_decides_the_same_after_a_kill(stopped, tmp_path, capsys):
    """Killed after the deciding evaluation, before the checkpoint of its step."""
    config, _ = stopped
    cut = dataclasses.replace(config, out=str(tmp_path / "cut"))
    shutil.copytree(config.out, cut.out)
    record = json.loads((Path(cut.out) / "config.json").read_text())
    (Path(cut.out) / "config.json").write_text(json.dumps(record | {"out": cut.out}))
    steps = sorted(int(p.name) for p in (Path(cut.out) / "checkpoints").iterdir())
    shutil.rmtree(Path(cut.out) / "checkpoints" / str(steps[-1]))
    train(cut)
    assert "stopped early: held-out em has not risen above" in capsys.readouterr().out
    for name in ("metrics.jsonl", "eval.jsonl"):
        assert untimed(read_metrics(Path(cut.out) / name)) == untimed(
            read_metrics(Path(config.out) / name)
        )
    jax.tree.map(np.testing.assert_array_equal, final_params(cut), final_params(config))
    train(cut)
    said = capsys.readouterr().out
    assert "where it stopped early" in said and "resuming" not in said


@pytest.mark.slow
def test_a_run_with_all_its_steps_has_not_stopped_early(stopped, tmp_path, capsys):
    """The evaluation of its last step uses up the patience."""
    config, _ = stopped
    done = dataclasses.replace(config, out=str(tmp_path / "done"))
    shutil.copytree(config.out, done.out)
    last = read_metrics(Path(done.out) / "metrics.jsonl")[-1]["step"]
    # One step of warm-up, and as many of RL as there were.
    result = train(dataclasses.replace(done, steps=last - 1))
    said = capsys.readouterr().out
    assert f"is complete, after step {last}; a larger --steps" in said
    assert "stopped early" not in said
    assert result["stopped_early"] is False


@pytest.mark.slow
def test_it_goes_on_with_more_patience_and_other_slots(stopped, tmp_path, capsys):
    config, _ = stopped
    more = dataclasses.replace(config, out=str(tmp_path / "more"))
    shutil.copytree(config.out, more.out)
    last = read_metrics(Path(more.out) / "metrics.jsonl")[-1]["step"]
    train(
        dataclasses.replace(
            more,
            steps=last,  # one step of warm-up, and one more of RL
            rollout=dataclasses.replace(more.rollout, num_slots=4),
            eval=dataclasses.replace(more.eval, patience=0),
            logging=dataclasses.replace(more.logging, samples_every=1, num_samples=2),
        )
    )
    lines = read_metrics(Path(more.out) / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, last + 2))
    recorded = (Path(more.out) / "changes.jsonl").read_text().splitlines()
    fields = {json.loads(line)["field"] for line in recorded}
    assert fields == {"steps", "rollout.num_slots", "eval.patience"}
    said = capsys.readouterr().out
    assert f"changed after step {last}, and recorded in" in said
    assert len(re.findall(rf"^search {last}/{last}, reward \d", said, re.M)) == 2
    assert said.count("   expected  ") == 2
