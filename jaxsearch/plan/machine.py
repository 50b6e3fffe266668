"""The devices that a plan is for."""

import dataclasses
import os

import jax

from jaxsearch.plan.chips import Chip, chip_of
from jaxsearch.plan.topology import Topology, topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices to plan for, which do not have to be attached.

    Attributes:
      chip: None for a CPU.
      devices: devices to compile for; None without a compiler, for a plan by
        arithmetic.
      local: the devices of one process, which its rollouts use.
      host_devices: number of devices of one process.
      backend: the name that `jax.default_backend` would return.
    """

    name: str
    num_devices: int
    host_devices: int
    chip: Chip | None
    devices: tuple[jax.Device, ...] | None
    local: tuple[jax.Device, ...]
    backend: str

    def of_multiple(self, number: int) -> "Machine":
        """This machine if `number` divides its devices, else one with `number`.

        It is for plans by arithmetic of a run that was written for another machine.
        """
        if self.num_devices % number == 0:
            return self
        return dataclasses.replace(
            self,
            name=f"{number} devices of this kind ({self.name})",
            num_devices=number,
            host_devices=number,
        )


def open_machine(name: str | None, *, is_compiled: bool = True) -> Machine:
    """The machine with that name, or the current machine if the name is None.

    Args:
      is_compiled: load the compiler for its devices, if there is one.

    Raises:
      ValueError: if the name is unknown, if libtpu has no machine of that shape, or for
        TPUs if libtpu is not installed.
    """
    if name is None:
        devices, local = tuple(jax.devices()), tuple(jax.local_devices())
        return Machine(
            name=f"local:{len(devices)}",
            num_devices=len(devices),
            host_devices=len(local),
            chip=chip_of(devices[0].device_kind),
            devices=devices if is_compiled else None,
            local=local,
            backend=devices[0].platform,
        )
    wanted = topology(name)
    devices, local = None, ()
    if wanted.is_tpu and is_compiled:
        devices = local = _tpu_devices(wanted)
        if wanted.num_devices > wanted.host_devices:
            # libtpu compiles for whole machines, not for part of a larger one.
            local = _tpu_devices(wanted.host)
    return Machine(
        name=wanted.name,
        num_devices=wanted.num_devices,
        host_devices=wanted.host_devices,
        chip=wanted.chip,
        devices=devices,
        local=local,
        backend="tpu" if wanted.is_tpu else "gpu",
    )


def _tpu_devices(wanted: Topology) -> tuple[jax.Device, ...]:
    """Descriptions of TPUs from libtpu.

    Raises:
      ValueError: if libtpu is not installed, or has no machine of that shape.
    """
    # Otherwise libtpu requests this machine's metadata from Google Cloud, and waits.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # No device is opened, so there is no need to wait for a process that uses them.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise ValueError(
            f"compiling for {wanted.name} needs libtpu, which is not installed: "
            'pip install "jaxsearch[plan]"'
        ) from None
    from jax.experimental import topologies

    try:
        # JAX treats the two cores of a v4 chip as one device.
        options = {"chip_config_name": "megacore"} if wanted.generation == "v4" else {}
        described = topologies.get_topology_desc(
            topology_name=wanted.name, platform="tpu", **options
        )
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"libtpu has no machine {wanted.name}: {reason}") from None
    return tuple(described.devices)
