"""Moments in bfloat16, compared with Optax's in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsearch.mesh import MeshShape, make_mesh, shardings
from jaxsearch.rl.moments import round_stochastically, scale_by_bfloat16_adam
from jaxsearch.rl.optimizer import OptimizerConfig, make_optimizer


def test_rounding_keeps_the_mean_and_gives_the_neighbours():
    """1 + k / 1024 is k eighths of the way from 1 to 1 + 8 / 1024."""
    bits = jnp.arange(2**16, dtype=jnp.uint16)
    for k in range(9):
        x = jnp.full(bits.shape, -(1 + k / 1024), jnp.float32)
        found = np.asarray(round_stochastically(x, bits).astype(jnp.float32))
        assert set(found) <= {-1.0, -(1 + 8 / 1024)}
        np.testing.assert_allclose(found.mean(), x[0], rtol=1e-7)


def test_what_bfloat16_holds_is_left_as_it_is():
    x = jnp.array([0.0, 1.0, -2.5, 3e38, 1e-30]).astype(jnp.bfloat16)
    bits = jnp.full(x.shape, 0xFFFF, jnp.uint16)
    np.testing.assert_array_equal(round_stochastically(x.astype(jnp.float32), bits), x)


def test_a_second_moment_goes_on_moving():
    """Rounded to nearest, a second moment of 1 would never decrease."""
    optimizer = scale_by_bfloat16_adam(0.9, 0.999)
    params = jnp.zeros(4096)
    state = optimizer.init(params)._replace(nu=jnp.ones(4096, jnp.bfloat16))

    @jax.jit
    def many(state):
        def step(_, state):
            return optimizer.update(jnp.zeros(4096), state)[1]

        return jax.lax.fori_loop(0, 200, step, state)

    found = many(state).nu.astype(jnp.float32)
    # exp(-0.2); the standard error of the mean of these walks is below 0.001.
    np.testing.assert_allclose(found.mean(), 0.999**200, rtol=0.005)
    assert jnp.bfloat16(0.999) == 1.0  # with rounding to nearest


def test_steps_are_near_those_of_float32():
    """On a quadratic, far from its minimum: similar steps with half the memory."""
    scales = jnp.linspace(0.5, 2.0, 1000)
    ends = {}
    for moments in ("float32", "bfloat16"):
        config = OptimizerConfig(
            learning_rate=0.05, final_share=0.0, weight_decay=0.01, moments=moments
        )
        optimizer = make_optimizer(config, 200)
        params = jnp.full(1000, 3.0)
        state = optimizer.init(params)
        step = jax.jit(optimizer.update)
        for _ in range(200):
            updates, state = step(scales * (params - 1.0), state, params)
            params = optax.apply_updates(params, updates)
        adam = state[1][0]
        assert adam.mu.dtype == adam.nu.dtype == moments
        ends[moments] = np.asarray(params)
    np.testing.assert_allclose(ends["float32"], 1.0, atol=0.05)
    assert np.abs(ends["bfloat16"] - ends["float32"]).max() < 0.02


def test_the_same_step_draws_the_same_bits():
    optimizer = scale_by_bfloat16_adam(0.9, 0.999)
    grads = {"a": jnp.full((8, 16), 0.3), "b": jnp.full((8, 16), 0.3)}
    state = optimizer.init(grads)
    _, first = optimizer.update(grads, state)
    _, again = optimizer.update(grads, state)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    # Other parameters and other steps have different random bits.
    assert (first.nu["a"] != first.nu["b"]).any()
    _, later = optimizer.update(grads, state._replace(count=jnp.int32(7)))
    assert (first.nu["a"] != later.nu["a"]).any()


def test_devices_change_nothing():
    mesh = make_mesh(MeshShape(fsdp=4, tensor=2))
    grads = {"w": jax.random.normal(jax.random.key(0), (16, 8))}
    shapes = jax.eval_shape(lambda: grads)
    places = shardings(mesh, {"w": ("vocab", "embed")}, shapes)
    optimizer = scale_by_bfloat16_adam(0.9, 0.999)
    step = jax.jit(optimizer.update)
    steps, state = step(grads, optimizer.init(grads))
    spread = jax.device_put(grads, places)
    spread_steps, spread_state = step(spread, jax.jit(optimizer.init)(spread))
    assert spread_state.mu["w"].sharding.is_equivalent_to(places["w"], 2)
    np.testing.assert_array_equal(state.nu["w"], spread_state.nu["w"])
    np.testing.assert_array_equal(state.mu["w"], spread_state.mu["w"])
    np.testing.assert_allclose(steps["w"], spread_steps["w"], rtol=1e-6)


@pytest.mark.parametrize("poison", [jnp.nan, jnp.inf])
def test_what_is_not_finite_stays_so(poison):
    """Non-finite gradients stay so; the update detects them by their norm."""
    optimizer = scale_by_bfloat16_adam(0.9, 0.999)
    grads = jnp.full(3, poison)
    steps, _ = optimizer.update(grads, optimizer.init(grads))
    assert not jnp.isfinite(steps).any()
