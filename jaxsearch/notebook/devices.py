"""Virtual devices, to see the work of several devices on one machine."""

import os

import jax


def quick_compilation_flags() -> str:
    """Flags for XLA_FLAGS with which programs for a CPU are compiled quickly.

    Programs of notebooks and tests run once or twice, so the time to compile them
    counts.
    """
    flags = "--xla_backend_optimization_level=0"
    # XLA ends the process if it does not know a flag, and JAX 0.12 no longer knows this
    # one.
    if jax.__version_info__ < (0, 11):
        flags += " --xla_cpu_use_fusion_emitters=false"
    return flags


class NotebookError(RuntimeError):
    """An error that Jupyter shows as one line that says what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def use_virtual_devices(num_devices: int) -> None:
    """Divides the CPU of this machine into devices; call it before JAX computes.

    Programs are then compiled five times faster, to slower machine code. What they
    compute and exchange is the same. On accelerators leave this call out.

    If JAX has started already, nothing changes, and it must have enough devices.

    Args:
      num_devices: number of virtual devices.

    Raises:
      NotebookError: if JAX has started with fewer devices.

    Example:
      >>> use_virtual_devices(8)
      >>> jax.device_count()
      8
    """
    try:
        jax.config.update("jax_num_cpu_devices", num_devices)
    except RuntimeError:
        pass  # JAX has started, maybe with as many devices from XLA_FLAGS
    else:
        # Has no effect once JAX has started.
        jax.config.update("jax_platforms", "cpu")
        # Read when the first program is compiled.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{quick_compilation_flags()} {flags}".strip()
    if jax.device_count() < num_devices:
        raise NotebookError(
            f"this needs {num_devices} devices, but JAX has started with "
            f"{jax.device_count()}: restart the kernel and run the notebook from its "
            "first cell"
        )
