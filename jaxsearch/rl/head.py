"""Log-probabilities of the tokens that count, without logits for the others.

In a search rollout most tokens are retrieved. The head is applied only to positions
that count in the loss, in chunks, and again in the backward pass, so that no array of
size [M T V] is ever created.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.id_ranges import IdRanges, has_token
from jaxsearch.rl.head_chunks import Chunks, reduce_over
from jaxsearch.rl.head_sharding import HeadSharding

# The logit of an id without a token. Not -inf, because 0 * -inf would be NaN.
_NO_LOGIT = -1e30


def policy_logprobs(
    hidden: Float[Array, "M T D"],
    head: Float[Array, "V D"],
    tokens: Int[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    temperature: Float[Array, ""],
    head_sharding: HeadSharding | None = None,
    id_ranges: IdRanges | None = None,
) -> tuple[Float[Array, "M T"], Float[Array, "M T"]]:
    """log p(token | previous tokens) and the entropy at that position, in nats.

    Both are 0 where not loss_mask. Values and gradients do not depend on the inputs at
    those positions, even if they are NaN. A token is predicted from the hidden state of
    the position before it, so position 0 cannot count. The softmax is computed in
    float32; `temperature` divides the logits and gets no gradient.

    With `head_sharding` each device computes its own rows against its shard of the
    vocabulary. Positions are packed within a device, never across devices.

    With `id_ranges`, (start, stop) pairs of the ids that have a token, all other ids
    have probability 0, as in the sampler. This costs a comparison per logit, which XLA
    fuses into the softmax, forward and backward; no logits are gathered.
    """
    if tokens.shape[1] < 2:
        raise ValueError(f"a row needs at least 2 positions, got {tokens.shape[1]}")

    num_shards = 1 if head_sharding is None else head_sharding.num_row_shards(tokens)

    def by_shard(x: Array) -> Array:
        return x.reshape(num_shards, -1, *x.shape[2:])

    targets, is_target = tokens[:, 1:], loss_mask[:, 1:]
    states, ids, is_read = map(by_shard, (hidden[:, :-1], targets, is_target))
    scores = _logprobs_and_entropy(
        states, head, ids, is_read, temperature, head_sharding, id_ranges
    )
    pad = ((0, 0), (1, 0))
    logprobs, entropy = (jnp.pad(x.reshape(targets.shape), pad) for x in scores)
    return logprobs, entropy


def _logits(
    states: Float[Array, "M C D"],
    head: Float[Array, "V D"],
    temperature: ArrayLike,
    vocab_axis: str | None,
    id_ranges: IdRanges | None,
) -> Float[Array, "M C V"]:
    logits = jnp.einsum("MCD,VD->MCV", states, head, preferred_element_type=jnp.float32)
    logits = logits / temperature
    if id_ranges is None:
        return logits
    is_token = has_token(_ids(len(head), vocab_axis), id_ranges)
    return jnp.where(is_token[None, None], logits, _NO_LOGIT)


def _ids(num_ids: int, vocab_axis: str | None) -> Int[Array, " V"]:
    """The ids of a device's shard of the vocabulary."""
    start = 0 if vocab_axis is None else jax.lax.axis_index(vocab_axis) * num_ids
    return start + jnp.arange(num_ids)


def _log_total(
    logits: Float[Array, "M C V"], vocab_axis: str | None
) -> Float[Array, "M C 1"]:
    """Log of the sum of exponentials over the whole vocabulary."""
    if vocab_axis is None:
        return jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    top = jax.lax.pmax(jnp.max(logits, -1, keepdims=True), vocab_axis)
    total = jnp.sum(jnp.exp(logits - top), -1, keepdims=True)
    return top + jnp.log(jax.lax.psum(total, vocab_axis))


