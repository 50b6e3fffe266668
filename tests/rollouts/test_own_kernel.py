"""A user-defined decode kernel with a custom cache layout."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsearch.models.attention import attend
from jaxsearch.models.cache import PageLayout, Pages, gather
from jaxsearch.models.kernels import DecodeKernel


class OneArray(NamedTuple):
    """Keys and values in one array [2 N W K H]."""

    both: jnp.ndarray

    @classmethod
    def zeros(cls, num_pages, num_kv_heads, head_width, page_len, dtype):
        shape = (2, num_pages, page_len, num_kv_heads, head_width)
        return cls(jnp.zeros(shape, dtype))

    @property
    def num_pages(self):
        return self.both.shape[1]

    @property
    def page_len(self):
        return self.both.shape[2]

    @property
    def heads_axis(self):
        return 3

    def write(self, index, offsets, key, value):
        new = jnp.stack([key, value]).astype(self.both.dtype)
        return OneArray(self.both.at[:, index, offsets].set(new, mode="drop"))

    def put(self, index, new):
        keys = jnp.einsum("NKHW->NWKH", new.keys)
        values = jnp.einsum("NKWH->NWKH", new.values)
        both = jnp.stack([keys, values])
        return OneArray(self.both.at[:, index].set(both, mode="drop"))

    def gather(self, index):
        keys, values = self.both.at[:, index].get(mode="fill", fill_value=0)
        return Pages(
            keys=jnp.einsum("RMWKH->RMKHW", keys),
            values=jnp.einsum("RMWKH->RMKWH", values),
        )


def attend_one_array(query, segments, reads, window=None):
    assert all(isinstance(segment, OneArray) for segment in segments)
    keys, values = gather(segments, reads.pages)
    is_visible = jnp.arange(keys.shape[3])[None] < reads.lengths[:, None]
    return attend(query[:, None], keys, values, is_visible[:, None])[:, 0]


OWN = DecodeKernel(name="own", layout=OneArray, attend=attend_one_array, is_xla=True)


def test_rollouts_with_a_kernel_of_a_users_own(kit, questions):
    network = dataclasses.replace(kit.transformer, decode_kernel=OWN)
    assert isinstance(OneArray.zeros(1, 1, 2, 2, jnp.float32), PageLayout)
    found, expected = (
        kit.sampler(4, network=policy).run(
            kit.params,
            questions[:3],
            kit.environment(),
            group_size=4,
            stage=2,
            temperature=1.0,
        )[0]
        for policy in (network, kit.transformer)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=1e-4, atol=1e-5)
    assert {len(t.tool_calls) for t in found} > {0}
