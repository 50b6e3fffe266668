"""Machines by name: a topology such as v5e:4x4, or the size that launchers use."""

import dataclasses
import math
import re

from jaxsearch.plan.chips import CHIPS, Chip

_TORUS_AXES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2, "tpu7x": 3}
# Google Cloud rents eight chips of these as one machine; of larger slices, each machine
# has four.
_EIGHT_ON_A_HOST = ("v5e", "v6e")
# Other names of a generation.
_ALIASES = {"v5litepod": "v5e", "a100": "a100-80gb"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """A machine by name: `v5e:4x4` has sixteen chips, `h200:8` has eight."""

    generation: str
    num_devices: int
    name: str

    @property
    def chip(self) -> Chip:
        return CHIPS[self.generation]

    @property
    def is_tpu(self) -> bool:
        return self.generation in _TORUS_AXES

    @property
    def host_devices(self) -> int:
        """Devices per process."""
        if self.generation in _EIGHT_ON_A_HOST and self.num_devices == 8:
            return 8
        return min(self.num_devices, self.chip.host_devices)

    @property
    def host(self) -> "Topology":
        """The TPU machine of a host of a larger slice, with four chips."""
        size = "x".join(["2", "2", "1"][: _TORUS_AXES[self.generation]])
        return topology(f"{self.generation}:{size}")


def topology(name: str) -> Topology:
    """The machine with that name, in capitals or not.

    The size of a TPU slice is its topology, or after a hyphen its number as launchers
    use it: v5e-8 and v6e-8 are eight chips, v4-8, v5p-8 and tpu7x-8 eight cores, which
    are four chips. Of GPUs it is their number.

    Raises:
      ValueError: if the name is unknown; the error lists the known ones.
    """
    found = re.fullmatch(r"(.+)([:-])([1-9]\d*(?:x[1-9]\d*)*)", name.lower())
    generation, mark, size = found.groups() if found else (name.lower(), ":", "")
    generation = _ALIASES.get(generation, generation)
    if generation in _TORUS_AXES and mark == "-":
        size = _slice(generation, size)
    num_axes = _TORUS_AXES.get(generation, 1)
    if generation not in CHIPS or len(size.split("x")) != num_axes or not size:
        raise ValueError(f"topology {name!r} is unknown; known: {_known()}")
    num_chips = math.prod(int(n) for n in size.split("x"))
    per_chip = 2 if generation == "tpu7x" else 1
    return Topology(
        generation=generation,
        num_devices=num_chips * per_chip,
        name=f"{generation}:{size}",
    )


def _slice(generation: str, size: str) -> str:
    """The topology of a TPU slice with this number in its name; "" if none has it.

    The chips of a slice, a power of two, form a square or a cube, or the nearest to it
    (Google's tables of slices, 2025).
    """
    if not size.isdecimal():
        return ""
    num_axes = _TORUS_AXES[generation]
    num_chips, rest = divmod(int(size), 1 if num_axes == 2 else 2)
    if rest or num_chips.bit_count() != 1:
        return ""
    doublings = num_chips.bit_length() - 1
    if num_axes == 3 and num_chips == 4:
        return "2x2x1"
    sides = [2 ** ((doublings + axis) // num_axes) for axis in range(num_axes)]
    return "x".join(map(str, sides))


def _known() -> str:
    gpus = ", ".join(f"{name}:N" for name in CHIPS if name not in _TORUS_AXES)
    return (
        "v5e:AxB and v6e:AxB (v5e:4x4), v4:AxBxC, v5p:AxBxC and tpu7x:AxBxC "
        "(v5p:4x4x4), or as launchers name a slice whose number is a power of two "
        f"(v5e-16, v5p-8); {gpus}; without --topology, plan uses the devices of this "
        "machine"
    )
