"""Eight virtual devices, no silent broadcasting between ranks, long files first.

XLA makes machine code without optimizing it, which is five times faster. Tests run each
program a few times, so compiling took most of their time. The programs that JAX hands
to XLA are the same. `XLA_FLAGS= bash launch/test.sh` tests the code that users run, as
.ci/run does where rounding matters most; tests/programs.py compiles as for users.
"""

import gc
import os
import resource
import signal
from collections import Counter
from pathlib import Path

import jax
import pytest

# Read when the first program is compiled, and by processes that tests start.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)
# The tests of the other worker use the other cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """Runs the files with the most slow tests first.

    Workers take one file at a time, so a long file started last would leave the other
    worker idle.
    """
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


def pytest_collection_finish():
    """Spares the garbage collector the modules and tests, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Keeps compiled programs for objects that are made again, as in every run.

    Each worker has its own folder: JAX writes an entry in place, so that another worker
    could read half of it.
    """
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module", autouse=True)
def freed():
    """Frees the programs of the files so far, when a worker has 2 GiB."""
    yield
    pages = Path("/proc/self/statm")
    if pages.exists():
        resident = int(pages.read_text().split()[1]) * resource.getpagesize()
        if resident > 2 * 2**30:
            jax.clear_caches()


@pytest.fixture
def interruptible():
    """Python's SIGINT handler; shells start background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
