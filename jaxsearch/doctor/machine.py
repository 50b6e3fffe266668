"""Disk, memory and cache folder of the machine, and its search library."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxsearch.doctor.check import Check

# The quickstart needs 1.3 GB of memory, and its run folder and cache less.
_MIN_MEMORY_GB, _MIN_DISK_GB = 2.0, 2.0


def machine_checks(folder: Path) -> Iterator[Check]:
    """Yields memory, disk space of a folder, and whether programs can be cached."""
    free = memory_gb()
    if free is not None:
        yield _amount(
            "memory",
            free,
            _MIN_MEMORY_GB,
            f"{free:.1f} GB available, {os.cpu_count()} cores",
            "end other programs, or use a machine with more memory",
        )
    free = shutil.disk_usage(folder).free / 1e9
    yield _amount(
        "disk",
        free,
        _MIN_DISK_GB,
        f"{free:.1f} GB free in {folder}",
        "free space, or write elsewhere with --out FOLDER",
    )


def memory_gb() -> float | None:
    """Memory that programs can still have, in GB; None where it is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    amounts = dict(line.split(":", 1) for line in lines)
    return int(amounts["MemAvailable"].split()[0]) * 1024 / 1e9


def cache_check(folder: str) -> Check:
    """Whether compiled programs can be kept in this folder, for the next start."""
    if "://" in folder:
        return Check(name="cache", status="ok", found=f"{folder} (not looked into)")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(
            name="cache",
            status="problem",
            found=f"{folder} cannot be written: {error.strerror}",
            mend="export JAX_COMPILATION_CACHE_DIR=FOLDER",
        )
    size = sum(path.stat().st_size for path in Path(folder).glob("*")) / 1e9
    return Check(
        name="cache",
        status="ok",
        found=f"{size:.2f} GB of compiled programs in {folder}",
    )


def scann_check() -> Check:
    """Whether ScaNN finds the nearest of some vectors."""
    import numpy as np

    if platform.system() != "Linux":
        found = "no wheels for this system: indexes are exact, and slower when large"
        return Check(name="ScaNN", status="ok", found=found)
    mend = "pip install --force-reinstall scann"
    vectors = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    try:
        import scann

        builder = scann.scann_ops_pybind.builder(vectors, 1, "dot_product")
        found, _ = builder.score_brute_force().build().search_batched(vectors)
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        return Check(name="ScaNN", status="problem", found=reason, mend=mend)
    if (found[:, 0] != np.arange(len(vectors))).any():
        found = "it does not find the nearest of 64 vectors"
        return Check(name="ScaNN", status="problem", found=found, mend=mend)
    return Check(name="ScaNN", status="ok", found="finds the nearest of 64 vectors")


def _amount(name: str, there: float, least: float, found: str, mend: str) -> Check:
    if there >= least:
        return Check(name=name, status="ok", found=found)
    return Check(
        name=name,
        status="problem",
        found=f"{found}; the quickstart needs {least:.0f} GB",
        mend=mend,
    )
