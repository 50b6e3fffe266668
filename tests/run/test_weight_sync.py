"""Transfer of weights from every training layout to every rollout layout."""

import dataclasses
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.mesh import MeshShape, make_mesh, shardings
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.rollouts.layout import (
    on_replica,
    replica_meshes,
    replica_params,
    rollout_shardings,
)
from jaxsearch.run.weight_sync import WeightSync
from tests.models.test_transformer import QWEN, QWEN3, make
from tests.programs import compile_to_read

ROOT = Path(__file__).resolve().parents[2]
# Divisible by every mesh below.
SIZES = dict(vocab_size=48, num_heads=8, num_kv_heads=4, width=32, head_width=8)


def trained(architecture, mesh, **settings):
    """A network and its random parameters, sharded as in training."""
    transformer, params = make(architecture, **settings)
    places = shardings(mesh, transformer.logical_axes, transformer.shapes)
    return transformer, jax.tree.map(
        # Each of several processes provides the parts of its devices.
        lambda x, place: jax.make_array_from_callback(
            x.shape, place, lambda index: np.asarray(x)[index]
        ),
        params,
        places,
    )


def check_published(architecture, mesh, tensor, **settings):
    """Checks that every replica has the parameters that one device would have."""
    transformer, params = trained(architecture, mesh, **settings)
    replicas = replica_meshes(mesh.local_devices, tensor)
    network = on_replica(transformer, replicas[0])
    rollout_params = WeightSync(network, mesh)(params)
    # An update donates its state, so the transferred parameters must not share memory
    # with it.
    for leaf in jax.tree.leaves(params):
        leaf.delete()
    expected = jax.jit(network.for_rollouts)(make(architecture, **settings)[1])
    for replica in replicas:
        found = replica_params(
            replica, rollout_shardings(replica, network), rollout_params
        )
        for array, want in zip(
            jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
        ):
            assert array.sharding.device_set == {*replica.devices.flat}
            assert array.dtype == want.dtype
            np.testing.assert_allclose(
                np.asarray(array, np.float32),
                np.asarray(want, np.float32),
                rtol=1e-6,
                atol=1e-7,
            )
    return rollout_params


@pytest.mark.parametrize(
    ("mesh", "tensor"),
    [
        (MeshShape(), 1),
        (MeshShape(), 2),
        (MeshShape(data=8, fsdp=1), 4),
        (MeshShape(data=2, fsdp=2, tensor=2), 1),
        (MeshShape(data=2, fsdp=2, tensor=2), 2),
        (MeshShape(fsdp=2, tensor=4), 2),
        (MeshShape(fsdp=4, tensor=2), 4),
    ],
)
def test_every_replica_gets_its_copy(mesh, tensor):
    architecture = dataclasses.replace(QWEN, **SIZES)
    check_published(architecture, make_mesh(mesh), tensor, dtype=jnp.bfloat16)


def test_adapters_are_merged_and_float32_is_copied_too():
    """With norms per head and an untied head, and without casts."""
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    architecture = dataclasses.replace(QWEN3, **SIZES)
    check_published(architecture, mesh, 2, lora=LoRAConfig(rank=2))


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_adapters_next_to_bfloat16_weights_are_sent_too(tensor):
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    architecture = dataclasses.replace(QWEN, **SIZES)
    lora = LoRAConfig(rank=3, targets="k_proj|o_proj|gate_proj|down_proj")
    sent = check_published(architecture, mesh, tensor, lora=lora, dtype=jnp.bfloat16)
    [first, *_] = sent["adapters"]
    assert [*first["projections"]] == ["key", "out"]
    assert [*first["mlp"]] == ["down", "gate"]


def test_one_device_shares_nothing_with_what_is_trained():
    """A program could return an unchanged argument."""
    check_published(QWEN, make_mesh(MeshShape(), jax.devices()[:1]), 1)


def test_devices_of_a_process_need_not_be_neighbours_in_training():
    """As on a torus; with one process, the result follows the mesh's order."""
    devices = [jax.devices()[i] for i in (0, 5, 2, 7, 4, 1, 6, 3)]
    mesh = make_mesh(MeshShape(fsdp=4, tensor=2), devices)
    check_published(dataclasses.replace(QWEN, **SIZES), mesh, 2)


def test_each_parameter_is_sent_once_and_never_the_whole_policy_twice():
    """Counts the bytes that a device receives in the compiled program."""
    architecture = dataclasses.replace(QWEN, **SIZES)
    mesh = make_mesh(MeshShape())
    transformer, params = trained(architecture, mesh)
    [replica, *_] = replica_meshes(mesh.local_devices, 1)
    weight_sync = WeightSync(on_replica(transformer, replica), mesh)
    of_layer, rest = map(compile_to_read, weight_sync.lower(params))
    text = rest.as_text() + of_layer.as_text() * architecture.num_layers
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    sent = re.findall(rf"= (\w+)\[([\d,]*)\]\S* ({kinds})(?:-start)?\(", text)
    assert {(dtype, kind) for dtype, _, kind in sent} == {("f32", "all-gather")}
    numbers = [math.prod(map(int, shape.split(","))) for _, shape, _ in sent]
    # Norms are sharded by width; biases of heads are already replicated.
    assert 0.9 * architecture.num_parameters < sum(numbers)
    assert sum(numbers) <= architecture.num_parameters


# --------------------------------------------------------- in several processes


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_processes_publish_together(num_processes):
    """Eight devices in total, with parameters sharded in several ways."""
    port, devices = free_port(), 8 // num_processes
    settings = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} "
        f"--xla_force_host_platform_device_count={devices}",
    }
    worker = [sys.executable, "-m", "tests.run.process_weight_sync"]
    processes = [
        subprocess.Popen(
            [*worker, *map(str, (port, num_processes, number))],
            cwd=ROOT,
            env=os.environ | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(num_processes)
    ]
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * num_processes, outputs
    assert all("published 5 times" in output for output in outputs), outputs
