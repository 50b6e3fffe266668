"""Bytes per slot, and the errors when device memory runs out."""

import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.cache import empty_cache
from jaxsearch.rollouts import memory
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.slots import empty_slots

QWEN_SHAPED = Architecture(
    vocab_size=1000,
    width=64,
    mlp_width=64,
    num_layers=28,
    num_heads=8,
    num_kv_heads=4,
    head_width=128,
)
ASKED = memory.Asked(64, 10**8)
NEED = dict(reserved_bytes=15 * 10**9)


def test_bytes_of_a_slot_by_hand():
    """28 layers x 4 heads x (128 keys + 128 values), 2 bytes each, plus 13 bytes."""
    assert memory.slot_bytes(QWEN_SHAPED, 1000, jnp.bfloat16) == 57_357_000
    assert memory.slot_bytes(QWEN_SHAPED, 1000, jnp.float32) == 114_701_000
    # Each of two devices that share the heads holds half of them, and the whole row.
    assert memory.slot_bytes(QWEN_SHAPED, 1000, jnp.bfloat16, 2) == 28_685_000


def test_bytes_are_those_of_the_slots_there_are():
    slots = jax.eval_shape(
        lambda: empty_slots(
            3, 500, empty_cache(QWEN_SHAPED, (5, 10), 100, jnp.dtype(jnp.bfloat16))
        )
    )
    per_slot = [x for x in jax.tree.leaves(slots) if x.ndim > 1]
    num_bytes = sum(x.size * x.dtype.itemsize for x in per_slot)
    assert num_bytes == 3 * memory.slot_bytes(QWEN_SHAPED, 500, jnp.bfloat16)


def test_slots_that_fit_by_hand():
    assert memory.number_that_fits(1000, 300, 100) == 7
    assert memory.number_that_fits(1000, 301, 100) == 6
    assert memory.number_that_fits(1000, 1000, 100) == 0
    assert memory.number_that_fits(1000, 1700, 100) == 0


def test_bytes_of_parameters():
    params = {"a": jnp.zeros((3, 5)), "b": {"c": jnp.zeros(7, jnp.bfloat16)}}
    assert memory.tree_bytes(params) == 60 + 14


@pytest.mark.parametrize(
    ("device_bytes", "advice"),
    [
        (
            20 * 10**9,
            "the device has only 20.0 GB: 50 fit; set --rollout.num-slots 50",
        ),
        (15 * 10**9, "15.0 GB: not even one rollout fits; share the policy over "),
        (40 * 10**9, "not together with the memory that the programs need; try "),
        (40 * 10**9, "--rollout.num-slots 32"),
        (None, "of parameters; lower --rollout.num-slots, --rollout.cache-len or -"),
    ],
)
def test_the_line_says_what_to_set(device_bytes, advice):
    line = memory.shortage(ASKED, **NEED, device_bytes=device_bytes)
    assert advice in line and "\n" not in line
    assert line.startswith(
        "the device ran out of memory: 64 slots of 100.0 MB take 6.4 GB in addition to "
        "15.0 GB"
    )


def test_one_slot_that_does_not_fit_is_not_halved():
    line = memory.shortage(memory.Asked(1, 10), reserved_bytes=0, device_bytes=100)
    assert "smaller model or a smaller --rollout.max-len" in line


@pytest.mark.parametrize(
    ("cache_len", "advice"),
    [
        (200_000, "has only 20.0 GB: 87,173 fit; set --rollout.cache-len 87173"),
        (
            80_000,
            "with the memory that the programs need; try --rollout.cache-len 40000",
        ),
        (1_500, "need; try --rollout.cache-len 1000"),
        (1_000, "not even one rollout fits"),
    ],
)
def test_a_cache_that_slots_share_is_made_smaller_itself(cache_len, advice):
    """Fewer slots would share the same cache."""
    budgets = Budgets(
        num_slots=64,
        max_len=1000,
        max_prompt_len=8,
        max_turn_len=8,
        max_observation_len=8,
        max_calls=1,
        cache_len=cache_len,
    )
    asked = memory.asked_for(QWEN_SHAPED, budgets, jnp.bfloat16)
    line = memory.shortage(asked, **NEED, device_bytes=20 * 10**9)
    assert advice in line and "num-slots" not in line
    assert f"{cache_len:,} tokens of cache of 57.4 kB take" in line


def test_a_device_that_runs_out_is_explained():
    """Provokes XLA's error by requesting more bytes than any machine has."""
    with pytest.raises(
        memory.OutOfMemoryError, match="set --rollout.num-slots 50"
    ) as e:
        with memory.explain_shortage(ASKED, **NEED, device_bytes=20 * 10**9):
            jnp.zeros(1 << 46).block_until_ready()
    # Raised in this package, so that the command prints the line without a traceback.
    raised_in = traceback.extract_tb(e.value.__traceback__)[-1].filename
    assert Path(raised_in) == Path(memory.__file__)
    # Status 2: the same command would fail again.
    assert isinstance(e.value, ValueError)


def test_other_errors_pass():
    for error in (jax.errors.JaxRuntimeError("INTERNAL: broken"), ValueError("x")):
        with pytest.raises(type(error)) as raised:
            with memory.explain_shortage(ASKED, **NEED, device_bytes=None):
                raise error
        assert raised.value is error


def test_a_cpu_does_not_say_what_it_has():
    assert memory.device_bytes(jax.devices("cpu")[0]) is None
