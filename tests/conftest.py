"""Eight virtual devices, no silent broadcasting between ranks, long files first."""

import signal
from collections import Counter

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """Runs the files with the most slow tests first.

    Workers take one file at a time, so a long file started last would leave the other
    worker idle.
    """
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


@pytest.fixture
def interruptible():
    """Python's SIGINT handler; shells start background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
