"""Runs of several processes: initialisation and exchange of values.

Processes communicate only through JAX's runtime. All processes must call these
functions in the same order; with one process the functions return at once.
"""

import os
import pickle
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxsearch.compile_cache import machine_folder, mend_entries
from jaxsearch.local_paths import cache_folder
from jaxsearch.try_again import TryAgainError
from jaxsearch.visible import visible, visible_traceback

T = TypeVar("T")

# A dead process is detected after this time, and the others are aborted.
_HEARTBEAT_S = 30
# Bytes gathered per process and call; they are transferred through the devices.
_GATHERED_BYTES = 2**20
_COORDINATED = (
    "JAXSEARCH_COORDINATOR",
    "JAXSEARCH_NUM_PROCESSES",
    "JAXSEARCH_PROCESS_ID",
)


def start(environ: Mapping[str, str] = os.environ) -> None:
    """Joins the processes of a run; call it before anything uses a device.

    JAXSEARCH_COORDINATOR (host:port of process 0), JAXSEARCH_NUM_PROCESSES and
    JAXSEARCH_PROCESS_ID describe the processes. With JAXSEARCH_DISTRIBUTED=auto, JAX
    detects them (TPU pods, GKE, Slurm, MPI). With neither, the process runs alone.
    JAXSEARCH_LOCAL_DEVICES lists the GPUs of this machine that the process uses, as
    numbers separated by commas; the default "all" is for one process per machine.

    Raises:
      ValueError: if the variables contradict each other.
    """
    check_environment(environ)
    is_found = environ.get("JAXSEARCH_DISTRIBUTED") == "auto"
    if not is_found and "JAXSEARCH_COORDINATOR" not in environ:
        return
    named: dict[str, Any] = {}
    if not is_found:
        coordinator, num_processes, process_id = (environ[k] for k in _COORDINATED)
        named = {
            "coordinator_address": coordinator,
            "num_processes": int(num_processes),
            "process_id": int(process_id),
        }
    jax.distributed.initialize(
        **named,
        # Under Slurm or MPI, JAX's default is one GPU per process.
        local_device_ids=local_devices(environ),
        heartbeat_timeout_seconds=_HEARTBEAT_S,
    )


def check_environment(environ: Mapping[str, str]) -> None:
    """Checks the environment variables that describe the processes of a run.

    Raises:
      ValueError: if variables are missing, contradictory or outdated.
    """
    given = [name for name in _COORDINATED if name in environ]
    if given and len(given) < len(_COORDINATED):
        missing = [name for name in _COORDINATED if name not in environ]
        raise ValueError(
            f"{' and '.join(given)} set, but not {' and '.join(missing)}: set all "
            "three for several processes, or none of them for a single one"
        )
    mode = environ.get("JAXSEARCH_DISTRIBUTED", "")
    if mode not in ("", "auto"):
        raise ValueError(f"JAXSEARCH_DISTRIBUTED must be auto or unset, got {mode!r}")
    if given and mode:
        raise ValueError(
            "JAXSEARCH_DISTRIBUTED=auto and JAXSEARCH_COORDINATOR exclude each other: "
            "unset one"
        )
    if given:
        _check_number("JAXSEARCH_PROCESS_ID", "JAXSEARCH_NUM_PROCESSES", environ)
    hosts = [h for h in environ.get("TPU_WORKER_HOSTNAMES", "").split(",") if h]
    worker = environ.get("TPU_WORKER_ID", "")
    if hosts and worker and not (worker.isdecimal() and int(worker) < len(hosts)):
        raise ValueError(
            f"TPU_WORKER_ID is {worker!r}, but TPU_WORKER_HOSTNAMES lists {len(hosts)} "
            "hosts; the variables may be left over from another slice: unset both, or "
            "set them to those of the current slice"
        )


def _check_number(index: str, count: str, environ: Mapping[str, str]) -> None:
    is_number = environ[index].isdecimal() and environ[count].isdecimal()
    if not (is_number and int(environ[index]) < int(environ[count])):
        raise ValueError(
            f"{index} must be in 0..{count} - 1, got {environ[index]!r} of "
            f"{environ[count]!r}; are they left over from another run?"
        )


