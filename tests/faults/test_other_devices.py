"""A run continues with another number of devices, and learns the same."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxsearch.mesh import MeshShape
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.folder import read_run_config
from tests.test_several_processes import succeeded
from tests.test_train import final_params, untimed

CONFIG = """
import dataclasses
from pathlib import Path

from tests.tiny import tiny_config

tiny = tiny_config(Path("unnamed"))
# Rounding must not decide what is sampled.
rollout = dataclasses.replace(tiny.rollout, max_len=60)
config = dataclasses.replace(tiny, rollout=rollout)
"""
# Devices, further options, last step of RL.
PARTS = [
    (1, [], 1),
    (2, [], 2),
    (2, ["--mesh.data", "2", "--mesh.fsdp", "1"], 3),
    (1, ["--mesh.data", "1", "--mesh.fsdp", "1"], 4),
]


def check_close(here, there):
    """Checks that two lines agree up to rounding, of which drift consists."""
    assert here.keys() == there.keys()
    for key, value in here.items():
        for a, b in zip(*map(jax.tree.leaves, (value, there[key])), strict=True):
            if isinstance(a, str):
                assert a == b, key
            elif not key.startswith("logprob_drift/"):
                # A step that did not search has NaN.
                assert a == pytest.approx(b, rel=1e-3, abs=1e-5, nan_ok=True), key


@pytest.mark.long
def test_the_mesh_changes_and_the_results_do_not(tmp_path):
    (tmp_path / "own.py").write_text(CONFIG)
    command = ["-m", "jaxsearch", "train", tmp_path / "own.py"]
    changed, whole = tmp_path / "changed", tmp_path / "whole"
    succeeded(*command, "--out", whole, count=1, num_devices=1)
    outputs = [
        succeeded(
            *(*command, *options, "--steps", str(steps), "--out", changed),
            count=1,
            num_devices=num_devices,
        )[0]
        for num_devices, options, steps in PARTS
    ]
    assert "changed after step 4, and recorded in" in outputs[1]
    assert "devices from 1 to 2" in outputs[1]
    assert "mesh.data from 1 to 2, mesh.fsdp from None to 1" in outputs[2]
    lines = (changed / "changes.jsonl").read_text().splitlines()
    recorded = {(one["step"], one["field"]) for one in map(json.loads, lines)}
    wanted = {(4, "devices"), (5, "mesh.data"), (5, "mesh.fsdp"), (6, "devices")}
    assert wanted <= recorded
    metrics, evaluations = (
        [untimed(read_metrics(run / name)) for run in (changed, whole)]
        for name in ("metrics.jsonl", "eval.jsonl")
    )
    for here, there in zip(*metrics, strict=True):
        check_close(here, there)
    # Each part ends with an evaluation.
    check_close(*(lines[-1] for lines in evaluations))
    # On the devices of this process.
    configs = [
        dataclasses.replace(read_run_config(run), mesh=MeshShape())
        for run in (changed, whole)
    ]
    params = map(final_params, configs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *params
    )
