"""Log-probabilities of policy tokens, without logits for the others.

In a search rollout most tokens are retrieved. The head is applied to policy
positions alone, a chunk of them at a time, and again in the backward pass, so that
nothing of size [M T V] ever exists.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_CHUNK_POSITIONS = 2048  # logits of this many positions exist at once


def policy_logprobs(
    hidden: Float[Array, "M T D"],
    head: Float[Array, "V D"],
    tokens: Int[Array, "M T"],
    is_policy: Bool[Array, "M T"],
    temperature: Float[Array, ""],
) -> tuple[Float[Array, "M T"], Float[Array, "M T"]]:
    """log p(token | what is before it) and the entropy there, in nats.

    Both are 0 where not is_policy. A token is predicted from the hidden state of the
    position before it; position 0 cannot be a policy token. Float32 throughout the
    softmax; `temperature` divides the logits.
    """
    targets, is_target = tokens[:, 1:], is_policy[:, 1:]
    logprobs, entropy = _scored(hidden[:, :-1], head, targets, is_target, temperature)
    pad = ((0, 0), (1, 0))
    return jnp.pad(logprobs, pad), jnp.pad(entropy, pad)


@functools.partial(jax.custom_vjp, nondiff_argnums=())
def _scored(hidden, head, targets, is_target, temperature):
    return _forward(hidden, head, targets, is_target, temperature)[0]


def _chunks(is_target: Bool[Array, "M T"]) -> tuple[Array, int, Array]:
    """Per row, target positions first; columns per chunk; number of chunks in use.

    Positions are compacted within a row, never across rows, so that rows may be
    spread over devices.
    """
    M, T = is_target.shape
    width = min(T, max(1, _CHUNK_POSITIONS // M))
    order = jnp.argsort(~is_target, axis=1, stable=True)
    # Padding repeats the last column; its writes are dropped as out of turn.
    order = jnp.pad(order, ((0, 0), (0, -T % width)), mode="edge")
    num_chunks = -(-jnp.max(jnp.sum(is_target, axis=1)) // width)
    return order, width, num_chunks


def _chunk_logits(hidden, head, order, start, width, temperature):
    index = jax.lax.dynamic_slice_in_dim(order, start, width, axis=1)
    states = jnp.take_along_axis(hidden, index[..., None], axis=1)
    logits = jnp.einsum(
        "MCD,VD->MCV", states, head, preferred_element_type=jnp.float32
    )
    logits = logits / temperature
    return index, states, logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def _forward(hidden, head, targets, is_target, temperature):
    order, width, num_chunks = _chunks(is_target)
    rows = jnp.arange(targets.shape[0])[:, None]

    def body(i, carry):
        logprobs, entropy = carry
        index, _, logps = _chunk_logits(
            hidden, head, order, i * width, width, temperature
        )
        token = jnp.take_along_axis(targets, index, axis=1)
        chosen = jnp.take_along_axis(logps, token[..., None], axis=-1)[..., 0]
        return (
            logprobs.at[rows, index].set(chosen),
            entropy.at[rows, index].set(-jnp.sum(jnp.exp(logps) * logps, axis=-1)),
        )

    zeros = jnp.zeros(targets.shape, jnp.float32)
    logprobs, entropy = jax.lax.fori_loop(0, num_chunks, body, (zeros, zeros))
    out = (jnp.where(is_target, logprobs, 0.0), jnp.where(is_target, entropy, 0.0))
    return out, (hidden, head, targets, is_target, temperature)


def _backward(saved, cotangents):
    hidden, head, targets, is_target, temperature = saved
    order, width, num_chunks = _chunks(is_target)
    T = targets.shape[1]
    rows = jnp.arange(targets.shape[0])[:, None]
    from_logprobs, from_entropy = (jnp.where(is_target, c, 0.0) for c in cotangents)

    def body(i, carry):
        hidden_grad, head_grad = carry
        index, states, logps = _chunk_logits(
            hidden, head, order, i * width, width, temperature
        )
        probs = jnp.exp(logps)
        entropy = -jnp.sum(probs * logps, axis=-1, keepdims=True)
        # A repeated column of the padding may count once only.
        is_new = (i * width + jnp.arange(width) < T)[None]
        logprob_ct = jnp.where(
            is_new, jnp.take_along_axis(from_logprobs, index, axis=1), 0.0
        )[..., None]
        entropy_ct = jnp.where(
            is_new, jnp.take_along_axis(from_entropy, index, axis=1), 0.0
        )[..., None]
        token = jnp.take_along_axis(targets, index, axis=1)
        logits_grad = -probs * (logprob_ct + entropy_ct * (logps + entropy))
        columns = jnp.arange(width)[None]
        logits_grad = logits_grad.at[rows, columns, token].add(logprob_ct[..., 0])
        logits_grad = (logits_grad / temperature).astype(head.dtype)
        states_grad = jnp.einsum("MCV,VD->MCD", logits_grad, head)
        head_grad += jnp.einsum(
            "MCV,MCD->VD", logits_grad, states, preferred_element_type=jnp.float32
        )
        return hidden_grad.at[rows, index].add(states_grad), head_grad

    start = (jnp.zeros_like(hidden), jnp.zeros(head.shape, jnp.float32))
    hidden_grad, head_grad = jax.lax.fori_loop(0, num_chunks, body, start)
    return hidden_grad, head_grad.astype(head.dtype), None, None, None


_scored.defvjp(_forward, _backward)
