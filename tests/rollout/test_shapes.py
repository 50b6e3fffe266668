"""Programs compile in `warm_up` and never again, on one device and on eight."""

import logging

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsearch.mesh import MeshShape, make_mesh
from jaxsearch.rollout.limits import Limits
from jaxsearch.rollout.shapes import Shapes
from tests.models.test_transformer import QWEN


@pytest.fixture
def compilations(caplog):
    """Names of the programs compiled so far."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        yield lambda: [
            record.getMessage().split(" with global shapes")[0]
            for record in caplog.records
            if record.getMessage().startswith("Compiling")
        ]


def run(kit, sampler, questions, *, group_size=4, temperature=1.0, params=None):
    return sampler.run(
        kit.params if params is None else params,
        questions,
        kit.observer(),
        group_size=group_size,
        stage=2,
        temperature=temperature,
    )[0]


def test_nothing_compiles_after_warm_up(kit, sampler, questions, compilations):
    sampler.warm_up(kit.params, 4)
    before = compilations()
    lens = set()
    for chosen, temperature in ((questions, 1.0), (questions[:1], 0.7)):
        done = run(kit, sampler, chosen, temperature=temperature)
        lens |= {len(t.tokens) for t in done}
    assert min(lens) < 10 and max(lens) > 48
    assert compilations() == before
    # The count would show it: another group size prefills another number of prompts.
    run(kit, sampler, questions[:1], group_size=3)
    assert len(compilations()) > len(before)


@pytest.mark.parametrize(
    ("num_slots", "longest", "expected"),
    [
        (8, 32, {32: (1, 6)}),
        (16, 64, {32: (2, 6), 64: (3,)}),
        (32, 32, {32: (6,)}),
        (8, 256, {64: (1, 3), 128: (1,), 256: (1,)}),
    ],
)
def test_what_one_stop_brings_is_appended_by_few_rows(num_slots, longest, expected):
    limits = Limits(
        num_slots=num_slots,
        max_len=512,
        max_prompt_len=32,
        max_turn_len=32,
        max_observation_len=longest,
        max_searches=2,
    )
    shapes = Shapes(limits=limits, architecture=QWEN, backend="cpu")
    assert shapes.append_rows == expected


def test_parameters_on_eight_devices_give_the_same_and_compile_once(
    kit, questions, tight_sampler, compilations
):
    mesh = make_mesh(MeshShape(data=8))
    sampler = kit.sampler(8, **kit.tight)
    params = jax.device_put(kit.params, NamedSharding(mesh, PartitionSpec()))
    sampler.warm_up(params, 4)
    before = compilations()
    assert len(before) > 5
    done = run(kit, sampler, questions, params=params)
    assert compilations() == before
    for a, b in zip(done, run(kit, tight_sampler, questions), strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
