"""Eight virtual devices, no silent broadcasting between ranks, long files first."""

import signal
from collections import Counter

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """The files with most slow tests first.

    A worker takes a file at a time: a long one begun last would leave the other
    worker idle.
    """
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


@pytest.fixture
def interruptible():
    """Python's own handler: a shell starts what runs behind it with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
