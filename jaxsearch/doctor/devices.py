"""The devices of this machine: whether JAX finds them and they compute correctly."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from jaxsearch.doctor.check import Check

# What stands in /dev on machines with such devices, and the extra for JAX's support.
_ACCELERATORS = {
    "GPU": (("nvidia0",), "cuda"),
    "TPU": (("accel0", "vfio/0"), "tpu"),
}


def device_checks(environ: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """Yields the devices, each after a tiny program has run on it."""
    try:
        devices = jax.local_devices()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        yield Check(
            name="devices",
            status="problem",
            found=f"JAX finds none: {reason:.200}",
            mend="end the process that uses the accelerator, or JAX_PLATFORMS=cpu",
        )
        return
    for device in devices:
        yield device_check(device)
    if devices[0].platform == "cpu":
        yield from unused_accelerators(Path("/dev"), environ)


def device_check(device: jax.Device) -> Check:
    """Whether a product of matrices is compiled, and right."""
    name = f"{device.platform} {device.id}"
    rows = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    try:
        with jax.default_matmul_precision("highest"):
            product = jax.jit(lambda x: x @ x.T)(jax.device_put(rows, device))
        error = np.abs(np.asarray(product) - rows @ rows.T).max()
    except jax.errors.JaxRuntimeError as failure:
        reason = " ".join(str(failure).split())
        return Check(
            name=name,
            status="problem",
            found=f"{device.device_kind}: {reason:.200}",
            mend="pip install --upgrade 'jax[cuda13]'"
            if device.platform == "gpu"
            else "restart the machine, or use another",
        )
    if not error < 1e-3:
        return Check(
            name=name,
            status="problem",
            found=f"{device.device_kind}: a product is wrong by {error:.1e}",
            mend="use another device: this one is damaged, or its driver is",
        )
    memory = (device.memory_stats() or {}).get("bytes_limit", 0) / 1e9
    size = f", {memory:.1f} GB" * bool(memory)
    return Check(
        name=name, status="ok", found=f"{device.device_kind}{size}, computes correctly"
    )


def unused_accelerators(dev: Path, environ: Mapping[str, str]) -> Iterator[Check]:
    """Yields accelerators of the machine that JAX does not use.

    Args:
      dev: the folder of devices, /dev.
      environ: the environment's variables.
    """
    for kind, (names, extra) in _ACCELERATORS.items():
        if not any((dev / name).exists() for name in names):
            continue
        mend = f"pip install 'jaxsearch[{extra}]'"
        if "cpu" in environ.get("JAX_PLATFORMS", ""):
            mend = "unset JAX_PLATFORMS"
        yield Check(
            name=kind,
            status="problem",
            found=f"this machine has a {kind} that JAX does not use",
            mend=mend,
        )
