"""Tests of `bench load`: its figures are present and consistent."""

import jax
import pytest

from jaxsearch.bench.load import bench_load
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.convert import to_hf
from jaxsearch.models.transformer import Transformer
from tests.hf_folders import write_folder

TINY = Architecture(
    vocab_size=512,
    width=64,
    mlp_width=96,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=16,
)


@pytest.mark.slow
def test_a_folder_is_loaded_as_it_is_and_in_float32(tmp_path):
    transformer = Transformer(architecture=TINY)
    params = jax.tree.map(
        lambda x: x.astype("bfloat16"), transformer.init(jax.random.key(0))
    )
    folder = write_folder(tmp_path / "model", TINY, dict(to_hf(params, TINY)))
    result = bench_load(str(folder), gigabytes=0.0, repeats=1)
    size = 2 * TINY.num_parameters
    assert result["bytes"] == size and result["stored_as"] == "bfloat16"
    for dtype, parameter_bytes in (("bfloat16", size), ("float32", 2 * size)):
        found = result[dtype]
        assert found["parameter_bytes"] == parameter_bytes
        assert found["copy_fraction"] == pytest.approx(
            result["copy_seconds"] / found["seconds"]
        )
        # The peak of the process itself, not of its parent.
        assert 0 < found["extra_host_bytes"] < 1e9


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="--repeats must be at least 1, got 0"):
        bench_load("", gigabytes=3.0, repeats=0)
    with pytest.raises(ValueError, match="--gigabytes must be at least 0.6, got 0.1"):
        bench_load("", gigabytes=0.1, repeats=1)
