"""The fingerprint depends on every bit, and only on the bits."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsearch.mesh import MeshShape, make_mesh, shardings
from jaxsearch.run.fingerprint import fingerprint

PARAMS = {
    "head": np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32),
    "norm": {"scale": np.ones(8, np.float32)},
}


def changed(**other):
    return fingerprint(jax.tree.map(jnp.asarray, PARAMS | other))


def test_it_is_short_and_the_same_again():
    assert len(changed()) == 16
    assert changed() == changed() == fingerprint(PARAMS)
    assert fingerprint({}) == ""


def test_it_does_not_depend_on_where_parameters_lie():
    axes = {"head": ("vocab", "embed"), "norm": {"scale": ("embed",)}}
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PARAMS))
    for shape in (MeshShape(fsdp=8), MeshShape(data=2, fsdp=2, tensor=2)):
        places = shardings(make_mesh(shape), axes, shapes)
        assert fingerprint(jax.device_put(PARAMS, places)) == changed()


def test_any_change_is_seen():
    head = PARAMS["head"]
    nudged = head.copy()
    nudged[7, 3] = np.nextafter(nudged[7, 3], 9)
    swapped = head.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    negated = head.copy()
    negated[3] *= -1
    variants = [nudged, swapped, negated, head.T.copy(), head.T.reshape(16, 8)]
    found = {changed(head=variant) for variant in variants}
    found.add(fingerprint({"heap": head, "norm": PARAMS["norm"]}))
    assert len(found) == 6 and changed() not in found
    # A bfloat16 array is hashed as 16 bits per value.
    half = jnp.asarray(head, jnp.bfloat16)
    assert changed(head=half) == changed(head=half.astype(jnp.float32))
