"""Adam with moments in bfloat16, which halves the memory of the optimizer state."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, BFloat16, Float32, UInt16


def scale_by_bfloat16_adam(b1: float, b2: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with moments stored in bfloat16, computed in float32.

    They are rounded stochastically, without bias. If they were rounded to nearest, a
    second moment would never change: with b2 = 0.999 a step changes it by up to a
    thousandth, while neighbouring bfloat16 numbers are four to eight thousandths apart.
    The random bits depend on the step number alone, so a resumed run draws the same
    ones.
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
        results = [
            _adam_step(jax.random.fold_in(key, i), *moments, b1, b2, count)
            for i, moments in enumerate(
                zip(
                    leaves,
                    jax.tree.leaves(state.mu),
                    jax.tree.leaves(state.nu),
                    strict=True,
                )
            )
        ]
        steps, mu, nu = (tree.unflatten(x) for x in zip(*results, strict=True))
        return steps, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


def _adam_step(
    key: Array, grad: Array, mu: Array, nu: Array, b1: float, b2: float, count: Array
) -> tuple[Array, Array, Array]:
    """The step of one parameter, and both updated moments."""
    mean = b1 * mu.astype(jnp.float32) + (1 - b1) * grad
    square = b2 * nu.astype(jnp.float32) + (1 - b2) * grad**2
    step = mean / (1 - b1**count)
    step /= jnp.sqrt(square / (1 - b2**count)) + 1e-8
    # Each half of a 32-bit draw rounds one of the two moments.
    bits = jax.random.bits(key, grad.shape, jnp.uint32)
    low, high = (bits & 0xFFFF).astype(jnp.uint16), (bits >> 16).astype(jnp.uint16)
    return (
        step,
        round_stochastically(mean, low),
        round_stochastically(square, high),
    )


def round_stochastically(
    x: Float32[Array, "*axes"], bits: UInt16[Array, "*axes"]
) -> BFloat16[Array, "*axes"]:
    """x rounded up or down to bfloat16 at random, so that the mean is x.

    bfloat16 drops the lower 16 bits of a float32. Adding 16 random bits to them carries
    into the upper half with the probability with which x should be rounded up.
    """
    whole = jax.lax.bitcast_convert_type(x, jnp.uint32) + bits.astype(jnp.uint32)
    upper = whole & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(upper, jnp.float32).astype(jnp.bfloat16)
