"""Devices that share a copy of the policy: the same rollouts, little communication."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.mesh import MeshShape, make_mesh, shardings
from jaxsearch.models.cache import empty_cache
from jaxsearch.models.page_attention import PLAIN_PAGES
from jaxsearch.models.transformer import Transformer
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.layout import (
    on_replica,
    replica_meshes,
    rollout_shardings,
    slot_shardings,
)
from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.rollouts.slots import empty_slots
from jaxsearch.run.weight_sync import WeightSync
from tests.models.test_transformer import QWEN
from tests.programs import compile_to_read
from tests.rollouts.conftest import random_params
from tests.rollouts.test_replicas import rolled_out
from tests.segments import whole_rows
from tests.tpu_compiler import printed_with_tpu_compiler

TENSOR = 2


@pytest.fixture(scope="module")
def network(kit):
    """The kit's network, with a key/value head for each of two devices, and biases."""
    sizes = dataclasses.replace(kit.transformer.architecture, num_kv_heads=2)
    return dataclasses.replace(kit.transformer, architecture=sizes)


@pytest.fixture(scope="module")
def rollout_params(network):
    """Parameters for replicas of two devices, from a mesh that shards every axis."""
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    [replica, *_] = replica_meshes(mesh.local_devices, TENSOR)
    places = shardings(mesh, network.logical_axes, network.shapes)
    params = jax.device_put(random_params(network), places)
    return WeightSync(on_replica(network, replica), mesh)(params)


@pytest.mark.long
def test_devices_that_share_a_copy_sample_the_same(
    kit, network, rollout_params, questions, compilations
):
    """Two replicas of two devices each against one device, without recompilation."""
    one = kit.sampler(4, network=network)
    params = jax.jit(network.for_rollouts)(random_params(network))
    expected, _ = rolled_out(kit, one, params, questions)
    replicas = replica_meshes(jax.devices(), TENSOR, 2)
    shared = kit.sampler(4, network=on_replica(network, replicas[0]), replicas=replicas)
    shared.warm_up(rollout_params, 4)
    before = compilations()
    done, _ = rolled_out(kit, shared, rollout_params, questions)
    assert compilations() == before
    for a, b in zip(done, expected, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.is_policy, b.is_policy)
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-5)
    assert {len(t.tool_calls) for t in done} >= {0, 1, 2}
    # Sampler = trainer, on the same rows.
    logps = plain_logprobs(network, done)
    for trajectory, row in zip(done, logps, strict=True):
        where = trajectory.is_policy
        np.testing.assert_allclose(
            trajectory.logprobs[where], row[: len(where)][where], rtol=1e-4, atol=1e-5
        )


