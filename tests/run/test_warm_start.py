"""Warm start: runs that begin from the policy of another run."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsearch.commands.main import main
from jaxsearch.config import ModelConfig
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.run.build import open_run
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.export import export_run
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.folder import read_record, write_record
from jaxsearch.run.loading import load_run
from jaxsearch.run.origin_record import origin_record
from jaxsearch.run.warm_start import origin_of
from jaxsearch.train import train
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of one supervised step and one of RL."""
    config = tiny_config(
        tmp_path_factory.mktemp("runs") / "first", steps=1, warmup_steps=1, seed=3
    )
    train(config)
    return config


def policy_of(config, which=""):
    choice = choose_checkpoint(config, which)
    return jax.tree.map(np.asarray, open_run(config).checkpoint_params(choice))


def begun_from(first, path, out, **model):
    """A config of other sizes and another seed that begins from a run."""
    model = ModelConfig(path=str(path), width=64, num_layers=3, **model)
    [_, stage] = tiny_config(out).stages
    return tiny_config(out, model=model, stages=(stage,), steps=1, seed=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "which"),
    [("", ""), ("best", "best"), ("checkpoints", "last"), ("checkpoints/1", "1")],
)
def test_a_run_begins_with_the_parameters_and_tokenizer_of_another(
    first, tmp_path, suffix, which
):
    config = begun_from(first, Path(first.out) / suffix, tmp_path / "second")
    run = open_run(config)
    begun = run.initial_params()
    jax.tree.map(np.testing.assert_array_equal, begun, policy_of(first, which))
    assert {str(array.dtype) for array in jax.tree.leaves(begun)} == {"float32"}
    assert run.inputs.tokenizer.id_bytes == open_run(first).inputs.tokenizer.id_bytes
    assert run.transformer.architecture.width == 32


@pytest.mark.slow
def test_the_record_says_where_it_came_from(first, tmp_path):
    config = begun_from(first, first.out, tmp_path / "second")
    begun = open_run(config).initial_params()
    found = origin_record(config, begun)
    assert (found["run"], found["step"]) == (first.out, 2)
    assert found["fingerprint"] == fingerprint(policy_of(first))
    assert found["checkpoint"].startswith("step 2 of 2, held-out EM")
    write_record(config, "", origin=found)
    assert read_record(Path(config.out))["origin"] == found
    other = jax.tree.map(lambda array: array + 1, begun)
    with pytest.raises(ValueError, match="which has other parameters now"):
        origin_record(config, other)
    # With a checkpoint, what the other run has become does not matter.
    (Path(config.out) / "checkpoints" / "1").mkdir(parents=True)
    assert origin_record(config, other) == found


def test_other_models_are_no_runs(tmp_path):
    for path in ("", "jaxsearch:quickstart", str(tmp_path), "owner/best"):
        assert origin_of(path) is None


@pytest.mark.slow
def test_adapters_are_merged_and_new_ones_begin_at_zero(first, tmp_path):
    config = begun_from(first, first.out, tmp_path / "second", lora=LoRAConfig(rank=2))
    run = open_run(config)
    begun = run.initial_params()
    policy = policy_of(first)
    assert begun.keys() > policy.keys()
    jax.tree.map(
        np.testing.assert_array_equal, {name: begun[name] for name in policy}, policy
    )
    jax.tree.map(np.testing.assert_array_equal, dict(run.policy(begun).params), policy)


def refused(capsys, tmp_path, path):
    words = ["train", "quickstart", "--model.path", str(path)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert not (tmp_path / "out").exists()
    return line


@pytest.mark.slow
def test_a_run_without_a_checkpoint_is_one_line(first, tmp_path, capsys):
    write_record(tiny_config(tmp_path / "empty"), frozen="")
    line = refused(capsys, tmp_path, tmp_path / "empty")
    assert "empty has no checkpoint yet" in line
    (tmp_path / "no_model").mkdir()
    line = refused(capsys, tmp_path, tmp_path / "no_model")
    assert "no_model is neither a run's folder nor a Hugging Face folder" in line
    line = refused(capsys, tmp_path, Path(first.out) / "checkpoints" / "7")
    assert "has no checkpoint of step 7; --checkpoint can be 1, 2 (best)" in line


@pytest.mark.slow
def test_a_whole_warm_start(first, tmp_path, capsys):
    """Trained, resumed without the other run's checkpoint, loaded and exported."""
    kept = tmp_path / "first"
    shutil.copytree(first.out, kept)
    config = begun_from(first, kept, tmp_path / "second")
    train(config)
    assert f"warm start from {kept}: step 2 of 2" in capsys.readouterr().out
    record = json.loads((tmp_path / "second" / "config.json").read_text())
    train(dataclasses.replace(config, steps=2))
    assert read_record(tmp_path / "second")["origin"] == record["origin"]
    load_run(config.out)
    assert export_run(Path(config.out), tmp_path / "out", dtype="float32")["files"]
