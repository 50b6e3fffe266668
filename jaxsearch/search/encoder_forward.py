"""Forward pass of a BERT encoder on devices: rows of ids in, vectors out."""

import collections
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float32, Int32

from jaxsearch.models.bert import Bert, BertParams
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.length_batches import Batch, padded

# Tokens per device and batch: large enough for full speed, small enough that the last
# batch is well filled.
CPU_TOKENS = 1024
ACCELERATOR_TOKENS = 16_384


class Forward:
    """A network with its parameters on some devices, which share the rows."""

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
        """Dispatches one batch and returns its vectors without waiting for them."""
        return self._embed(self._params, *jax.device_put((ids, lengths), self._rows))

    def encode(
        self,
        rows: Sequence[list[int]],
        batches: Iterable[Batch],
        vectors: Float32[np.ndarray, "n dims"],
        report: Callable[[int], None] = lambda num_done: None,
    ) -> None:
        """Writes the vector of each row into `vectors`, batch by batch.

        Args:
          rows: ids of each text.
          batches: a partition of the rows.
          report: called after each batch with the number of rows done so far.
        """
        num_done = 0

        def take(members: list[int], found: Array) -> None:
            nonlocal num_done
            vectors[members] = np.asarray(found)[: len(members)]
            num_done += len(members)
            report(num_done)

        # One batch is prepared on the host while another is computed.
        waiting: collections.deque = collections.deque()
        for batch in batches:
            ids, lengths = padded([rows[i] for i in batch.members], batch)
            waiting.append((batch.members, self(ids, lengths)))
            if len(waiting) > 1:
                take(*waiting.popleft())
        while waiting:
            take(*waiting.popleft())


def query_devices(query_device: QueryDevice) -> list[jax.Device]:
    """Returns the one device on which queries are encoded.

    Raises:
      ValueError: if the host's CPU is asked for and JAX_PLATFORMS leaves it out.
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
