"""Memory traffic of compiled programs: bytes read from and written to device memory."""

import re
from collections.abc import Sequence

from jaxsearch.plan.hlo import ArrayShape, Computation, Instruction, Program, Visit

# Instructions without memory traffic, or whose traffic is counted at their start.
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
# Instructions that update their first operand in place, and the operand with the
# update.
_IN_PLACE = {"dynamic-update-slice": 1, "scatter": 2}


def memory_bytes(program: Program, visit: Visit) -> float:
    """Memory traffic of one run of an instruction outside fusions."""
    computation, instruction = visit.computation, visit.instruction
    if instruction.opcode in _FREE or instruction.opcode.endswith("-done"):
        return 0.0
    if instruction.opcode.endswith("-start"):
        # A copy or a transfer reads as much as it writes.
        return float(
            sum(_in_memory(x.arrays) for x in computation.operands(instruction))
            if "slice" not in instruction.opcode
            else max((x.num_bytes for x in instruction.arrays[1:]), default=0)
        )
    arguments = computation.operands(instruction)
    if instruction.opcode == "fusion":
        inside = program.computations[instruction.attribute("calls")]
        written, read_from = _aliases(instruction)
        read = sum(
            _fused_read(inside, number, argument)
            for number, argument in enumerate(arguments)
            if number not in read_from
        )
        return read + _fused_write(inside, instruction, written)
    if instruction.opcode in ("dynamic-slice", "slice", "gather"):
        return 2.0 * _in_memory(instruction.arrays)
    if instruction.opcode in _IN_PLACE:
        return 2.0 * _in_memory(arguments[_IN_PLACE[instruction.opcode]].arrays)
    return float(
        _in_memory(instruction.arrays) + sum(_in_memory(x.arrays) for x in arguments)
    )


def _fused_read(inside: Computation, number: int, argument: Instruction) -> float:
    """Bytes that a fusion reads of an argument; only the slices if it is sliced."""
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
    sliced = 0
    for user in users:
        is_first = user.operands[0] == parameter
        if user.opcode in ("dynamic-slice", "slice", "gather") and is_first:
            sliced += user.num_bytes
        elif user.opcode in _IN_PLACE and is_first:
            continue
        else:
            return float(whole)
    return float(min(sliced, whole))


def _aliases(instruction: Instruction) -> tuple[set[int], set[int]]:
    """Results of a fusion that alias operands, and the aliased operands.

    A gather that overlaps with products passes through fusions this way.
    """
    pairs = re.findall(r"\{(\d*)\}: \((\d+), \{\}\)", instruction.attributes)
    return {int(a or 0) for a, _ in pairs}, {int(b) for _, b in pairs}


def _fused_write(
    inside: Computation, instruction: Instruction, aliased: set[int]
) -> float:
    root = _without_bitcasts(inside, inside.root)
    roots = inside.operands(root) if root.opcode == "tuple" else [root]
    total = 0
    for number, (result, array) in enumerate(
        zip(roots, instruction.arrays, strict=False)
    ):
        result = _without_bitcasts(inside, result)
        if number in aliased:
            continue
        if result.opcode in _IN_PLACE:
            total += inside.operand(result, _IN_PLACE[result.opcode]).num_bytes
        else:
            total += _in_memory((array,))
    return float(total)


def _without_bitcasts(inside: Computation, instruction: Instruction) -> Instruction:
    while instruction.opcode == "bitcast":
        instruction = inside.operand(instruction, 0)
    return instruction


def _in_memory(arrays: Sequence[ArrayShape]) -> int:
    return sum(array.num_bytes for array in arrays if not array.is_on_chip)
