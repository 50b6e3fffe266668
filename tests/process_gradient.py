"""The gradient of one batch on a mesh over the processes that the environment names.

Not a test: `test_several_processes.py` starts it. Arguments: data, fsdp, tensor, and
the file that the first process writes.
"""

import sys

import jax
import numpy as np

from jaxsearch import processes
from jaxsearch.mesh import (
    MeshShape,
    activation_sharding,
    head_sharding,
    make_mesh,
    put_batch,
    replicated,
    row_multiple,
    shardings,
)
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Transformer
from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig, make_optimizer
from jaxsearch.rl.rows import TrainRow
from jaxsearch.rl.update import Updater, begin_stage


def rows(num_rows=21, vocab_size=48):
    """Rows of many lengths, with policy tokens here and there."""
    rng = np.random.default_rng(0)
    for _ in range(num_rows):
        length = int(rng.integers(5, 40))
        loss_mask = rng.random(length) < 0.5
        loss_mask[0] = False
        yield TrainRow(
            tokens=rng.integers(0, vocab_size, length, dtype=np.int32),
            loss_mask=loss_mask,
            behavior_logprobs=rng.uniform(-5, -3, length).astype(np.float32),
            sampling_logprobs=np.zeros(length, np.float32),
            advantages=float(rng.normal()),
        )


def main(data: int, fsdp: int, tensor: int, path: str) -> None:
    mesh = make_mesh(MeshShape(data=data, fsdp=fsdp, tensor=tensor))
    transformer = Transformer(
        architecture=Architecture(
            vocab_size=48,
            width=32,
            mlp_width=64,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_width=8,
        ),
        activation_sharding=activation_sharding(mesh),
    )
    param_shardings = shardings(mesh, transformer.logical_axes, transformer.shapes)
    updater = Updater(
        forward=transformer.hidden,
        head=transformer.head,
        objective=PolicyObjective(kl_weight=0.1, entropy_weight=0.01),
        optimizer=make_optimizer(OptimizerConfig(learning_rate=1e-3), 10),
        head_sharding=head_sharding(mesh, param_shardings[transformer.head_name]),
    )
    params = jax.jit(transformer.init, out_shardings=param_shardings)(jax.random.key(0))
    state = begin_stage(params, updater.optimizer, needs_reference=True)
    batches = [
        put_batch(mesh, batch)
        for batch in microbatches(
            list(rows()),
            row_lens=(16, 32, 48),
            max_tokens=128,
            row_multiple=row_multiple(mesh),
        )
    ]
    sums, metrics = updater.gradient_sums(state, batches)
    # The step as well: it must run where the state is spread over processes.
    _, after = updater.update(state, batches)
    assert float(metrics["loss"].total) == float(after["loss"].total)
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(sums)
    if processes.is_primary():
        named = {
            jax.tree_util.keystr(leaf_path): np.asarray(leaf.addressable_data(0))
            for leaf_path, leaf in jax.tree.leaves_with_path(whole)
        }
        np.savez(path, loss=float(metrics["loss"].value), **named)


if __name__ == "__main__":
    processes.start()
    main(*map(int, sys.argv[1:4]), sys.argv[4])