def _is_chosen(
    tokens: Int[Array, "M C"], num_ids: int, vocab_axis: str | None
) -> Bool[Array, "M C V"]:
    """One-hot tokens over the ids of a device's shard of the vocabulary.

    Unlike a gather, a comparison does not need the other shards, and XLA fuses it.
    """
    return tokens[..., None] == _ids(num_ids, vocab_axis)[None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _logprobs_and_entropy(
    hidden, head, targets, is_target, temperature, head_sharding, id_ranges
):
    return _forward(
        hidden, head, targets, is_target, temperature, head_sharding, id_ranges
    )[0]


def _forward(hidden, head, targets, is_target, temperature, head_sharding, id_ranges):
    arguments = (hidden, head, targets, is_target, temperature)
    if head_sharding is None:
        logprobs, entropy, *kept = _forward_on_device(*arguments, id_ranges=id_ranges)
        return (logprobs, entropy), (*arguments, *kept)
    rows, whole = head_sharding.rows.spec, head_sharding.whole.spec
    # Gathered once and kept for the backward pass, which follows soon after.
    head = jax.lax.with_sharding_constraint(head, head_sharding.head)
    head = jax.lax.with_sharding_constraint(head, head_sharding.whole)
    arguments = (hidden, head, targets, is_target, temperature)
    scores = jax.shard_map(
        functools.partial(
            _forward_on_device, head_sharding=head_sharding, id_ranges=id_ranges
        ),
        mesh=head_sharding.rows.mesh,
        in_specs=(rows, whole, rows, rows, PartitionSpec()),
        out_specs=(rows,) * 4,
        check_vma=False,
    )
    logprobs, entropy, *kept = scores(*arguments)
    return (logprobs, entropy), (*arguments, *kept)


def _forward_on_device(
    hidden,
    head,
    targets,
    is_target,
    temperature,
    head_sharding=None,
    id_ranges=None,
):
    """Log-probs and entropies of one device's rows, and residuals.

    The residuals for `_backward_on_device` are entropies and logsumexps, packed.
    """
    chunks = Chunks.of(is_target, head.shape[0], head_sharding)
    states = chunks.pack(hidden, is_target)
    tokens = chunks.pack(targets, is_target)
    vocab_axis = None if head_sharding is None else head_sharding.vocab_axis

    def body(i, carry):
        chunk = chunks.read(states, i)
        logits = _logits(chunk, head, temperature, vocab_axis, id_ranges)
        log_total = _log_total(logits, vocab_axis)
        logps = logits - log_total
        is_chosen = _is_chosen(chunks.read(tokens, i), head.shape[0], vocab_axis)
        chosen = jnp.sum(jnp.where(is_chosen, logps, 0.0), axis=-1)
        probs = jnp.exp(logps)
        # 0 log 0 is 0. (`where` is also faster than the plain product on a CPU.)
        entropy = -jnp.sum(jnp.where(probs > 0, probs * logps, 0.0), axis=-1)
        chosen, entropy = reduce_over(jax.lax.psum, (chosen, entropy), vocab_axis)
        found = (chosen, entropy, log_total[..., 0])
        return tuple(chunks.write(x, y, i) for x, y in zip(carry, found, strict=True))

    zeros = jnp.zeros(tokens.shape, jnp.float32)
    start = (zeros, zeros, zeros)
    *scores, log_totals = jax.lax.fori_loop(0, chunks.num_chunks, body, start)
    logprobs, entropy = (jnp.where(is_target, chunks.unpack(x), 0.0) for x in scores)
    return logprobs, entropy, scores[1], log_totals


def _backward(head_sharding, id_ranges, saved, cotangents):
    if head_sharding is None:
        hidden_grad, head_grad = _backward_on_device(
            saved, cotangents, id_ranges=id_ranges
        )
        return hidden_grad, head_grad, None, None, None
    rows, whole = head_sharding.rows.spec, head_sharding.whole.spec
    gradients = jax.shard_map(
        functools.partial(
            _backward_on_device, head_sharding=head_sharding, id_ranges=id_ranges
        ),
        mesh=head_sharding.rows.mesh,
        in_specs=((rows, whole, rows, rows, PartitionSpec(), rows, rows), (rows, rows)),
        out_specs=(rows, head_sharding.head.spec),
        check_vma=False,
    )
    hidden_grad, head_grad = gradients(saved, cotangents)
    return hidden_grad, head_grad, None, None, None


def _backward_on_device(saved, cotangents, head_sharding=None, id_ranges=None):
    """Gradients of one device's hidden states, and of its shard of the head."""
    hidden, head, targets, is_target, temperature, entropies, log_totals = saved
    chunks = Chunks.of(is_target, head.shape[0], head_sharding)
    states = chunks.pack(hidden, is_target)
    tokens = chunks.pack(targets, is_target)
    # Zero after the positions that count, so that the padding of a chunk adds nothing.
    logprob_cts, entropy_cts = (chunks.pack(ct, is_target) for ct in cotangents)
    vocab_axis = None if head_sharding is None else head_sharding.vocab_axis

    def body(i, carry):
        states_grad, head_grad = carry
        chunk = chunks.read(states, i)
        logits = _logits(chunk, head, temperature, vocab_axis, id_ranges)
        logps = logits - chunks.read(log_totals, i)[..., None]
        probs = jnp.exp(logps)
        entropy = chunks.read(entropies, i)[..., None]
        logprob_ct = chunks.read(logprob_cts, i)[..., None]
        entropy_ct = chunks.read(entropy_cts, i)[..., None]
        is_chosen = _is_chosen(chunks.read(tokens, i), head.shape[0], vocab_axis)
        logits_grad = (
            jnp.where(is_chosen, logprob_ct, 0.0)
            - probs * (logprob_ct + entropy_ct * (logps + entropy))
        ) / temperature
        logits_grad = logits_grad.astype(head.dtype)
        chunk_grad = jnp.einsum(
            "MCV,VD->MCD", logits_grad, head, preferred_element_type=jnp.float32
        )
        head_grad += jnp.einsum(
            "MCV,MCD->VD", logits_grad, chunk, preferred_element_type=jnp.float32
        )
        return chunks.write(states_grad, chunk_grad.astype(hidden.dtype), i), head_grad

    start = (jnp.zeros_like(states), jnp.zeros(head.shape, jnp.float32))
    states_grad, head_grad = jax.lax.fori_loop(0, chunks.num_chunks, body, start)
    hidden_grad = reduce_over(jax.lax.psum, chunks.unpack(states_grad), vocab_axis)
    head_grad = head_grad.astype(head.dtype)
    if head_sharding is not None:
        head_grad = head_sharding.sum_over_rows(head_grad)
    return hidden_grad, head_grad


_logprobs_and_entropy.defvjp(_forward, _backward)
