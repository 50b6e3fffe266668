"""Costs of compiled programs: by hand, and for programs compiled here."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsearch.plan.costs import costs
from jaxsearch.plan.hlo import Program
from tests.programs import compile_to_read

MESH = {"data": 1, "fsdp": 4, "tensor": 2}
# Text in the form of a TPU's compiler: a loop unrolled in pairs, which runs 8 / 2
# times, with a gather that is spread over two fusions and a product as a convolution.
TPU = """HloModule m

%start (a: bf16[64,128]) -> (bf16[64,128], bf16[64,512]) {
  %a = bf16[64,128]{1,0} parameter(0)
  %g = bf16[64,512]{1,0} all-gather(%a), channel_id=7, \
replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, dimensions={1}
  ROOT %s = (bf16[64,128]{1,0}, bf16[64,512]{1,0}) custom-call(%a, %g)
}

%done (b: bf16[64,128], x: bf16[32,512]) -> bf16[32,64] {
  %b = bf16[64,128]{1,0} parameter(0)
  %x = bf16[32,512]{1,0} parameter(1)
  %h = bf16[64,512]{1,0} all-gather(%b), channel_id=7, \
replica_groups=[2,4]<=[4,2]T(1,0), dimensions={1}
  ROOT %c = bf16[32,64]{1,0} convolution(%x, %h), dim_labels=bf_oi->bf
}

