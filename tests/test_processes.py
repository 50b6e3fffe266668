"""The variables that connect processes to one run, and invalid values."""

import jax
import pytest

from jaxsearch import processes
from jaxsearch.compile_cache import machine_folder

HERE = {
    "JAXSEARCH_COORDINATOR": "127.0.0.1:1234",
    "JAXSEARCH_NUM_PROCESSES": "2",
    "JAXSEARCH_PROCESS_ID": "1",
}


def test_a_process_that_nobody_named_is_alone():
    processes.start({})
    assert not jax.distributed.is_initialized()
    assert processes.is_primary()
    assert processes.all_gather_objects("own") == ["own"]
    assert processes.process_shard([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("missing", HERE)
def test_half_a_set_up_is_refused(missing):
    environ = {key: value for key, value in HERE.items() if key != missing}
    with pytest.raises(ValueError, match=f"not {missing}: set all three"):
        processes.start(environ)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"JAXSEARCH_PROCESS_ID": "2"}, "must be in 0..JAXSEARCH_NUM_PROCESSES - 1"),
        ({"JAXSEARCH_PROCESS_ID": "-1"}, "got '-1' of '2'; are they left over"),
        ({"JAXSEARCH_NUM_PROCESSES": "two"}, "got '1' of 'two'"),
        ({"JAXSEARCH_DISTRIBUTED": "auto"}, "exclude each other"),
        ({"JAXSEARCH_DISTRIBUTED": "yes"}, "must be auto or unset, got 'yes'"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        processes.start(HERE | changes)


def test_variables_of_a_replaced_slice_are_refused():
    environ = {"TPU_WORKER_HOSTNAMES": "t0,t1", "TPU_WORKER_ID": "3"}
    with pytest.raises(ValueError, match="lists 2 hosts; .* left over from another"):
        processes.start(environ)
    processes.check_environment(environ | {"TPU_WORKER_ID": "1"})


def test_all_gpus_of_a_machine_are_named():
    all_of = processes.local_devices
    assert all_of({"CUDA_VISIBLE_DEVICES": "4,5,6"}) == [0, 1, 2]
    assert all_of({"CUDA_VISIBLE_DEVICES": ""}) is None
    assert all_of({"CUDA_VISIBLE_DEVICES": "4,5", "JAX_PLATFORMS": "cpu"}) is None
    assert all_of({"JAXSEARCH_LOCAL_DEVICES": "0,3"}) == [0, 3]
    with pytest.raises(ValueError, match="must be all or numbers"):
        all_of({"JAXSEARCH_LOCAL_DEVICES": "first"})


def test_what_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    assert processes.shard_size(8, "questions_per_step") == 2
    with pytest.raises(ValueError, match="questions_per_step is 6, .* the 4 processes"):
        processes.shard_size(6, "questions_per_step")


def test_the_compilation_cache_is_the_users_own_unless_named(monkeypatch, tmp_path):
    was = jax.config.jax_compilation_cache_dir
    try:
        processes.use_compilation_cache({"JAX_COMPILATION_CACHE_DIR": "gs://b/cache"})
        assert jax.config.jax_compilation_cache_dir == was
        processes.use_compilation_cache({"XDG_CACHE_HOME": str(tmp_path)})
        # A machine with another processor has another folder.
        assert jax.config.jax_compilation_cache_dir == str(
            tmp_path / "jaxsearch" / "xla" / machine_folder()
        )
    finally:
        jax.config.update("jax_compilation_cache_dir", was)
