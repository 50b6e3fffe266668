"""An encoder's network on devices: rows of ids in, vectors out."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float32, Int32

from jaxsearch.models.bert import Bert, BertParams
from jaxsearch.search.encoder_options import QueryDevice

# Of a batch on each device: full speed, and a last batch that is soon full.
CPU_TOKENS = 1024
ACCELERATOR_TOKENS = 16_384


class Forward:
    """The network on some devices, over which the rows of a batch are spread."""

    def __init__(self, bert: Bert, params: BertParams, devices: Sequence[jax.Device]):
        mesh = Mesh(np.array(devices), ("rows",), axis_types=(AxisType.Auto,))
        is_cpu = devices[0].platform == "cpu"
        self.num_devices = len(devices)
        self.num_tokens = len(devices) * (CPU_TOKENS if is_cpu else ACCELERATOR_TOKENS)
        self._rows = NamedSharding(mesh, PartitionSpec("rows"))
        params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
        self._params = jax.jit(bert.for_encoding)(params)
        self._embed = jax.jit(bert.embed)

    def __call__(
        self, ids: Int32[np.ndarray, "B T"], lengths: Int32[np.ndarray, " B"]
    ) -> Float32[Array, "B dims"]:
        """Vectors of the rows; returns before they are there."""
        return self._embed(self._params, *jax.device_put((ids, lengths), self._rows))


def query_devices(query_device: QueryDevice) -> list[jax.Device]:
    """The one device that queries are computed on.

    Errors: ValueError if it should be the host's and JAX was told to leave that out.
    """
    if query_device == "accelerator":
        return jax.local_devices()[:1]
    try:
        return jax.local_devices(backend="cpu")[:1]
    except RuntimeError as error:
        raise ValueError(
            f"queries are encoded on the host's CPU, which JAX does not see ({error}); "
            "add cpu to JAX_PLATFORMS, or choose --retrieval.query-device accelerator"
        ) from None