%body (p: (s32[], bf16[64,128], bf16[32,512])) -> (s32[], bf16[64,128], bf16[32,512]) {
  %p = (s32[], bf16[64,128]{1,0}, bf16[32,512]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %w = bf16[64,128]{1,0} get-tuple-element(%p), index=1
  %x = bf16[32,512]{1,0} get-tuple-element(%p), index=2
  %two = s32[] constant(2)
  %next = s32[] add(%i, %two)
  %f = (bf16[64,128]{1,0}, bf16[64,512]{1,0}) fusion(%w), kind=kCustom, calls=%start
  %e = bf16[32,64]{1,0} fusion(%w, %x), kind=kCustom, calls=%done
  %r = f32[16]{0} all-reduce(%e), channel_id=1, \
replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  ROOT %t = (s32[], bf16[64,128]{1,0}, bf16[32,512]{1,0}) tuple(%next, %w, %x)
}

%cond (q: (s32[], bf16[64,128], bf16[32,512])) -> pred[] {
  %q = (s32[], bf16[64,128]{1,0}, bf16[32,512]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %n = s32[] constant(8)
  ROOT %lt = pred[] compare(%j, %n), direction=LT
}

ENTRY %main (w0: bf16[64,128], x0: bf16[32,512]) -> bf16[64,128] {
  %w0 = bf16[64,128]{1,0} parameter(0)
  %x0 = bf16[32,512]{1,0} parameter(1)
  %zero = s32[] constant(0)
  %init = (s32[], bf16[64,128]{1,0}, bf16[32,512]{1,0}) tuple(%zero, %w0, %x0)
  %loop = (s32[], bf16[64,128]{1,0}, bf16[32,512]{1,0}) while(%init), \
condition=%cond, body=%body
  %out = bf16[64,128]{1,0} get-tuple-element(%loop), index=1
  ROOT %cp = bf16[64,128]{1,0} collective-permute(%out), channel_id=3, \
source_target_pairs={{0,2},{2,4},{4,6},{6,0},{1,3},{3,5},{5,7},{7,1}}
}
"""


def test_a_loop_counts_as_often_as_it_runs_and_a_cut_gather_once():
    found = costs(Program.read(TPU), MESH)
    # 4 rounds of 2 * 32 * 512 * 64.
    assert found.flops == 4 * 2 * 32 * 512 * 64
    # 64 * 128 * 2 bytes come from each of 3 other devices, 4 times.
    assert found.collectives["all-gather"] == {"fsdp": 4 * 3 * 64 * 128 * 2}
    # A sum over 2 devices of 32 * 64 * 2 bytes: half is sent and half is returned.
    assert found.collectives["all-reduce"] == {"tensor": 4 * 32 * 64 * 2}
    assert found.collectives["collective-permute"] == {"fsdp": 64 * 128 * 2}
    assert found.received("fsdp") == 4 * 3 * 64 * 128 * 2 + 64 * 128 * 2


def test_padding_of_a_window_is_not_computed():
    """A batched product of heads on TPUs; taps on padding are free."""
    text = """HloModule m

ENTRY %main (x: bf16[2,16,1,64], w: bf16[4,64,1,8]) -> bf16[2,16,4,8] {
  %x = bf16[2,16,1,64]{3,2,1,0} parameter(0)
  %w = bf16[4,64,1,8]{3,2,1,0} parameter(1)
  ROOT %c = bf16[2,16,4,8]{3,2,1,0} convolution(%x, %w), \
window={size=1x4 pad=0_0x3_3 rhs_reversal=0x1}, dim_labels=0b1f_1i0o->0b1f
}
"""
    found = costs(Program.read(text), {"fsdp": 1})
    assert found.flops == 2 * 2 * 16 * 64 * 4 * 8


def test_a_sum_of_which_each_device_keeps_a_part_is_half_a_sum():
    text = """HloModule m

%all-reduce-scatter.1 (a: bf16[512,64]) -> bf16[128,64] {
  %a = bf16[512,64]{1,0} parameter(0)
  %sum = bf16[512,64]{1,0} all-reduce(%a), channel_id=1, \
replica_groups={{0,1,2,3}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %part = bf16[128,64]{1,0} dynamic-slice(%sum, %zero, %zero)
}

ENTRY %main (w: bf16[512,64]) -> bf16[128,64] {
  %w = bf16[512,64]{1,0} parameter(0)
  ROOT %f = bf16[128,64]{1,0} fusion(%w), kind=kCustom, calls=%all-reduce-scatter.1
}
"""
    found = costs(Program.read(text), {"fsdp": 4})
    assert found.collectives == {"reduce-scatter": {"fsdp": 3 * 128 * 64 * 2}}


def test_what_another_core_of_the_chip_runs_is_counted_once():
    """The form in which v5p's compiler runs a copy on a SparseCore."""
    text = """HloModule m

%inner (a: s32[80]) -> s32[80] {
  %a = s32[80]{0} parameter(0)
  ROOT %copied = s32[80]{0} copy(%a)
}, execution_thread="sparsecore"

%outer (b: s32[80]) -> s32[80] {
  %b = s32[80]{0} parameter(0)
  %begun = ((s32[80]{0}), s32[80]{0}, u32[]{:S(8)}) call-start(%b), \
async_execution_thread="sparsecore", to_apply=%inner
  ROOT %ended = s32[80]{0} call-done(%begun)
}, execution_thread="sparsecore"

%last (x: s32[80]) -> s32[80] {
  %x = s32[80]{0} parameter(0)
  ROOT %negative = s32[80]{0} negate(%x)
}

ENTRY %main (w: s32[80]) -> s32[80] {
  %w = s32[80]{0} parameter(0)
  %called = ((s32[80]{0}), s32[80]{0}, u32[]{:S(8)}) call-start(%w), \
async_execution_thread="sparsecore", to_apply=%outer
  %back = s32[80]{0} call-done(%called)
  ROOT %f = s32[80]{0} fusion(%back), kind=kLoop, calls=%last
}
"""
    # The copy reads and writes 80 words; so does the fusion.
    assert costs(Program.read(text), {"fsdp": 1}).memory_bytes == 2 * 2 * 80 * 4


@pytest.fixture(scope="module")
def compiled():
    """Four layers in a scan on 8 devices, with weights gathered over fsdp in each."""
    mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)

    def place(*spec):
        return NamedSharding(mesh, P(*spec))

    def layer(x, w):
        w = jax.lax.with_sharding_constraint(w, place(None, None))
        y = x @ w
        return jax.lax.with_sharding_constraint(y, place("fsdp", None)), None

    def forward(x, stack):
        return jax.lax.scan(layer, x, stack)[0]

    shapes = (
        jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=place("fsdp", None)),
        jax.ShapeDtypeStruct(
            (4, 32, 32), jnp.float32, sharding=place(None, "fsdp", None)
        ),
    )
    program = compile_to_read(jax.jit(forward).lower(*shapes))
    return costs(Program.read(program.as_text()), dict(mesh.shape))


def test_products_of_a_compiled_loop_are_counted(compiled):
    # 16 rows per device, four layers.
    assert compiled.flops == 4 * 2 * 16 * 32 * 32


def test_collectives_of_a_compiled_loop_are_counted(compiled):
    # 3 other shards of 8 x 32 floats, four times.
    assert compiled.collectives == {"all-gather": {"fsdp": 4 * 3 * 8 * 32 * 4}}


def test_memory_is_counted_by_what_is_read_of_a_stack(compiled):
    """Each iteration reads the weights of one layer, not of all four."""
    assert 4 * 8 * 32 * 4 <= compiled.memory_bytes < 250_000
