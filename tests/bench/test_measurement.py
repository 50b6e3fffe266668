"""Measurements that benchmarks share."""

import resource
import sys

from jaxsearch.bench.measurement import resident_peak_bytes


def test_peak_memory_is_in_bytes_on_linux_and_on_macos(monkeypatch):
    """macOS counts bytes, Linux kilobytes."""
    counted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(sys, "platform", "linux")
    on_linux = resident_peak_bytes(resource.RUSAGE_SELF)
    monkeypatch.setattr(sys, "platform", "darwin")
    on_macos = resident_peak_bytes(resource.RUSAGE_SELF)
    # The peak may rise between the calls, but not by half.
    assert 1024 * counted <= on_linux < 1.5 * 1024 * counted
    assert counted <= on_macos < 1.5 * counted
