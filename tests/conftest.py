"""Eight virtual devices, no silent broadcasting between ranks, long files first.

XLA makes machine code without optimizing it, which is five times faster. Tests run each
program a few times, so compiling took most of their time. The programs that JAX hands
to XLA are the same. `XLA_FLAGS= bash launch/test.sh` tests the code that users run, as
.ci/run does where rounding matters most; tests/programs.py compiles as for users.
"""

import ctypes
import gc
import os
import resource
import shutil
import signal
from collections import Counter, defaultdict
from pathlib import Path

import jax
import pytest

from jaxsearch import key_addresses
from jaxsearch.notebook.devices import quick_compilation_flags
from jaxsearch.run import trust

MAX_KEPT_BYTES = 2**30
ROOT = Path(__file__).resolve().parents[1]
FURTHER_CASES = Path(__file__).parent / "further_cases.txt"
# Read when the first program is compiled, and by processes that tests start.
os.environ.setdefault("XLA_FLAGS", quick_compilation_flags())
# The tests of the other worker use the other cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
jax.config.update("jax_num_cpu_devices", 8)
# Runs of tests name functions of tests.
trust.trust("tests")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Marks further cases as long, and runs the files with the most slow tests first.

    Workers take one file at a time, so a long file started last would leave the other
    worker idle.
    """
    mark_further_cases(items, whole=config.args == ["tests"])
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


def mark_further_cases(items, whole):
    """Marks the tests that further_cases.txt lists; each line of it finds one.

    A file without tests here needs a package that is not installed.
    """
    lines = FURTHER_CASES.read_text().splitlines()
    cases = defaultdict(list)
    for line in lines:
        if line and not line.startswith("#"):
            file, _, text = line.partition("::")
            cases[file].append(text)
    found = set()
    for item in items:
        file, _, name = item.nodeid.partition("::")
        for text in cases[file]:
            if text in name:
                item.add_marker(pytest.mark.long)
                found.add((file, text))
    collected = {item.nodeid.partition("::")[0] for item in items}
    skipped = {file for file in [*cases] if (ROOT / file).is_file()} - collected
    listed = {(file, text) for file in cases for text in cases[file]}
    lost = {line for line in listed - found if line[0] not in skipped}
    if whole and lost:
        named = ", ".join("::".join(line) for line in sorted(lost))
        raise pytest.UsageError(f"{FURTHER_CASES}: no test has the name of {named}")


def pytest_collection_finish():
    """Spares the garbage collector the modules and tests, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def compiled_once(request, tmp_path_factory):
    """Keeps compiled programs, for objects that are made again and for the next time.

    JAX writes an entry in place, so that another process could read half of it, and a
    killed one leave it. So each worker has its own copy of what was kept the last time,
    and keeps what it adds at the end. Processes that tests start have another folder.
    """
    kept = Path(request.config.cache.mkdir("xla"))
    if sum(path.stat().st_size for path in kept.glob("*-cache")) > MAX_KEPT_BYTES:
        shutil.rmtree(kept, ignore_errors=True)
    own, others = (tmp_path_factory.mktemp(name) for name in ("xla", "xla-others"))
    _copy_new(kept, own)
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(others))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        yield
    _copy_new(own, kept)


@pytest.fixture(autouse=True)
def trusted_again():
    """What a test trusts is not trusted by the next one."""
    trusted, own = set(trust._trusted), set(trust._own_names)
    addresses = set(key_addresses._given)
    yield
    trust._trusted, trust._own_names = trusted, own
    key_addresses._given = addresses


def _copy_new(source: Path, target: Path) -> None:
    """Copies the programs that the other folder does not have; each is there whole."""
    target.mkdir(exist_ok=True)
    for path in source.glob("*-cache"):
        if not (target / path.name).exists():
            part = target / f"{path.name}.{os.getpid()}"
            shutil.copyfile(path, part)
            part.replace(target / path.name)


@pytest.fixture(scope="module", autouse=True)
def freed():
    """Frees the programs of the files so far, when a worker has 2 GiB."""
    yield
    pages = Path("/proc/self/statm")
    if pages.exists():
        resident = int(pages.read_text().split()[1]) * resource.getpagesize()
        if resident > 2 * 2**30:
            jax.clear_caches()
            # Otherwise glibc keeps the memory, and every later file is freed.
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def interruptible():
    """Python's SIGINT handler; shells start background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
