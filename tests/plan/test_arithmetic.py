"""Lower bounds by hand, machines by name, and published sizes."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.table import PUBLISHED_SIZES
from jaxsearch.models.hf_config import from_hf_config
from jaxsearch.plan.arithmetic import RolloutWork, UpdateWork
from jaxsearch.plan.chips import CHIPS, chip_of
from jaxsearch.plan.suggest import suggestion
from jaxsearch.plan.topology import topology

CONFIGS = Path(__file__).resolve().parents[3] / "shared/data/hf_configs"
# One layer: 16 x (2 x 2 + 2 x 1) x 8 of attention, 3 x 16 x 32 of the MLP.
SMALL = Architecture(
    vocab_size=64,
    width=16,
    mlp_width=32,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_width=8,
    has_qkv_bias=False,
    has_tied_head=False,
)
LAYER = 16 * 6 * 8 + 3 * 16 * 32
UPDATE = UpdateWork(
    architecture=SMALL,
    rows=4,
    row_len=8,
    data=1,
    fsdp=4,
    tensor=1,
    itemsize=2,
    num_trained=SMALL.num_parameters,
    moment_bytes=4,
    remat=False,
    has_reference=False,
)
ROLLOUT = RolloutWork(
    architecture=SMALL,
    tensor=1,
    num_slots=3,
    max_len=64,
    cached_tokens=0,
    append_tokens=5,
    num_adapted=0,
    dtype="bfloat16",
)
SEVEN = PUBLISHED_SIZES["Qwen/Qwen2.5-7B-Instruct"]
LONG = dataclasses.replace(
    ROLLOUT, architecture=SEVEN, max_len=8192, append_tokens=2048
)


def test_products_of_an_update_are_three_times_a_forward_pass():
    # A token attends to 8 / 2 others in two products of 2 x 8 numbers each.
    layers = 32 * (2 * LAYER + 2 * 2 * 4 * 16)
    head = 32 * 2 * 64 * 16
    assert UPDATE.own_flops == 3 * (layers + head)
    again = dataclasses.replace(UPDATE, remat=True)
    assert again.own_flops == 4 * layers + 3 * head
    both = dataclasses.replace(UPDATE, has_reference=True)
    assert both.own_flops == 4 * (layers + head)
    adapters = dataclasses.replace(UPDATE, num_trained=100)
    assert adapters.own_flops == 2 * (layers + head)


def test_what_is_gathered_comes_from_three_of_four():
    # Without the embedding, whose rows are looked up on the devices that hold them.
    weights = SMALL.num_parameters - 64 * 16
    assert UPDATE.least_received == 3 * weights * 2 * 3 / 4
    both = dataclasses.replace(UPDATE, has_reference=True)
    assert both.least_received == 4 * weights * 2 * 3 / 4
    tied = dataclasses.replace(SMALL, has_tied_head=True)
    shared = dataclasses.replace(
        UPDATE, architecture=tied, num_trained=tied.num_parameters
    )
    assert shared.least_received == 3 * tied.num_parameters * 2 * 3 / 4


def test_state_is_three_numbers_a_parameter_and_one_for_the_reference():
    assert UPDATE.state_bytes == SMALL.num_parameters * 3 * 4 / 4
    both = dataclasses.replace(UPDATE, has_reference=True)
    assert both.state_bytes == SMALL.num_parameters * 4 * 4 / 4
    half = dataclasses.replace(UPDATE, moment_bytes=2)
    assert half.state_bytes == SMALL.num_parameters * (4 + 2 * 2) / 4
    adapters = dataclasses.replace(UPDATE, num_trained=100)
    assert adapters.state_bytes == (SMALL.num_parameters + 100 * 3) * 4 / 4


def test_a_copy_and_its_cache_are_cut_over_those_that_share_it():
    work = dataclasses.replace(LONG, tensor=4, num_slots=2, cached_tokens=2 * 8192)
    assert work.params_bytes == SEVEN.num_parameters * 2 / 4
    # 28 layers, keys and values, one of four heads of 128, and 13 bytes per token.
    assert work.slot_bytes == 8192 * (28 * 2 * 128 * 2 + 13)
    assert work.cache_bytes == 2 * work.slot_bytes


def test_adapters_that_are_not_merged_are_held_and_multiplied():
    work = dataclasses.replace(ROLLOUT, tensor=2, num_adapted=100)
    assert work.params_bytes == (SMALL.num_parameters + 100) * 2 / 2
    assert work.decode_flops == 2 * 3 * (LAYER + 100 + 64 * 16) / 2
    assert work.append_flops(5) == 2 * 5 * (LAYER + 100) / 2


def test_machines_have_names():
    pod = topology("v5p:4x4x4")
    assert (pod.num_devices, pod.host_devices, pod.is_tpu) == (64, 4, True)
    assert topology("tpu7x:2x2x1").num_devices == 8  # two devices per chip
    gpus = topology("h200:8")
    assert (gpus.num_devices, gpus.host_devices, gpus.is_tpu) == (8, 8, False)
    assert topology("h200:1").host_devices == 1
    # Eight chips of v5e are one machine, larger slices have four on each.
    assert topology("v5e-8").host_devices == 8
    assert topology("v5e-16").host_devices == topology("v5p-16").host_devices == 4
    assert (pod.host.name, topology("v5e:4x4").host.name) == ("v5p:2x2x1", "v5e:2x2")
    assert chip_of("TPU v5 lite") == topology("v5e:4x4").chip
    assert chip_of("TPU v5p") == chip_of("TPU v5") == pod.chip
    assert chip_of("NVIDIA H200") == gpus.chip
    assert chip_of("cpu") is None


@pytest.mark.parametrize(
    ("name", "same", "num_devices"),
    [
        ("v5e-1", "v5e:1x1", 1),
        ("v5e-8", "v5e:2x4", 8),
        ("v5litepod-256", "v5e:16x16", 256),
        ("v6e-32", "v6e:4x8", 32),
        # Eight cores, which are four chips.
        ("v4-8", "v4:2x2x1", 4),
        ("v5p-16", "v5p:2x2x2", 8),
        ("v5p-128", "v5p:4x4x4", 64),
        ("v4-512", "v4:4x8x8", 256),
        ("tpu7x-8", "tpu7x:2x2x1", 8),
        ("A100:8", "a100-80gb:8", 8),
        ("A100-40GB:4", "a100-40gb:4", 4),
        ("h200-8", "h200:8", 8),
        ("rtx4090:2", "rtx4090:2", 2),
    ],
)
def test_names_of_launchers_are_known(name, same, num_devices):
    assert topology(name) == topology(same)
    assert (topology(name).name, topology(name).num_devices) == (same, num_devices)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA H100 80GB HBM3", "h100"),
    ],
)
def test_devices_are_found_by_what_jax_calls_them(kind, name):
    assert chip_of(kind) == CHIPS[name]
    # Memory in GB, between the smallest and the largest of the table.
    assert 15e9 < CHIPS[name].memory_bytes < 200e9


def test_a_chip_with_a_longer_name_is_another_one():
    assert chip_of("NVIDIA L40") is None
    assert chip_of("NVIDIA A1000") is None
    assert chip_of("NVIDIA H2000") is None


@pytest.mark.parametrize(
    "name",
    [
        *("v5e", "v5e:4", "v5p:4x4", "v9:4x4", "h200:0", ""),
        # No such slice, or half a core.
        *("v5e-7", "v5p-6", "v5p-9", "v5e-2x4x4", "h200-2x2", "t4"),
    ],
)
def test_an_unknown_machine_is_answered_with_those_that_are_known(name):
    with pytest.raises(ValueError, match="known: v5e:AxB and v6e:AxB"):
        topology(name)


def test_what_does_not_fit_is_answered_with_what_would():
    update = dataclasses.replace(
        UPDATE,
        architecture=SEVEN,
        rows=16,
        row_len=8192,
        fsdp=16,
        num_trained=SEVEN.num_parameters,
        remat=True,
        has_reference=True,
    )
    rollout = dataclasses.replace(LONG, num_slots=8, cached_tokens=8 * 8192)
    sizes = {"num_devices": 16, "process_devices": 4}
    found = suggestion(update, rollout, memory_bytes=16 * 2**30, **sizes)
    # A device holds 7.6 GB of training state. Half a copy of the policy, another 7.6
    # GB, does not fit next to it, and the head's gradient is too large unless the
    # vocabulary is sharded.
    assert found == (
        "--mesh.data 1 --mesh.fsdp 4 --mesh.tensor 4 --rollout.tensor 4, with "
        "max_tokens 32768 in the stage"
    )
    assert not suggestion(update, rollout, memory_bytes=2**30, **sizes)
    # A process has four devices, too few for two copies on four each.
    sizes |= {"memory_bytes": 16 * 2**30, "replicas": 2}
    assert not suggestion(update, rollout, **sizes)


def test_a_suggested_mesh_divides_the_width():
    narrow = dataclasses.replace(SMALL, width=12, num_kv_heads=2)
    update = dataclasses.replace(
        UPDATE, architecture=narrow, num_trained=narrow.num_parameters
    )
    rollout = dataclasses.replace(
        ROLLOUT, architecture=narrow, num_slots=2, cached_tokens=128
    )
    sizes = {"num_devices": 8, "process_devices": 8}
    # Eight shards would have one and a half columns of 12.
    assert suggestion(update, rollout, memory_bytes=2**40, **sizes) == (
        "--mesh.data 1 --mesh.fsdp 4 --mesh.tensor 2 --rollout.tensor 1, with "
        "max_tokens 32 in the stage"
    )


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_published_sizes_are_those_of_the_models_own_files(name):
    file = CONFIGS / f"{name.split('/')[1]}.config.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    assert PUBLISHED_SIZES[name] == from_hf_config(json.loads(file.read_text()))