def local_devices(environ: Mapping[str, str]) -> list[int] | None:
    """The GPUs of this machine that the process uses; None for JAX's default.

    Raises:
      ValueError: if JAXSEARCH_LOCAL_DEVICES is neither "all" nor numbers.
    """
    text = environ.get("JAXSEARCH_LOCAL_DEVICES", "all")
    if text != "all":
        if not re.fullmatch(r"\d+(,\d+)*", text):
            raise ValueError(
                "JAXSEARCH_LOCAL_DEVICES must be all or numbers separated by commas, "
                f"got {text!r}"
            )
        return [int(number) for number in text.split(",")]
    if environ.get("JAX_PLATFORMS") == "cpu":
        return None
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        num_gpus = len([name for name in visible.split(",") if name])
    else:
        num_gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return list(range(num_gpus)) or None


def use_compilation_cache(environ: Mapping[str, str] = os.environ) -> None:
    """Enables JAX's compilation cache, in the user's cache folder.

    Broken entries are replaced. JAX_COMPILATION_CACHE_DIR selects another folder or a
    bucket (gs://...), and JAX_ENABLE_COMPILATION_CACHE=false disables the
    cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" in environ:
        mend_entries(environ["JAX_COMPILATION_CACHE_DIR"])
        return
    folder = str(cache_folder(environ) / "xla" / machine_folder())
    jax.config.update("jax_compilation_cache_dir", folder)
    mend_entries(folder)
    # Not JAX's second: a small policy has a hundred programs that take less each.
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def is_primary() -> bool:
    """Whether this is the process that writes the run's files."""
    return jax.process_index() == 0


def say_once(line: str) -> None:
    """Prints a line to standard error, once for all processes."""
    if is_primary():
        print(visible(line), file=sys.stderr, flush=True)


def wait_for_all(reason: str) -> None:
    """Blocks until every process has called it with the same `reason`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(reason)


def all_gather_objects(value: T) -> list[T]:
    """The values of all processes, in order of process index.

    Values are pickled, which is safe between processes of the same run.
    """
    if jax.process_count() == 1:
        return [value]
    own = np.frombuffer(pickle.dumps(value), np.uint8)
    lengths = multihost_utils.process_allgather(np.uint32(own.size)).tolist()
    gathered = []
    for begin in range(0, max(lengths), _GATHERED_BYTES):
        # A fixed size, because each new size would compile another program.
        block = np.zeros(_GATHERED_BYTES, np.uint8)
        piece = own[begin : begin + _GATHERED_BYTES]
        block[: piece.size] = piece
        gathered.append(multihost_utils.process_allgather(block))
    whole = np.concatenate(gathered, axis=1)
    return [
        pickle.loads(row[:length].tobytes())
        for row, length in zip(whole, lengths, strict=True)
    ]


def broadcast_from_primary(value: T) -> T:
    """The value of the primary process, on all processes."""
    return all_gather_objects(value)[0]


def on_primary(call: Callable[[], T]) -> T:
    """Calls a function on the primary process and returns its result on all of them.

    Raises:
      ValueError, TryAgainError: on all processes, if `call` raises one.
    """
    value, refusal = None, None
    if is_primary():
        try:
            value = call()
        except (ValueError, TryAgainError) as error:
            refusal = error
    value, refusal = broadcast_from_primary((value, refusal))
    if refusal is not None:
        raise refusal
    return cast(T, value)


def is_preempted(step: int) -> bool:
    """Whether the processes of a run were asked to end, and this is the step to do so.

    At SIGTERM to one of several processes, JAX's runtime chooses a step that none of
    them has passed. A single process handles the signal itself.

    Args:
      step: number of this step, which increases by one from call to call.
    """
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(
        step
    )


def process_shard(items: Sequence[T]) -> list[T]:
    """The items of this process: every n-th item, for n processes."""
    return list(items[jax.process_index() :: jax.process_count()])


def shard_size(num_items: int, name: str) -> int:
    """Items per process.

    Raises:
      ValueError: if `num_items` is not divisible by the number of processes; the error
        calls the items `name`.
    """
    if num_items % jax.process_count():
        raise ValueError(
            f"{name} is {num_items}, which is not divisible by the "
            f"{jax.process_count()} processes"
        )
    return num_items // jax.process_count()


def end(status: int | None) -> None:
    """Exits this process immediately if it is one of several.

    A regular exit would wait for the other processes, which wait for this one.

    Args:
      status: exit status; None for that of the exception being handled.
    """
    if not jax.distributed.is_initialized():
        return
    error = sys.exception()
    if status is None:
        status = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            print(visible_traceback(error), end="", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
