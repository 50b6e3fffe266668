"""Every row kernel against NumPy in float64: values, gradients, padding, devices."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxsearch.mesh import MeshShape, attention_sharding, make_mesh, platform
from jaxsearch.models import row_attention as module
from jaxsearch.models import splash_attention
from jaxsearch.models.cudnn_attention import CUDNN, cudnn
from jaxsearch.models.kernels import RowKernel, Target
from jaxsearch.models.row_attention import PLAIN, plain
from jaxsearch.models.row_kernels import ROW_KERNELS, PerDevice, row_attention
from jaxsearch.models.splash_attention import SPLASH, splash
from tests.tpu_compiler import printed_with_tpu_compiler

B, H = 2, 8
interpreted = functools.partial(splash, is_interpreted=True)
KERNELS = {"plain": plain, "cut": plain, "splash": interpreted, "cudnn": cudnn}


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    """Each kernel, with blocks so short that rows take several of them."""
    if request.param == "cut":
        monkeypatch.setattr(module, "_WHOLE_LEN", 16)
        monkeypatch.setattr(module, "_BLOCK_LEN", 16)
    monkeypatch.setattr(splash_attention, "_BLOCK_LENS", (128,))
    if request.param == "cudnn" and platform(one_device()) != "cuda":
        # XLA evaluates the same arguments, which tests their meaning without cuDNN.
        attention = jax.nn.dot_product_attention

        def through_xla(query, key, value, *, implementation, **settings):
            assert implementation == "cudnn" and query.shape[1] % 2 == 0
            return attention(query, key, value, implementation="xla", **settings)

        monkeypatch.setattr(jax.nn, "dot_product_attention", through_xla)
    return KERNELS[request.param]


def one_device():
    return make_mesh(MeshShape(), jax.devices()[:1])


def inputs(T, N, K, dtype=jnp.float32, rows=B):
    """Query, key, value, and the gradient of the output."""
    rng = np.random.default_rng(0)
    shapes = [(rows, T, heads, H) for heads in (N, K, K, N)]
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def reference(query, key, value, upstream, window):
    """Output and gradients in float64, one row and one head at a time."""
    query, key, value, upstream = (
        np.asarray(x, np.float64) for x in (query, key, value, upstream)
    )
    T, N, K = *query.shape[1:3], key.shape[2]
    out, dq, dk, dv = (np.zeros_like(x) for x in (query, query, key, value))
    age = np.arange(T)[:, None] - np.arange(T)
    is_visible = (age >= 0) & (age < (T if window is None else window))
    for b, n in np.ndindex(len(query), N):
        k = n * K // N
        scores = query[b, :, n] @ key[b, :, k].T / np.sqrt(H)
        weights = np.where(is_visible, np.exp(scores), 0)
        weights /= weights.sum(axis=1, keepdims=True)
        out[b, :, n] = weights @ value[b, :, k]
        dv[b, :, k] += weights.T @ upstream[b, :, n]
        dweights = upstream[b, :, n] @ value[b, :, k].T
        mean = (weights * dweights).sum(axis=1, keepdims=True)
        dscores = weights * (dweights - mean) / np.sqrt(H)
        dq[b, :, n] = dscores @ key[b, :, k]
        dk[b, :, k] += dscores.T @ query[b, :, n]
    return out, dq, dk, dv


def computing(kernel, window=None):
    """(query, key, value, upstream) -> output and gradients."""

    @jax.jit
    def run(query, key, value, upstream):
        out, back = jax.vjp(lambda *x: kernel(*x, window=window), query, key, value)
        return out, *back(upstream)

    return run


CASES = {
    "heads of their own": (130, 2, 2, None),
    "groups of 4": (200, 8, 2, None),
    "groups of 7, whole blocks": (256, 7, 1, None),
    "window": (200, 4, 2, 37),
    "window of one": (20, 2, 1, 1),
    "window longer than a row": (33, 2, 1, 100),
    "one token": (1, 4, 2, None),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_numpy(kernel, case):
    T, N, K, window = CASES[case]
    if kernel is cudnn and platform(one_device()) == "cuda":
        pytest.skip("cuDNN takes no float32")
    given = inputs(T, N, K)
    for got, want in zip(
        computing(kernel, window)(*given), reference(*given, window), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)


def test_bfloat16_is_near_numpy(kernel):
    """Inputs are rounded equally; weights and results have 8 bits of mantissa."""
    given = inputs(200, 7, 1, jnp.bfloat16)
    for got, want in zip(
        computing(kernel, 37)(*given), reference(*given, 37), strict=True
    ):
        assert got.dtype == jnp.bfloat16
        error = np.linalg.norm(np.asarray(got, np.float64) - want)
        assert error / np.linalg.norm(want) < 2**-7


def test_padding_does_nothing(kernel):
    """Padding does not change the outputs and gradients of the tokens before it."""
    length = 150
    given = inputs(200, 4, 2, jnp.bfloat16)
    *arrays, upstream = given
    upstream = upstream.at[:, length:].set(0)
    run, results = computing(kernel), []
    for filling in (0, 1000):
        filled = [x.at[:, length:].set(filling) for x in arrays]
        results.append(run(*filled, upstream))
    for first, second in zip(*results, strict=True):
        assert jnp.isfinite(first).all() and jnp.isfinite(second).all()
        np.testing.assert_array_equal(first[:, :length], second[:, :length])
        assert jnp.abs(first[:, :length]).max() > 0
    for _, *gradients in results:
        for gradient in gradients:
            assert (gradient[:, length:] == 0).all()


SEGMENTS = {
    "three and padding": (60, 1, 100, -39),
    "as long as blocks": (128, 64, 8),
    "one": (200,),
    "window": (90, 110),
}


@pytest.mark.parametrize("case", SEGMENTS)
def test_segments_of_a_row_are_rows_of_their_own(kernel, case):
    """Values and gradients, with different segments in different rows."""
    if kernel is cudnn:
        pytest.skip("cuDNN keeps no segments apart")
    lengths, window = SEGMENTS[case], 37 if case == "window" else None
    *arrays, upstream = inputs(200, 4, 2)
    numbers = [i + 1 if n > 0 else 0 for i, n in enumerate(lengths)]
    segments = np.ones((B, 200), np.int32)
    segments[1] = np.repeat(numbers, np.abs(lengths))
    is_token = jnp.asarray(segments > 0)[..., None, None]
    given = (*arrays, jnp.where(is_token, upstream, 0))

    @jax.jit
    def run(query, key, value, upstream, segments):
        out, back = jax.vjp(
            lambda *x: kernel(*x, window=window, segments=segments), query, key, value
        )
        return jnp.where(is_token, out, 0), *back(upstream)

    results = run(*given, jnp.asarray(segments))
    first = reference(*(x[:1] for x in given), window)
    for got, want in zip(results, first, strict=True):
        np.testing.assert_allclose(got[:1], want, rtol=1e-4, atol=2e-5)
    for number in set(numbers) - {0}:
        place = segments[1] == number
        alone = reference(*(x[1:, place] for x in given), window)
        for got, want in zip(results, alone, strict=True):
            np.testing.assert_allclose(got[1:, place], want, rtol=1e-4, atol=2e-5)
    for result in results:
        assert (np.asarray(result)[1, segments[1] == 0] == 0).all()


def test_a_kernel_that_knows_no_segments_refuses_them():
    query, key, value, _ = inputs(8, 2, 1)
    with pytest.raises(ValueError, match="does not support packed rows: use plain"):
        cudnn(query, key, value, segments=jnp.ones((B, 8), jnp.int32))
    target = Target(platform="cuda", dtype="bfloat16", head_width=64, has_segments=True)
    sharding = attention_sharding(one_device())
    assert row_attention(None, target, sharding) is plain
    with pytest.raises(ValueError, match="'cudnn' needs .* rows that are not packed"):
        row_attention(CUDNN, target, sharding)


def test_a_long_row_keeps_no_scores():
    """The memory kept for the backward pass grows with T, not with its square."""

    def kept(T):
        query, key, value, _ = inputs(T, 2, 1)
        _, back = jax.eval_shape(lambda *x: jax.vjp(plain, *x), query, key, value)
        return sum(x.size for x in jax.tree.leaves(back)) / query.size

    long = module._WHOLE_LEN * 2
    assert kept(module._WHOLE_LEN) > 100
    assert kept(long) < 6 and abs(kept(long) - kept(2 * long)) < 0.1


@pytest.mark.parametrize("window", [None, 20])
def test_what_a_long_row_cannot_see_is_not_read(monkeypatch, window):
    monkeypatch.setattr(module, "_WHOLE_LEN", 16)
    monkeypatch.setattr(module, "_BLOCK_LEN", 16)
    query, key, value, _ = inputs(128, 2, 1)
    # Spans of 32: a weight of 0 would not hide a NaN.
    value = value.at[:, 64:].set(jnp.nan)
    run = jax.jit(plain, static_argnums=3)
    out = run(query, key, value, window)
    assert jnp.isfinite(out[:, :64]).all() and jnp.isnan(out[:, 64:]).all()
    if window is not None:
        out = run(query, key, value[:, ::-1], window)
        assert jnp.isfinite(out[:, 96:]).all() and jnp.isnan(out[:, 64:80]).all()


@pytest.mark.slow
def test_each_device_runs_the_kernel_on_its_rows_and_heads():
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    given = inputs(128, 4, 2, rows=4)
    spread = PerDevice(interpreted, attention_sharding(mesh))
    placed = jax.device_put(given, attention_sharding(mesh))
    # One row per device, each in two segments split at a different position.
    segments = 1 + (jnp.arange(128)[None] >= jnp.array([[20], [50], [64], [127]]))
    by_segments = (
        functools.partial(x, segments=segments) for x in (spread, interpreted)
    )
    for one, other in ((spread, interpreted), by_segments):
        compare(computing(one, 40)(*placed), computing(other, 40)(*given), mesh)


def compare(results, expected, mesh):
    for got, want in zip(results, expected, strict=True):
        assert got.sharding.is_equivalent_to(attention_sharding(mesh), got.ndim)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


CHOICES = [
    ("auto", "cpu", "bfloat16", 128, plain),
    ("auto", "rocm", "bfloat16", 128, plain),
    ("auto", "tpu", "float32", 6, splash),
    ("auto", "cuda", "bfloat16", 64, cudnn),
    ("auto", "cuda", "float32", 64, plain),
    ("auto", "cuda", "bfloat16", 100, plain),
    ("auto", "cuda", "bfloat16", 256, plain),
    ("plain", "tpu", "bfloat16", 128, plain),
    ("plain", "cuda", "bfloat16", 128, plain),
    ("splash", "tpu", "bfloat16", 128, splash),
    ("cudnn", "cuda", "float16", 128, cudnn),
]


@pytest.mark.parametrize(("name", "where", "dtype", "width", "expected"), CHOICES)
def test_the_platform_decides(name, where, dtype, width, expected):
    target = Target(platform=where, dtype=dtype, head_width=width)
    kernel, one, eight = (
        ROW_KERNELS[name],
        attention_sharding(one_device()),
        attention_sharding(make_mesh(MeshShape(fsdp=8))),
    )
    assert row_attention(kernel, target, one) is expected
    per_device = row_attention(kernel, target, eight)
    again = row_attention(kernel, target, eight)
    assert per_device == again and hash(per_device) == hash(again)
    if expected is plain:
        assert per_device is plain
    else:
        assert per_device == PerDevice(expected, eight)


def test_cudnn_needs_an_ampere_gpu():
    """A T4 has 7.5."""
    for capability, expected in ((7.5, plain), (8.0, cudnn), (None, cudnn)):
        target = Target(
            platform="cuda",
            dtype="bfloat16",
            head_width=64,
            compute_capability=capability,
        )
        sharding = attention_sharding(one_device())
        assert row_attention(None, target, sharding) is expected


def doubled(*arguments, **settings):
    """A user-defined kernel."""
    return 2 * plain(*arguments, **settings)


def test_a_kernel_of_a_users_own_is_a_value():
    """It runs unchanged, on each device's rows, and may reject a target."""
    own = RowKernel(name="doubled", attend=doubled)
    target = Target(platform="cpu", dtype="float32", head_width=H)
    assert row_attention(own, target, attention_sharding(one_device())) is doubled
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    per_device = row_attention(own, target, attention_sharding(mesh))
    assert per_device == PerDevice(doubled, attention_sharding(mesh))
    query, key, value, _ = inputs(8, 4, 2, rows=4)
    np.testing.assert_allclose(
        jax.jit(per_device)(query, key, value),
        2 * plain(query, key, value),
        rtol=1e-5,
        atol=1e-6,
    )
    picky = RowKernel(name="picky", attend=doubled, missing=lambda target: "a moon")
    told = "'picky' needs a moon; got cpu, float32 and heads 8 wide: use 'auto' or 'pl"
    with pytest.raises(ValueError, match=told):
        row_attention(picky, target, attention_sharding(one_device()))


