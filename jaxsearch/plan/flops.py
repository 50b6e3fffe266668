"""FLOPs of the matrix products in compiled programs."""

import math
import re

import numpy as np

from jaxsearch.plan.hlo import ArrayShape, Computation, Instruction

# Number of matrix products in the splash attention kernels. Each computes half of a
# square, because attention is causal.
_SPLASH_PRODUCTS = {
    "splash_mha_fwd": 2,
    "splash_mha_dq": 3,
    "splash_mha_dkv": 4,
}


def flops_of(computation: Computation, instruction: Instruction) -> float:
    """FLOPs of an instruction, if it is a matrix product or a known kernel."""
    if instruction.opcode == "dot":
        contracted = _numbers(instruction.attributes, "lhs_contracting_dims")
        dims = computation.operand(instruction, 0).arrays[0].dims
        inner = math.prod(dims[i] for i in contracted)
        return 2.0 * instruction.arrays[0].num_elements * inner
    if instruction.opcode == "convolution":
        return _convolution_flops(
            instruction,
            computation.operand(instruction, 0).arrays[0],
            computation.operand(instruction, 1).arrays[0],
        )
    if instruction.opcode == "custom-call":
        return _kernel_flops(computation, instruction)
    return 0.0


def _convolution_flops(
    instruction: Instruction, left: ArrayShape, right: ArrayShape
) -> float:
    """FLOPs of a convolution, excluding padding.

    On TPUs every matrix product is compiled to a convolution, in which a free axis of
    both operands becomes a window, padded so that it covers each input once.
    """
    labels = instruction.attribute("dim_labels")
    of_left, rest = labels.split("_", 1)
    of_right, of_out = rest.split("->")
    window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    fields = dict(f.split("=") for f in window.group(1).split()) if window else {}
    spatial = sorted(label for label in of_out if label.isdigit())

    def values(name: str, default: str) -> list[str]:
        return fields[name].split("x") if name in fields else [default] * len(spatial)

    pairs = 1
    for i, label in enumerate(spatial):
        size = left.dims[of_left.index(label)]
        taps = right.dims[of_right.index(label)]
        outs = instruction.arrays[0].dims[of_out.index(label)]
        low = int(values("pad", "0_0")[i].split("_")[0])
        stride, left_step, right_step = (
            int(values(name, "1")[i]) for name in ("stride", "lhs_dilate", "rhs_dilate")
        )
        at = np.arange(outs)[:, None] * stride + np.arange(taps) * right_step - low
        pairs *= int(
            np.sum((at >= 0) & (at % left_step == 0) & (at // left_step < size))
        )
    batch = left.dims[of_left.index("b")] // int(
        instruction.attribute("batch_group_count") or 1
    )
    inputs, outputs = (right.dims[of_right.index(label)] for label in "io")
    return 2.0 * pairs * batch * inputs * outputs


def _kernel_flops(computation: Computation, instruction: Instruction) -> float:
    arrays = [x.arrays[0] for x in computation.operands(instruction) if x.arrays]
    numbers = [array for array in arrays if array.dtype in ("bf16", "f32")]
    for name, num_products in _SPLASH_PRODUCTS.items():
        if name in instruction.name:
            # Queries are the first array that is not a mask, [B N T H] or [N T H].
            query = numbers[0]
            return float(num_products * query.num_elements * query.dims[-2])
    if "paged_attention" in instruction.name:
        # Every cached token times every query head. Pages [K P W H] are the largest
        # array.
        query, pages = numbers[0], max(numbers, key=lambda x: x.num_elements)
        return 4.0 * math.prod(pages.dims[1:3]) * math.prod(query.dims[1:])
    return 0.0


def _numbers(text: str, name: str) -> list[int]:
    found = re.search(rf"{name}=\{{([\d,]*)\}}", text)
    return [int(x) for x in found.group(1).split(",") if x] if found else []
