"""A product with a weight of more outputs than inputs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def expand(x: Float[Array, "B T I"], weight: Float[Array, "*O I"]) -> Array:
    """x W^T, for more outputs than inputs: of an MLP, or of a low-rank update.

    The backward pass computes the gradient of W as (x^T y')^T. For y'^T x, XLA's CPU
    compiler would transpose y', the larger factor, and recompute the derivative of
    SwiGLU, which is fused with it, in transposed order; that takes a fifth of an
    update's time.
    """
    return jnp.tensordot(x, weight, (-1, -1))


def _forward(x, weight):
    return expand(x, weight), (x, weight)


def _backward(saved, grad_y):
    x, weight = saved
    outputs = tuple(range(weight.ndim - 1))
    axes_of_y = tuple(axis + 2 for axis in outputs)
    grad_x = jnp.tensordot(grad_y, weight, (axes_of_y, outputs))
    transposed = jnp.tensordot(x, grad_y, ((0, 1), (0, 1)))
    # Without the barrier, XLA removes the transpose by swapping the factors.
    return grad_x, jnp.moveaxis(jax.lax.optimization_barrier(transposed), 0, -1)


expand.defvjp(_forward, _backward)
