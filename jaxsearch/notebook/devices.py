"""Virtual devices, to see the work of several devices on one machine."""

import jax


class NotebookError(RuntimeError):
    """An error that Jupyter shows as one line that says what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def use_virtual_devices(num_devices: int) -> None:
    """Divides the CPU of this machine into devices; call it before JAX computes.

    If JAX has started already, nothing changes, and it must have enough devices.

    Args:
      num_devices: number of virtual devices.

    Raises:
      NotebookError: if JAX has started with fewer devices.

    Example:
      >>> use_virtual_devices(jax.device_count())  # has started, and has so many
    """
    try:
        jax.config.update("jax_num_cpu_devices", num_devices)
    except RuntimeError:
        pass  # JAX has started, maybe with as many devices from XLA_FLAGS
    else:
        # Has no effect once JAX has started.
        jax.config.update("jax_platforms", "cpu")
    if jax.device_count() < num_devices:
        raise NotebookError(
            f"this needs {num_devices} devices, but JAX has started with "
            f"{jax.device_count()}: restart the kernel and run the notebook from its "
            "first cell"
        )
