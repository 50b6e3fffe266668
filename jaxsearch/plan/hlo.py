"""A parser for the text of compiled XLA programs."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^{}]*)\})?")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "token": 0, "opaque": 0}


class ArrayShape(NamedTuple):
    """The type of an array; if `is_on_chip`, it is not in the device's memory."""

    dtype: str
    dims: tuple[int, ...]
    is_on_chip: bool

    @property
    def num_elements(self) -> int:
        return math.prod(self.dims)

    @property
    def num_bytes(self) -> int:
        bits = _BITS.get(self.dtype)
        if bits is None:
            bits = int(re.search(r"\d+", self.dtype).group())
        return self.num_elements * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction: result, opcode, operands and attributes."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @functools.cached_property
    def arrays(self) -> tuple[ArrayShape, ...]:
        return _arrays(self.shape)

    @property
    def num_bytes(self) -> int:
        return sum(array.num_bytes for array in self.arrays)

    def attribute(self, name: str) -> str | None:
        """The word after `name=`, without a leading %."""
        found = re.search(rf"\b{name}=%?([^\s,{{}}]+)", self.attributes)
        return found and found.group(1)

    @property
    def number(self) -> int:
        """The number of a parameter, or the value of an integer constant."""
        return int(self.attributes)

    @property
    def called(self) -> tuple[str, ...]:
        """Computations that this instruction runs once each, excluding loops."""
        names = [self.attribute("calls")]
        if self.opcode in ("call", "call-start", "async-start"):
            names.append(self.attribute("to_apply"))
        branches = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
        if branches:
            names += branches.group(1).replace("%", "").split(", ")
        return tuple(name for name in names if name)


@dataclasses.dataclass(frozen=True)
class Computation:
    """A computation: instructions by name, in order."""

    name: str
    instructions: Mapping[str, Instruction]

    @property
    def root(self) -> Instruction:
        return next(one for one in self.instructions.values() if one.is_root)

    def operand(self, instruction: Instruction, number: int) -> Instruction:
        return self.instructions[instruction.operands[number]]

    def operands(self, instruction: Instruction) -> list[Instruction]:
        return [self.instructions[name] for name in instruction.operands]


class Visit(NamedTuple):
    """An instruction in its context.

    Attributes:
      times: number of times it runs in one call of the program.
      host: the computation outside all fusions that runs it.
      is_fused: whether it is inside a fusion.
    """

    computation: Computation
    instruction: Instruction
    times: int
    host: str
    is_fused: bool


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program of one device."""

    computations: Mapping[str, Computation]
    entry: str

    @classmethod
    def read(cls, text: str) -> "Program":
        """Parses the text of `compiled.as_text()`."""
        computations, entry = {}, ""
        name, lines = None, []
        for line in _joined_lines(text):
            # A header ends in an opening brace.
            if name is None and line.endswith("{") and "->" in line:
                header = re.match(r"(ENTRY )?%?([\w.\-]+) ", line)
                name, lines = header.group(2), []
                entry = name if header.group(1) else entry
            # The closing brace may be followed by a note, as for SparseCore.
            elif name is not None and line.startswith("}"):
                parsed = [_instruction(one) for one in lines]
                computations[name] = Computation(name, {i.name: i for i in parsed})
                name = None
            elif name is not None and " = " in line:
                lines.append(line)
        return cls(computations, entry)

    def visits(self, unknown_trips: int) -> Iterator[Visit]:
        """Yields every instruction that runs, with the number of times it runs.

        Args:
          unknown_trips: trip count of loops whose trip count is not in the program.
        """
        yield from self._visits(self.entry, 1, self.entry, False, unknown_trips)

    def _visits(
        self, name: str, times: int, host: str, is_fused: bool, unknown: int
    ) -> Iterator[Visit]:
        computation = self.computations[name]
        for one in computation.instructions.values():
            yield Visit(computation, one, times, host, is_fused)
            if one.opcode == "while":
                trips = self._trips(one, computation)
                inside = times * (unknown if trips is None else trips)
                body = one.attribute("body")
                yield from self._visits(body, inside, body, False, unknown)
                continue
            fused = is_fused or one.opcode == "fusion"
            for called in one.called:
                yield from self._visits(called, times, host, fused, unknown)

    def _trips(self, loop: Instruction, around: Computation) -> int | None:
        """Trip count of a loop that counts up to a constant; None for other loops."""
        known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if known:
            return int(known.group(1))
        condition = self.computations[loop.attribute("condition")]
        root = condition.root
        if root.opcode != "compare" or root.attribute("direction") != "LT":
            return None
        counter, bound = condition.operands(root)
        if bound.opcode != "constant":
            return None
        index = int(counter.attribute("index"))
        body = self.computations[loop.attribute("body")]
        after = body.operand(body.root, index)
        # XLA unrolls some loops in pairs, which then count by two.
        steps = [x.number for x in body.operands(after) if x.opcode == "constant"]
        before = around.operand(around.operand(loop, 0), index)
        start = before.number if before.opcode == "constant" else 0
        return -(-(bound.number - start) // (steps[0] if steps else 1))


def _arrays(text: str) -> tuple[ArrayShape, ...]:
    return tuple(
        ArrayShape(
            dtype, tuple(int(d) for d in dims.split(",") if d), "S(1)" in (layout or "")
        )
        for dtype, dims, layout in _ARRAY.findall(text)
    )


def _joined_lines(text: str) -> Iterator[str]:
    """The lines of a program, with attributes that span several lines joined."""
    waiting = ""
    for line in text.splitlines():
        if not waiting and "kernel_metadata={" in line and line.endswith("={"):
            waiting = line
        elif waiting:
            waiting += " " + line
            if line.startswith("}}"):
                yield waiting.strip()
                waiting = ""
        else:
            yield line.strip()


def _instruction(line: str) -> Instruction:
    is_root = line.startswith("ROOT ")
    name, rest = line.removeprefix("ROOT ").split(" = ", 1)
    end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    start = rest.index("(")
    opcode, rest = rest[:start], rest[start:]
    end = _closing(rest)
    inside, attributes = rest[1:end], rest[end + 1 :]
    if opcode in ("constant", "parameter"):
        operands, attributes = (), inside
    else:
        operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name.lstrip("%"), shape, opcode, operands, attributes, is_root)


def _closing(text: str) -> int:
    """Index of the parenthesis that closes the one at the start of `text`."""
    depth = 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return i
    raise ValueError(f"unbalanced parentheses in {text[:80]!r}")
