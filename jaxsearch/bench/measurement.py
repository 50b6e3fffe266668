"""Measurements shared by all benchmarks: compilations, memory, progress."""

import contextlib
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Yields a list that receives one item per compilation inside the block."""
    events: list[str] = []

    def listen(event: str, duration: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def peak_bytes() -> int:
    """Peak memory of the first device, in bytes; that of the process on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    return host_peak_bytes()


def host_peak_bytes() -> int:
    """Peak memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would include the peak of the parent process.
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(found[1]) * 1024
    return resident_peak_bytes(resource.RUSAGE_SELF)


def resident_peak_bytes(who: int) -> int:
    """Peak memory according to the system's accounting, in bytes.

    Args:
      who: resource.RUSAGE_SELF, or RUSAGE_CHILDREN for the largest child that ended.
    """
    peak = resource.getrusage(who).ru_maxrss
    # Linux counts kilobytes.
    return peak if sys.platform == "darwin" else peak * 1024


def say(text: str) -> None:
    """Prints a line of progress with the time of day to standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
