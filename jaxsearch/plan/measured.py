"""Compiles a program and measures its costs."""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxsearch.plan.chips import Chip
from jaxsearch.plan.costs import Costs, costs
from jaxsearch.plan.hlo import Program


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The costs of one call of a program on one device.

    Attributes:
      held_bytes: bytes of the program's arguments.
      extra_bytes: bytes of temporaries, new results and code.
      seconds: compile time; None if it was not compiled.
    """

    held_bytes: int | float
    extra_bytes: int | float
    costs: Costs
    seconds: float | None = None

    def least_seconds(self, chip: Chip | None) -> dict[str, float]:
        """Lower bounds by resource at the chip's published rates; {} without a chip."""
        if chip is None:
            return {}
        received = sum(sum(by.values()) for by in self.costs.collectives.values())
        return {
            "products": self.costs.flops / chip.flops,
            "memory": self.costs.memory_bytes / chip.memory_rate,
            "links": received / chip.link_rate,
        }

    def record(self, chip: Chip | None) -> dict[str, Any]:
        """The costs as JSON values."""
        times = self.least_seconds(chip)
        return {
            "held_bytes": self.held_bytes,
            "extra_bytes": self.extra_bytes,
            "flops": self.costs.flops,
            "accessed_bytes": self.costs.memory_bytes,
            "received_bytes": {k: dict(v) for k, v in self.costs.collectives.items()},
            "least_seconds": times,
            "bound_by": max(times, key=times.get) if times else None,
            "compile_seconds": self.seconds,
        }


class TooLargeError(ValueError):
    """A program does not fit the memory; the message is the compiler's."""


def measured(
    name: str,
    lower: Callable[[], Any],
    mesh_shape: Mapping[str, int],
    *,
    unknown_trips: int = 1,
) -> Measured:
    """Compiles the result of `lower`, and prints a line of progress to stderr.

    Raises:
      TooLargeError: if the program does not fit the device's memory.
    """
    started = time.perf_counter()
    print(f"compiling {name} ...", end=" ", file=sys.stderr, flush=True)
    try:
        compiled = lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print("too large", file=sys.stderr)
        raise TooLargeError(f"{name}: {_shortage(str(error))}") from None
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s", file=sys.stderr)
    return measure(compiled, mesh_shape, unknown_trips=unknown_trips, seconds=seconds)


def measure(
    compiled: jax.stages.Compiled,
    mesh_shape: Mapping[str, int],
    *,
    unknown_trips: int = 1,
    seconds: float | None = None,
) -> Measured:
    """The costs of a compiled program.

    Args:
      mesh_shape: sizes of the mesh axes, in the order of the mesh.
      unknown_trips: trip count of loops whose trip count is not in the program.
      seconds: compile time, to record.
    """
    memory = compiled.memory_analysis()
    program = Program.read(compiled.as_text())
    return Measured(
        held_bytes=memory.argument_size_in_bytes,
        extra_bytes=memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.generated_code_size_in_bytes,
        costs=costs(program, mesh_shape, unknown_trips=unknown_trips),
        seconds=seconds,
    )


def _shortage(text: str) -> str:
    """The line of XLA's message that states the memory needed and available."""
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in lines if "Used" in line), lines[0])
