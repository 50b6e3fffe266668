"""What compiled programs read from and write to a device's memory."""

import re
from collections.abc import Sequence

from jaxsearch.plan.hlo import ArrayShape, Computation, Instruction, Program, Visit

# What takes no time of the memory: names, control, and ends of what has been counted.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while"),
    *(
        "conditional",
        "call",
        "call-start",
        "after-all",
        "partition-id",
        "replica-id",
        "iota",
    ),
}
# What writes a part of its first operand in place, and which operand that part is.
_IN_PLACE = {"dynamic-update-slice": 1, "scatter": 2}


def memory_bytes(program: Program, visit: Visit) -> float:
    """Of one run of an instruction outside of fusions."""
    computation, one = visit.computation, visit.instruction
    if one.opcode in _FREE or one.opcode.endswith("-done"):
        return 0.0
    if one.opcode.endswith("-start"):
        # Copied or sent: what comes is as much as what goes.
        return float(
            sum(_in_memory(x.arrays) for x in computation.operands(one))
            if "slice" not in one.opcode
            else max((x.num_bytes for x in one.arrays[1:]), default=0)
        )
    arguments = computation.operands(one)
    if one.opcode == "fusion":
        inside = program.computations[one.attribute("calls")]
        written, read_from = _handed_on(one)
        read = sum(
            _fused_read(inside, number, argument)
            for number, argument in enumerate(arguments)
            if number not in read_from
        )
        return read + _fused_write(inside, one, written)
    if one.opcode in ("dynamic-slice", "slice", "gather"):
        return 2.0 * _in_memory(one.arrays)
    if one.opcode in _IN_PLACE:
        return 2.0 * _in_memory(arguments[_IN_PLACE[one.opcode]].arrays)
    return float(_in_memory(one.arrays) + sum(_in_memory(x.arrays) for x in arguments))


def _fused_read(inside: Computation, number: int, argument: Instruction) -> float:
    """Bytes that a fusion reads of an argument: of one that is sliced, the slices."""
    whole = _in_memory(argument.arrays)
    if not whole:
        return 0.0
    parameter = next(
        (
            x.name
            for x in inside.instructions.values()
            if x.opcode == "parameter" and x.number == number
        ),
        None,
    )
    users = [x for x in inside.instructions.values() if parameter in x.operands]
    parts = 0
    for user in users:
        is_first = user.operands[0] == parameter
        if user.opcode in ("dynamic-slice", "slice", "gather") and is_first:
            parts += user.num_bytes
        elif user.opcode in _IN_PLACE and is_first:
            parts += 0
        else:
            return float(whole)
    return float(min(parts, whole))


def _handed_on(one: Instruction) -> tuple[set[int], set[int]]:
    """Results of a fusion that are its operands, and those operands.

    A gather that goes on beside products is handed from fusion to fusion like this.
    """
    pairs = re.findall(r"\{(\d*)\}: \((\d+), \{\}\)", one.attributes)
    return {int(a or 0) for a, _ in pairs}, {int(b) for _, b in pairs}


def _fused_write(inside: Computation, one: Instruction, handed_on: set[int]) -> float:
    root = _behind_bitcasts(inside, inside.root)
    roots = inside.operands(root) if root.opcode == "tuple" else [root]
    total = 0
    for number, (part, array) in enumerate(zip(roots, one.arrays, strict=False)):
        part = _behind_bitcasts(inside, part)
        if number in handed_on:
            continue
        if part.opcode in _IN_PLACE:
            total += inside.operand(part, _IN_PLACE[part.opcode]).num_bytes
        else:
            total += _in_memory((array,))
    return float(total)


def _behind_bitcasts(inside: Computation, one: Instruction) -> Instruction:
    while one.opcode == "bitcast":
        one = inside.operand(one, 0)
    return one


def _in_memory(arrays: Sequence[ArrayShape]) -> int:
    return sum(array.num_bytes for array in arrays if not array.is_on_chip)
