"""Synchronises weights in one of several processes, started by `test_weight_sync.py`.

Arguments: port of process 0, number of processes, number of this one.
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp

from jaxsearch.mesh import MeshShape, make_mesh
from tests.models.test_transformer import QWEN
from tests.run.test_weight_sync import SIZES, check_published


def main(port: str, num_processes: str, number: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", int(num_processes), int(number))
    devices = jax.devices()
    # Devices of a process are not adjacent, as on a torus: 0, 4, 1, 5, and so on.
    mixed = [devices[i // 2 + 4 * (i % 2)] for i in range(8)]
    architecture = dataclasses.replace(QWEN, **SIZES)
    settings = [
        (MeshShape(), devices, 1),
        (MeshShape(data=2, fsdp=2, tensor=2), devices, 2),
        (MeshShape(fsdp=2, tensor=4), devices, 1),
        (MeshShape(), mixed, 2),
        (MeshShape(data=2, fsdp=2, tensor=2), mixed, 2),
    ]
    for shape, order, tensor in settings:
        mesh = make_mesh(shape, order)
        assert [*mesh.devices.flat] == order
        check_published(architecture, mesh, tensor, dtype=jnp.bfloat16)
    print(f"published {len(settings)} times")


if __name__ == "__main__":
    main(*sys.argv[1:])
