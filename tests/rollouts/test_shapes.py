"""Programs compile only in `warm_up`, for one replica and for several."""

import contextlib

import jax
import pytest

from jaxsearch.config import ModelConfig
from jaxsearch.mesh import MeshShape, make_mesh, replicated
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.layout import replica_meshes
from jaxsearch.rollouts.shapes import Shapes
from jaxsearch.run.network import sized_architecture


def run(kit, sampler, questions, *, group_size=4, temperature=1.0, params=None):
    return sampler.run(
        kit.params if params is None else params,
        questions,
        kit.environment(),
        group_size=group_size,
        stage=2,
        temperature=temperature,
    )[0]


def test_nothing_compiles_after_warm_up(kit, sampler, questions, compilations):
    announced = []

    @contextlib.contextmanager
    def announce(title, num_programs):
        announced.append((title, num_programs))
        yield lambda: announced.append(1)

    sampler.warm_up(kit.params, 4, announce)
    (title, num_programs), *compiled = announced
    assert title == "the rollout" and sum(compiled) == num_programs > 3
    before = compilations()
    lens = set()
    for chosen, temperature in ((questions, 1.0), (questions[:1], 0.7)):
        done = run(kit, sampler, chosen, temperature=temperature)
        lens |= {len(t.tokens) for t in done}
    assert min(lens) < 10 and max(lens) > 48
    assert compilations() == before
    # The count can change: another group size prefills another number of prompts.
    run(kit, sampler, questions[:1], group_size=3)
    assert len(compilations()) > len(before)


def test_another_seed_samples_differently_and_compiles_nothing(
    kit, sampler, questions, compilations
):
    sampler.warm_up(kit.params, 4)
    mine = run(kit, sampler, questions)
    another = kit.sampler(16, seed=8)
    before = compilations()
    others = run(kit, another, questions)
    assert compilations() == before
    assert [t.tokens.tolist() for t in mine] != [t.tokens.tolist() for t in others]


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
    budgets = Budgets(
        num_slots=num_slots,
        max_len=512,
        max_prompt_len=32,
        max_turn_len=32,
        max_observation_len=longest,
        max_calls=2,
    )
    shapes = Shapes(budgets, "cpu", sized_architecture(ModelConfig(), 300))
    assert shapes.append_rows == expected


@pytest.mark.parametrize(
    ("width", "num_layers", "rows", "num_ends"), [(128, 3, 1, 2), (512, 12, 3, 6)]
)
def test_a_small_network_has_few_decode_programs(width, num_layers, rows, num_ends):
    """Each takes seconds to compile, and saves little where a step takes 10 ms."""
    model = ModelConfig(width=width, mlp_width=2 * width, num_layers=num_layers)
    budgets = Budgets(
        num_slots=128,
        max_len=120,
        max_prompt_len=28,
        max_turn_len=28,
        max_observation_len=28,
        max_calls=4,
    )
    shapes = Shapes(budgets, "cpu", sized_architecture(model, 300))
    assert len(shapes.read_ends) == rows
    assert len(shapes.read_ends[128]) == num_ends


def test_each_replica_compiles_every_program_once(kit, questions, compilations):
    """XLA compiles per device: two replicas compile exactly twice as much."""
    params = jax.device_put(kit.params, replicated(make_mesh(MeshShape())))
    counts = []
    for num_replicas in (1, 2):
        replicas = replica_meshes(jax.devices(), 1, num_replicas)
        # No other test has this number of slots or prompts, so nothing is compiled yet.
        sampler = kit.sampler(11, **kit.tight, replicas=replicas)
        num_before = len(compilations())
        sampler.warm_up(params, 4)
        before = compilations()
        run(kit, sampler, questions, params=params)
        assert compilations() == before
        counts.append(len(before) - num_before)
    # The programs of the first replica were compiled by the first sampler.
    assert counts[0] >= 5 and counts[1] == counts[0]
