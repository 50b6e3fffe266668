"""Log-probabilities of policy tokens, without logits for the others.

In a search rollout most tokens are retrieved. The head is applied to policy
positions alone, a chunk of them at a time, and again in the backward pass, so that
nothing of size [M T V] ever exists.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxsearch.rl.head_sharding import Axes, HeadSharding

# Logits that exist at once: so many positions, and so many numbers (128 MB). Chunks
# must be short where V is large, since a row's last one is mostly padding.
_CHUNK_POSITIONS = 384
_CHUNK_LOGITS = 2**25


def policy_logprobs(
    hidden: Float[Array, "M T D"],
    head: Float[Array, "V D"],
    tokens: Int[Array, "M T"],
    loss_mask: Bool[Array, "M T"],
    temperature: Float[Array, ""],
    head_sharding: HeadSharding | None = None,
) -> tuple[Float[Array, "M T"], Float[Array, "M T"]]:
    """log p(token | what is before it) and the entropy there, in nats.

    Both are 0 where not loss_mask, and nothing of those positions is read: neither
    values nor gradients depend on them, be they NaN. A token is predicted from the
    hidden state of the position before it; position 0 cannot be a policy token.
    Float32 throughout the softmax; `temperature` divides the logits and is taken as
    a constant: no gradient flows into it.

    With `head_sharding` each device computes its own rows against its shard of the
    vocabulary. Positions are packed within a device, never across devices.
    """
    if tokens.shape[1] < 2:
        raise ValueError(f"a row needs at least 2 positions, got {tokens.shape[1]}")

    num_parts = 1 if head_sharding is None else head_sharding.num_parts(tokens)

    def by_parts(x: Array) -> Array:
        return x.reshape(num_parts, -1, *x.shape[2:])

    targets, is_target = tokens[:, 1:], loss_mask[:, 1:]
    states, ids, is_read = map(by_parts, (hidden[:, :-1], targets, is_target))
    scores = _scored(states, head, ids, is_read, temperature, head_sharding)
    pad = ((0, 0), (1, 0))
    logprobs, entropy = (jnp.pad(x.reshape(targets.shape), pad) for x in scores)
    return logprobs, entropy


def chunk_width(num_rows: int, row_len: int, vocab_size: int) -> int:
    """Positions of each row that are scored at once, on one device."""
    positions = min(_CHUNK_POSITIONS, _CHUNK_LOGITS // vocab_size)
    return min(row_len, max(1, positions // num_rows))


def max_chunks(row_len: int, vocab_size: int) -> int:
    """Chunks that one row of a device takes if all of its tokens count."""
    return -(-row_len // chunk_width(1, row_len, vocab_size))


class _Chunks(NamedTuple):
    """Where the positions that count go: first in their row, then cut in columns.

    They are moved within a row, never across rows, and by permutations, never by
    scatters: rows may be spread over devices and none has to move.

    Attributes:
      order: position that column c of a row takes, [M T].
      inverse: column that a position went to, [M T].
      width: columns of a chunk.
      num_chunks: in use; an array, so rows of padding cost nothing.
    """

    order: Array
    inverse: Array
    width: int
    num_chunks: Array

    @classmethod
    def of(
        cls,
        is_target: Bool[Array, "M T"],
        vocab_size: int,
        head_sharding: HeadSharding | None,
    ) -> "_Chunks":
        M, T = is_target.shape
        width = chunk_width(M, T, vocab_size)
        order = jnp.argsort(~is_target, axis=1, stable=True)
        num_chunks = -(-jnp.max(jnp.sum(is_target, axis=1)) // width)
        if head_sharding is not None:
            # As often on every device: all wait for the last one anyway, and none
            # may be asked for a sum over the vocabulary when another has left.
            num_chunks = _joined(jax.lax.pmax, num_chunks, head_sharding.row_axes)
        return cls(
            order=order,
            inverse=jnp.argsort(order, axis=1),
            width=width,
            num_chunks=num_chunks,
        )

    def pack(self, x: Array, is_target: Bool[Array, "M T"]) -> Array:
        """Values that count first in each row, then zeros, up to whole chunks."""
        trailing = (1,) * (x.ndim - 2)
        order = self.order.reshape(*self.order.shape, *trailing)
        is_kept = jnp.take_along_axis(is_target, self.order, axis=1)
        is_kept = is_kept.reshape(order.shape)
        packed = jnp.where(
            is_kept, jnp.take_along_axis(x, order, axis=1), jnp.zeros((), x.dtype)
        )
        return jnp.pad(packed, ((0, 0), (0, self._padding), *((0, 0),) * len(trailing)))

    def unpack(self, packed: Array) -> Array:
        """Every position gets its value back."""
        inverse = self.inverse.reshape(*self.inverse.shape, *(1,) * (packed.ndim - 2))
        return jnp.take_along_axis(packed, inverse, axis=1)

    def cut(self, packed: Array, i: Array) -> Array:
        """Columns of chunk i."""
        return jax.lax.dynamic_slice_in_dim(packed, i * self.width, self.width, axis=1)

    def paste(self, packed: Array, chunk: Array, i: Array) -> Array:
        """`packed` with the columns of chunk i replaced."""
        return jax.lax.dynamic_update_slice_in_dim(
            packed, chunk, i * self.width, axis=1
        )

    @property
    def _padding(self) -> int:
        return -self.order.shape[1] % self.width


def _logits(
    states: Float[Array, "M C D"], head: Float[Array, "V D"], temperature: ArrayLike
) -> Float[Array, "M C V"]:
    logits = jnp.einsum("MCD,VD->MCV", states, head, preferred_element_type=jnp.float32)
    return logits / temperature


def _log_total(
    logits: Float[Array, "M C V"], vocab_axis: str | None
) -> Float[Array, "M C 1"]:
    """log of the sum of exponentials, over the vocabulary of all devices."""
    if vocab_axis is None:
        return jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    top = jax.lax.pmax(jnp.max(logits, -1, keepdims=True), vocab_axis)
    total = jnp.sum(jnp.exp(logits - top), -1, keepdims=True)
    return top + jnp.log(jax.lax.psum(total, vocab_axis))


def _is_chosen(
    tokens: Int[Array, "M C"], num_ids: int, vocab_axis: str | None
) -> Bool[Array, "M C V"]:
    """Which of a device's ids are the tokens.

    A comparison, not a gather: it needs no other part of a vocabulary that is spread
    over devices, and fuses with what reads it.
    """
    start = 0 if vocab_axis is None else jax.lax.axis_index(vocab_axis) * num_ids
    return tokens[..., None] == (start + jnp.arange(num_ids))[None, None]


def _joined(join: Callable[..., Any], x: Any, axis: Axes) -> Any:
    return x if axis is None else join(x, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _scored(hidden, head, targets, is_target, temperature, head_sharding):
    return _forward(hidden, head, targets, is_target, temperature, head_sharding)[0]


def _forward(hidden, head, targets, is_target, temperature, head_sharding):
    given = (hidden, head, targets, is_target, temperature)
    if head_sharding is None:
        logprobs, entropy, *kept = _scores(*given)
        return (logprobs, entropy), (*given, *kept)
    rows, whole = head_sharding.rows.spec, head_sharding.whole.spec
    # Gathered once, for the backward pass too: that follows soon.
    head = jax.lax.with_sharding_constraint(head, head_sharding.head)
    head = jax.lax.with_sharding_constraint(head, head_sharding.whole)
    given = (hidden, head, targets, is_target, temperature)
    scores = jax.shard_map(
        functools.partial(_scores, head_sharding=head_sharding),
        mesh=head_sharding.rows.mesh,
        in_specs=(rows, whole, rows, rows, PartitionSpec()),
        out_specs=(rows,) * 4,
        check_vma=False,
    )
    logprobs, entropy, *kept = scores(*given)
    return (logprobs, entropy), (*given, *kept)


def _scores(hidden, head, targets, is_target, temperature, head_sharding=None):
    """Log-probs and entropies of one device's rows.

    And for the backward pass, chunk by chunk: entropies, and logs of the totals.
    """
    chunks = _Chunks.of(is_target, head.shape[0], head_sharding)
    states = chunks.pack(hidden, is_target)
    tokens = chunks.pack(targets, is_target)
    vocab_axis = None if head_sharding is None else head_sharding.vocab_axis

    def body(i, carry):
        logits = _logits(chunks.cut(states, i), head, temperature)
        log_total = _log_total(logits, vocab_axis)
        logps = logits - log_total
        is_chosen = _is_chosen(chunks.cut(tokens, i), head.shape[0], vocab_axis)
        chosen = jnp.sum(jnp.where(is_chosen, logps, 0.0), axis=-1)
        probs = jnp.exp(logps)
        # 0 log 0 is 0. (And XLA's CPU compiler sums plain products slowly.)
        spread = -jnp.sum(jnp.where(probs > 0, probs * logps, 0.0), axis=-1)
        chosen, spread = _joined(jax.lax.psum, (chosen, spread), vocab_axis)
        found = (chosen, spread, log_total[..., 0])
        return tuple(chunks.paste(x, y, i) for x, y in zip(carry, found, strict=True))

    zeros = jnp.zeros(tokens.shape, jnp.float32)
    start = (zeros, zeros, zeros)
    *scores, log_totals = jax.lax.fori_loop(0, chunks.num_chunks, body, start)
    logprobs, entropy = (jnp.where(is_target, chunks.unpack(x), 0.0) for x in scores)
    return logprobs, entropy, scores[1], log_totals


def _backward(head_sharding, saved, cotangents):
    if head_sharding is None:
        hidden_grad, head_grad = _gradients(saved, cotangents)
        return hidden_grad, head_grad, None, None, None
    rows, whole = head_sharding.rows.spec, head_sharding.whole.spec
    gradients = jax.shard_map(
        functools.partial(_gradients, head_sharding=head_sharding),
        mesh=head_sharding.rows.mesh,
        in_specs=((rows, whole, rows, rows, PartitionSpec(), rows, rows), (rows, rows)),
        out_specs=(rows, head_sharding.head.spec),
        check_vma=False,
    )
    hidden_grad, head_grad = gradients(saved, cotangents)
    return hidden_grad, head_grad, None, None, None


def _gradients(saved, cotangents, head_sharding=None):
    """Of the hidden states of one device's rows, and of its part of the head."""
    hidden, head, targets, is_target, temperature, entropies, log_totals = saved
    chunks = _Chunks.of(is_target, head.shape[0], head_sharding)
    states = chunks.pack(hidden, is_target)
    tokens = chunks.pack(targets, is_target)
    # Zero beyond the positions that count: what a chunk holds of them adds nothing.
    of_logprobs, of_entropy = (chunks.pack(ct, is_target) for ct in cotangents)
    vocab_axis = None if head_sharding is None else head_sharding.vocab_axis

    def body(i, carry):
        states_grad, head_grad = carry
        chunk = chunks.cut(states, i)
        logps = _logits(chunk, head, temperature) - chunks.cut(log_totals, i)[..., None]
        probs = jnp.exp(logps)
        entropy = chunks.cut(entropies, i)[..., None]
        of_logprob = chunks.cut(of_logprobs, i)[..., None]
        of_spread = chunks.cut(of_entropy, i)[..., None]
        is_chosen = _is_chosen(chunks.cut(tokens, i), head.shape[0], vocab_axis)
        logits_grad = (
            jnp.where(is_chosen, of_logprob, 0.0)
            - probs * (of_logprob + of_spread * (logps + entropy))
        ) / temperature
        logits_grad = logits_grad.astype(head.dtype)
        chunk_grad = jnp.einsum(
            "MCV,VD->MCD", logits_grad, head, preferred_element_type=jnp.float32
        )
        head_grad += jnp.einsum(
            "MCV,MCD->VD", logits_grad, chunk, preferred_element_type=jnp.float32
        )
        return chunks.paste(states_grad, chunk_grad.astype(hidden.dtype), i), head_grad

    start = (jnp.zeros_like(states), jnp.zeros(head.shape, jnp.float32))
    states_grad, head_grad = jax.lax.fori_loop(0, chunks.num_chunks, body, start)
    hidden_grad = _joined(jax.lax.psum, chunks.unpack(states_grad), vocab_axis)
    head_grad = head_grad.astype(head.dtype)
    return hidden_grad, head_grad if head_sharding is None else head_sharding.summed(
        head_grad
    )


_scored.defvjp(_forward, _backward)