@pytest.mark.parametrize(
    ("kernel", "where", "dtype", "width", "told"),
    [
        (SPLASH, "cpu", "bfloat16", 128, "'splash' needs a TPU; got cpu"),
        (SPLASH, "cuda", "bfloat16", 128, "got cuda.* use 'auto' or 'cudnn' or 'plain"),
        (CUDNN, "tpu", "bfloat16", 128, "'cudnn' needs an NVIDIA GPU.*got tpu"),
        (CUDNN, "cuda", "float32", 128, "bfloat16.*got cuda, float32"),
        (CUDNN, "cuda", "bfloat16", 100, "multiple of 8.*heads 100 wide"),
    ],
)
def test_what_cannot_run_is_refused(kernel, where, dtype, width, told):
    target = Target(platform=where, dtype=dtype, head_width=width)
    with pytest.raises(ValueError, match=told) as refused:
        row_attention(kernel, target, attention_sharding(one_device()))
    assert "\n" not in str(refused.value)
    assert row_attention(PLAIN, target, attention_sharding(one_device())) is plain


COMPILED_FOR_A_TPU = """
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jaxsearch.mesh import *
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.kernels import Target
from jaxsearch.models.row_kernels import row_attention
from jaxsearch.models.transformer import Transformer

chips = topologies.get_topology_desc(topology_name="v5e:2x2", platform="tpu").devices
mesh = make_mesh(MeshShape(fsdp=2, tensor=2), chips)
architecture = Architecture(
    vocab_size=256, width=256, mlp_width=256, num_layers=2, num_heads=14,
    num_kv_heads=2, head_width=64,
)
transformer = Transformer(
    architecture=architecture, dtype=jnp.bfloat16, remat=True,
    attention=row_attention(
        None,
        Target(platform=platform(mesh), dtype="bfloat16", head_width=64),
        attention_sharding(mesh),
    ),
)
def loss(params, *rows):
    return jnp.sum(transformer.hidden(params, *rows).astype(jnp.float32) ** 2)

def sharded(shape, sharding):
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)

param_shardings = shardings(mesh, transformer.logical_axes, transformer.shapes)
params = jax.tree.map(sharded, transformer.shapes, param_shardings)
rows = sharded(jax.ShapeDtypeStruct((4, 300), jnp.int32), row_sharding(mesh))
program = jax.jit(jax.grad(loss)).lower(params, rows, rows).compile().as_text()
calls = [line for line in program.splitlines() if "tpu_custom_call" in line]
# Each device has 2 of 4 rows and 7 of 14 heads; rows are padded to 384.
print(len(calls), all("[2,7,384,64]" in line for line in calls))
"""


@pytest.mark.slow
def test_a_training_step_compiles_for_a_tpu():
    """Four v5e chips: one kernel forward (twice because of remat), two backward."""
    printed = printed_with_tpu_compiler(COMPILED_FOR_A_TPU)
    assert printed.split() == ["4", "True"]


class Gpu:
    """The attributes of a device that identify its platform."""

    platform = "gpu"

    def __init__(self, version):
        self.client = SimpleNamespace(platform_version=version)


def test_a_platform_has_one_name():
    for version, name in (("PJRT C API\ncuda 13000", "cuda"), ("rocm 70000", "rocm")):
        assert platform(Mesh(np.array([Gpu(version)]), ("data",))) == name
