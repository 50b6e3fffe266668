"""Adam's moments in bfloat16: half the memory of the optimizer's state."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, BFloat16, Float32, UInt16


def scale_by_bfloat16_adam(b1: float, b2: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with both moments kept in bfloat16, computed in float32.

    They are rounded up or down at random, with the odds that keep their mean. Rounded
    to the nearest, a second moment would stand still: with b2 = 0.999 a step moves it
    by up to a thousandth, and bfloat16's numbers lie four to eight thousandths apart.
    The random bits come from the number of the step alone, so that a run that resumes
    draws the same ones.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        mu, nu = (
            jax.tree.map(lambda x: jnp.zeros_like(x, jnp.bfloat16), params)
            for _ in range(2)
        )
        return optax.ScaleByAdamState(count=jnp.zeros([], jnp.int32), mu=mu, nu=nu)

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any = None):
        count = optax.safe_increment(state.count)
        key = jax.random.fold_in(jax.random.key(0), count)
        leaves, tree = jax.tree.flatten(grads)
        moved = [
            _moved(jax.random.fold_in(key, i), *moments, b1, b2, count)
            for i, moments in enumerate(
                zip(
                    leaves,
                    jax.tree.leaves(state.mu),
                    jax.tree.leaves(state.nu),
                    strict=True,
                )
            )
        ]
        steps, mu, nu = (tree.unflatten(x) for x in zip(*moved, strict=True))
        return steps, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


def _moved(
    key: Array, grad: Array, mu: Array, nu: Array, b1: float, b2: float, count: Array
) -> tuple[Array, Array, Array]:
    """Step, and both moments after it, of one parameter."""
    mean = b1 * mu.astype(jnp.float32) + (1 - b1) * grad
    square = b2 * nu.astype(jnp.float32) + (1 - b2) * grad**2
    step = mean / (1 - b1**count)
    step /= jnp.sqrt(square / (1 - b2**count)) + 1e-8
    # One draw of 32 bits serves both.
    bits = jax.random.bits(key, grad.shape, jnp.uint32)
    low, high = (bits & 0xFFFF).astype(jnp.uint16), (bits >> 16).astype(jnp.uint16)
    return step, rounded(mean, low), rounded(square, high)


def rounded(
    x: Float32[Array, "*axes"], bits: UInt16[Array, "*axes"]
) -> BFloat16[Array, "*axes"]:
    """x up or down to a bfloat16, up as often as x lies near the upper one.

    The lower half of a float32's bits is what bfloat16 cuts off; a random number added
    to it carries into the upper half with just that probability.
    """
    whole = jax.lax.bitcast_convert_type(x, jnp.uint32) + bits.astype(jnp.uint32)
    upper = whole & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(upper, jnp.float32).astype(jnp.bfloat16)
