"""Shardings of parameters and rows, and invalid meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsearch.mesh import (
    MeshShape,
    make_mesh,
    mesh_sizes,
    put_batch,
    replicated,
    row_multiple,
    row_sharding,
    shardings,
)
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Transformer


@pytest.fixture
def mesh():
    return make_mesh(MeshShape(data=2, fsdp=2, tensor=2))


def shape_of(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


@pytest.mark.parametrize("has_tied_head", [True, False])
def test_every_parameter_of_a_decoder_goes_where_its_axes_say(mesh, has_tied_head):
    transformer = Transformer(
        architecture=Architecture(
            vocab_size=48,
            width=32,
            mlp_width=64,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_width=8,
            has_tied_head=has_tied_head,
        )
    )
    param_shardings = shardings(mesh, transformer.logical_axes, transformer.shapes)
    expected = {
        "embedding": P("tensor", "fsdp"),
        "norm": {"scale": P("fsdp")},
        "blocks": {  # layers come first and are never sharded
            "attention_norm": {"scale": P(None, "fsdp")},
            "mlp_norm": {"scale": P(None, "fsdp")},
            "mlp": {
                "gate": P(None, "tensor", "fsdp"),
                "up": P(None, "tensor", "fsdp"),
                "down": P(None, "fsdp", "tensor"),
            },
            "projections": {
                "query": P(None, "tensor", None, "fsdp"),
                "key": P(None, "tensor", None, "fsdp"),
                "value": P(None, "tensor", None, "fsdp"),
                "out": P(None, "fsdp", "tensor"),
                "query_bias": P(None, "tensor"),
                "key_bias": P(None, "tensor"),
                "value_bias": P(None, "tensor"),
            },
        },
    }
    if not has_tied_head:
        expected["head"] = P("tensor", "fsdp")
    assert jax.tree.map(lambda sharding: sharding.spec, param_shardings) == expected
    assert all(s.mesh == mesh for s in jax.tree.leaves(param_shardings))
    # Half the vocabulary, half the width: a quarter on each device.
    assert param_shardings["embedding"].shard_shape((48, 32)) == (24, 16)


def test_an_axis_of_one_device_is_not_named():
    """XLA's outputs have the same form, so there is no second compilation."""
    mesh = make_mesh(MeshShape(fsdp=8))
    param_shardings = shardings(
        mesh, {"head": ("vocab", "embed")}, {"head": shape_of(8, 8)}
    )
    assert param_shardings["head"].spec == P(None, "fsdp")
    param_shardings = shardings(
        mesh, {"head": ("embed", "vocab")}, {"head": shape_of(8, 8)}
    )
    assert param_shardings["head"].spec == P("fsdp")


def test_rows_are_spread_over_data_and_fsdp(mesh):
    batch = (np.arange(8).reshape(4, 2), np.arange(4))
    placed = put_batch(mesh, batch)
    assert row_multiple(mesh) == 4
    for array, given in zip(placed, batch, strict=True):
        assert array.sharding == row_sharding(mesh)
        assert array.addressable_shards[0].data.shape[0] == 1
        np.testing.assert_array_equal(array, given)


def test_rows_that_do_not_divide_are_refused(mesh):
    with pytest.raises(ValueError, match="6 rows are not divisible by the 4 devices"):
        put_batch(mesh, (np.zeros((6, 2)),))


def test_replicated_is_whole_everywhere(mesh):
    assert replicated(mesh).shard_shape((3, 5)) == (3, 5)


def test_axes_that_collide_are_refused_by_name(mesh):
    with pytest.raises(ValueError, match="layer/square: axes .* same mesh axis twice"):
        shardings(
            mesh,
            {"layer": {"square": ("mlp", "heads")}},
            {"layer": {"square": shape_of(4, 4)}},
        )


def test_an_axis_that_does_not_divide_is_refused_by_name(mesh):
    with pytest.raises(
        ValueError, match="head: axis 'embed' of size 7 is not divisible"
    ):
        shardings(mesh, {"head": ("vocab", "embed")}, {"head": shape_of(4, 7)})


def test_an_axis_without_a_rule_is_refused_by_name(mesh):
    """A misspelt axis would otherwise be replicated without notice."""
    with pytest.raises(ValueError, match=r"head: no rule for axes \['embedd'\]"):
        shardings(mesh, {"head": ("vocab", "embedd")}, {"head": shape_of(4, 4)})


def test_axes_that_do_not_fit_the_shape_are_refused_by_name(mesh):
    with pytest.raises(ValueError, match=r"head: axes \('vocab',\) do not match shape"):
        shardings(mesh, {"head": ("vocab",)}, {"head": shape_of(4, 4)})


def test_the_parameters_of_a_list_have_a_name_too(mesh):
    with pytest.raises(ValueError, match="blocks/1: axis 'embed' of size 3"):
        shardings(
            mesh,
            {"blocks": [("embed",), ("embed",)]},
            {"blocks": [shape_of(4), shape_of(3)]},
        )


def test_a_wrong_number_of_devices_is_refused():
    with pytest.raises(ValueError, match="tensor=1 needs 6 devices, but there are 8"):
        make_mesh(MeshShape(data=3, fsdp=2))
    one = make_mesh(MeshShape(), jax.devices()[:1])
    assert one.size == 1


def test_one_axis_takes_the_devices_that_are_left():
    assert mesh_sizes(MeshShape(tensor=2), 8) == {"data": 1, "fsdp": 4, "tensor": 2}
    copies = MeshShape(data=None, fsdp=2)
    assert mesh_sizes(copies, 8) == {"data": 4, "fsdp": 2, "tensor": 1}
    with pytest.raises(ValueError, match="data=1 x fsdp=2 x tensor=1 needs 2 devices"):
        mesh_sizes(copies, 1)
    with pytest.raises(ValueError, match="data and fsdp are both None"):
        MeshShape(data=None)


def test_an_axis_of_no_devices_is_refused():
    with pytest.raises(ValueError, match="mesh axis fsdp must be at least 1, got -4"):
        MeshShape(fsdp=-4)
