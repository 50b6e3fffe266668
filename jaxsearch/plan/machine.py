"""The devices that programs are compiled for."""

import dataclasses
import os

import jax

from jaxsearch.plan.chips import Chip, Topology, chip_of, topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices to compile for, which may be elsewhere or nowhere.

    Attributes:
      chip: None for a CPU.
      devices: None where no compiler is at hand: then there is only arithmetic.
      local: those of one process; its rollouts run there.
      host_devices: how many these are.
      backend: as `jax.default_backend` names it there.
    """

    name: str
    num_devices: int
    host_devices: int
    chip: Chip | None
    devices: tuple[jax.Device, ...] | None
    local: tuple[jax.Device, ...]
    backend: str

    def of_multiple(self, number: int) -> "Machine":
        """This one if its devices are a multiple of `number`, or one that has so many.

        For arithmetic alone, about a run that was written for another machine.
        """
        if self.num_devices % number == 0:
            return self
        return dataclasses.replace(
            self,
            name=f"{number} devices as here ({self.name})",
            num_devices=number,
            host_devices=number,
        )


def open_machine(name: str | None, *, is_compiled: bool = True) -> Machine:
    """The machine of that name, or that of the devices that are here.

    Args:
      is_compiled: whether the compiler of its devices is wanted, if there is one.

    Errors: ValueError for an unknown name, a shape that libtpu has no such machine
    of, or TPUs without libtpu.
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
            # A part of a larger machine is none that can be compiled for.
            local = _tpu_devices(wanted.host)
    return Machine(
        name=name,
        num_devices=wanted.num_devices,
        host_devices=wanted.host_devices,
        chip=wanted.chip,
        devices=devices,
        local=local,
        backend="tpu" if wanted.is_tpu else "gpu",
    )


def _tpu_devices(wanted: Topology) -> tuple[jax.Device, ...]:
    """Descriptions of TPUs, from the compiler that libtpu brings.

    Errors: ValueError if it is not installed, or knows no machine of that shape.
    """
    # Else it asks Google's cloud which machine this is, and waits.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # It takes no device, so a process that has them need not be waited for.
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
        # The two cores of a v4 chip are one device to JAX.
        options = {"chip_config_name": "megacore"} if wanted.generation == "v4" else {}
        described = topologies.get_topology_desc(
            topology_name=wanted.name, platform="tpu", **options
        )
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"libtpu has no machine {wanted.name}: {reason}") from None
    return tuple(described.devices)
