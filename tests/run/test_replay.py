"""Updates that are not finite are kept with what they had, and replayed."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.commands.main import main
from jaxsearch.config import CheckpointConfig
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.non_finite import kept_steps, read_update
from jaxsearch.train import TrainingFailedError, train
from tests.tiny import tiny_config


def root_of_square(logprobs, ref_logprobs, loss_mask):
    """A distance whose derivative at 0 is 0 / 0, as a user may write it."""
    return jnp.where(loss_mask, jnp.sqrt(jnp.square(logprobs - ref_logprobs)), 0.0)


def huge_advantages(rewards, is_kept):
    return rewards * 0 + np.finfo(np.float32).max


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A run whose KL has no derivative where it begins; its supervised stage learns."""
    config = tiny_config(tmp_path_factory.mktemp("runs") / "failed")
    read, search = config.stages
    objective = dataclasses.replace(search.objective, kl=root_of_square)
    broken = dataclasses.replace(search, objective=objective, max_skipped=2)
    config = dataclasses.replace(config, stages=(read, broken))
    stopped = "steps 4 to 5 were not finite.*; `jaxsearch replay .*/step_000004` shows"
    with pytest.raises(TrainingFailedError, match=stopped):
        train(config)
    return config


@pytest.mark.slow
def test_the_first_of_a_series_is_kept_with_its_parameters(failed):
    folder = Path(failed.out)
    assert kept_steps(folder) == [4]
    update = read_update(folder / "non_finite" / "step_000004")
    assert (update.step, update.stage, update.has_reference) == (4, 1, True)
    # As the update had them: the loss was finite, its gradient was not.
    assert np.isfinite(update.metrics["loss"])
    assert np.isnan(update.metrics["grad_norm"])
    for batch in update.batches:
        assert batch.loss_mask.sum() > 0 and batch.tokens.dtype == np.int32
    lines = read_metrics(folder / "metrics.jsonl")
    assert lines[3]["loss"] == update.metrics["loss"]
    names = {p.suffix for p in (folder / "non_finite").rglob("*") if p.is_file()}
    assert not names & {".pkl", ".pickle", ".npz"}


@pytest.mark.slow
def test_replay_says_where_it_began(failed, capsys):
    batch = Path(failed.out) / "non_finite" / "step_000004"
    assert main(["replay", str(batch), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = [one["name"] for one in found["not_finite"]]
    # Neither inputs, nor log-probs, ratios or terms of the loss: only gradients.
    assert names[-1] == "norm of the gradient" and len(names) > 5
    assert all(name.startswith("gradient of ") for name in names[:-1])
    assert "infinite derivative" in found["conclusion"]
    assert main(["replay", str(batch), "--all"]) == 0
    shown = capsys.readouterr().out
    for name in ("log-probs of the reference", "ratio", "sum of kl", "advantages"):
        assert f"\n{name} " in shown
    assert "norm of the gradient nan" in shown


@pytest.mark.slow
def test_replay_refuses_what_is_no_update(failed, tmp_path, capsys):
    assert main(["replay", str(tmp_path)]) == 2
    assert "expected a folder such as runs/NAME/non_finite" in capsys.readouterr().err
    batch = Path(failed.out) / "non_finite" / "step_000004"
    [changed, *_] = (batch / "parameters").rglob("d/*")
    before = changed.read_bytes()
    changed.write_bytes(bytes(len(before)))
    assert main(["replay", str(batch)]) == 2
    assert "parameters is damaged" in capsys.readouterr().err
    changed.write_bytes(before)
    record = batch / "update.json"
    whole = record.read_text()
    for name, value, said in (
        ("has_reference", False, "its stage search needs a reference"),
        ("stage", 2, "is of stage 2, which its run lacks"),
        ("num_batches", 0, "expected a batch, loss and grad_norm"),
        ("divisor", "x", "divisor must be a number or null, got 'x'"),
    ):
        record.write_text(json.dumps({**json.loads(whole), name: value}))
        assert main(["replay", str(batch)]) == 2
        assert said in capsys.readouterr().err
    record.write_text(whole)


@pytest.mark.slow
def test_infinite_advantages_are_found_and_few_updates_are_kept(tmp_path, capsys):
    config = tiny_config(
        tmp_path / "run", checkpoint=CheckpointConfig(every=2, keep_non_finite=1)
    )
    read, search = config.stages
    broken = dataclasses.replace(
        search, advantage=huge_advantages, minibatches_per_step=3, max_skipped=9
    )
    train(dataclasses.replace(config, stages=(read, broken), steps=2))
    # One series of six updates, so one is kept.
    assert kept_steps(Path(config.out)) == [4]
    batch = Path(config.out) / "non_finite" / "step_000004"
    assert main(["replay", str(batch)]) == 0
    shown = capsys.readouterr().out
    assert "\nsum of loss " in shown and "\nadvantages " not in shown
    assert "it begins in the loss: look at the objective" in shown
    assert "the first token with loss that is not finite: microbatch 0, row " in shown