def plain_logprobs(network, trajectories):
    """Log-prob of each token given those before it, by one plain forward pass."""
    lengths = np.array([len(t.tokens) for t in trajectories], np.int32)
    tokens = np.zeros((len(lengths), lengths.max()), np.int32)
    for row, trajectory in zip(tokens, trajectories, strict=True):
        row[: len(trajectory.tokens)] = trajectory.tokens

    @jax.jit
    def logprobs(params, tokens, segments):
        hidden = network.hidden(params, tokens, segments)
        logits = jnp.einsum("BTD,VD->BTV", hidden, network.head(params))
        return jax.nn.log_softmax(logits)

    segments = whole_rows(lengths, tokens.shape[1])
    logps = np.asarray(logprobs(random_params(network), tokens, segments))
    chosen = np.take_along_axis(logps[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
    return np.pad(chosen, ((0, 0), (1, 0)))


# ------------------------------------------------------------------- what is sent

B, S, W = 8, 256, 32
WHOLE = TopKTopP()
SIZES = dataclasses.replace(
    QWEN, vocab_size=512, num_layers=2, num_kv_heads=2, has_tied_head=False
)


def lowered(devices, sizes=SIZES, dtype=jnp.float32, kernel=PLAIN_PAGES, cut=WHOLE):
    """The lowered decode for eight slots, and one observe, on a replica of devices."""
    [mesh] = replica_meshes(devices, len(devices))
    network = Transformer(architecture=sizes, dtype=dtype, decode_kernel=kernel)
    network = on_replica(network, mesh)
    programs = Programs(
        transformer=network,
        end_ids=(0,),
        max_turn_len=64,
        truncation=cut,
        seed=0,
    )

    def placed(shapes, places):
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            shapes,
            places,
        )

    def ids(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    # The TPU kernel reads pages by their index from one array.
    segments = (64,) if kernel.reads_owned_pages else (24, 40)
    slots = jax.eval_shape(
        lambda: empty_slots(
            *(B, S),
            empty_cache(sizes, segments, W, dtype, kernel.layout),
        )
    )
    slots = placed(slots, slot_shardings(mesh, slots))
    params = jax.eval_shape(network.for_rollouts, network.shapes)
    params = placed(params, rollout_shardings(mesh, network))
    M = S // W
    decode = Programs.decode.lower(
        programs,
        *(params, slots, ids(B), ids(B, M), ids(5, sizes.vocab_size)),
        *(jax.ShapeDtypeStruct((), jnp.float32), ids(), ids(), sum(segments)),
    )
    observe = Programs.observe.lower(
        programs,
        *(params, slots, ids(4), ids(4, M), ids(4, 32), ids(4), ids(4)),
    )
    return decode, observe


def collectives(text):
    """The collectives of a compiled program: shape and kind of each."""
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    return sorted(re.findall(rf"= \w+\[([\d,]*)\]\S* ({kinds})(?:-start)?\(", text))


@pytest.mark.slow
@pytest.mark.parametrize("cut", [WHOLE, TopKTopP(top_p=0.95)])
def test_a_layer_sums_twice_and_neither_weights_nor_cache_nor_logits_move(cut):
    """Embedded tokens are summed once more; sampling exchanges numbers of rows."""

    def sent(num_devices):
        programs = lowered(jax.devices()[:num_devices], cut=cut)
        return [collectives(compile_to_read(program).as_text()) for program in programs]

    decode, observe = sent(TENSOR)
    D = SIZES.width
    sums = 2 * SIZES.num_layers + 1
    of_rows = {(f"{B}", "all-reduce"), (f"{TENSOR},{B}", "all-gather")}
    if cut.top_p is not None:
        of_rows.add((f"{TENSOR},{B},64", "all-gather"))  # candidates
    assert of_rows < set(decode)
    layers = [one for one in decode if one not in of_rows]
    assert layers == [(f"{B},1,{D}", "all-reduce")] * sums
    # Only the keys and values of the last layer are computed in an append.
    assert observe == [(f"4,32,{D}", "all-reduce")] * (sums - 2)
    assert sent(1) == [[], []]


# Two v5e chips, Qwen2.5-7B's heads: one kernel per layer.
FOR_TPUS = """
import dataclasses, jax.numpy as jnp
from jax.experimental import topologies
from jaxsearch.models.tpu_page_attention import TPU_PAGES
from tests.rollouts.test_tensor import SIZES, collectives, lowered

devices = topologies.get_topology_desc(
    topology_name="v5e:2x2", platform="tpu"
).devices
sizes = dataclasses.replace(SIZES, num_heads=28, num_kv_heads=4, head_width=128)
for program in lowered(list(devices[:2]), sizes, jnp.bfloat16, TPU_PAGES):
    text = program.compile().as_text()
    print(text.count('custom_call_target="tpu_custom_call"'), len(collectives(text)))
"""


@pytest.mark.slow
def test_two_tpus_that_share_a_copy_run_the_kernel_by_heads():
    printed = printed_with_tpu_compiler(FOR_TPUS)
    assert printed.splitlines() == ["2 9", "0 3"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_kv_heads": 1, "num_heads": 4},
            "rollout.tensor 2 does not fit: blocks/.*key.* 'kv_heads' of size 1",
        ),
        ({"mlp_width": 47}, "blocks/mlp/down: axis 'mlp' of size 47"),
        ({"vocab_size": 15}, "embedding: axis 'vocab' of size 15"),
    ],
)
def test_what_devices_cannot_share_is_refused_before_anything_compiles(
    changes, message
):
    [mesh, *_] = replica_meshes(jax.devices(), TENSOR)
    sizes = dataclasses.replace(SIZES, **changes)
    network = on_replica(Transformer(architecture=sizes), mesh)
    with pytest.raises(ValueError, match=message):
        rollout_shardings(mesh, network)


def test_a_network_laid_out_for_other_replicas_is_refused(kit):
    with pytest.raises(ValueError, match="laid out for 1 devices per copy, .* has 2"):
        kit.sampler(4, replicas=replica_meshes(jax.devices(), TENSOR))
