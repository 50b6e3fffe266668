"""Reading parts of the tensors in a folder's safetensors files.

The `safetensors` package maps a whole file into memory, copies each tensor into a
buffer that JAX must copy again, and keeps the pages it has read. This module reads a
part once, directly into memory that JAX takes over. Format:
https://github.com/huggingface/safetensors
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsearch.folder_files import check_links, file_inside
from jaxsearch.json_files import parse_json, read_json

INDEX_NAME = "model.safetensors.index.json"

_DTYPES: Mapping[str, Any] = {
    "F64": np.dtype("float64"),
    "F32": np.dtype("float32"),
    "F16": np.dtype("float16"),
    "BF16": jnp.dtype("bfloat16"),
    # Position ids that old versions of transformers saved with a BERT.
    "I64": np.dtype("int64"),
}
# A file with a longer header is treated as damaged and not read.
_MAX_HEADER_BYTES = 100_000_000
# On a CPU, JAX takes over memory with this alignment without a copy.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Tensor:
    """The location of a tensor in a file, with the dtype stored there."""

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int  # of the first byte in the file

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors in a model's folder, by name; only headers are read.

    The files are those listed in the index (`model.safetensors.index.json`), else
    `model.safetensors`, else every *.safetensors.

    Raises:
      ValueError: naming the file that is missing, truncated, damaged or outside of the
        folder, and the tensor if only one is wrong.
    """
    index = folder / INDEX_NAME
    if index.is_file():
        check_links(folder, [index])
        return _indexed(index)
    single = folder / "model.safetensors"
    files = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"model folder {folder} has no *.safetensors")
    check_links(folder, files)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= _header(file)
    return tensors


def read_part(
    tensor: Tensor, shape: Sequence[int], part: Sequence[slice]
) -> np.ndarray:
    """A part of a tensor viewed as an array of `shape`; only the part's bytes are read.

    Args:
      shape: shape with the same number and order of values as the tensor.
      part: a contiguous range of each axis.
    """
    ranges = [s.indices(size)[:2] for s, size in zip(part, shape, strict=True)]
    out = _aligned([stop - start for start, stop in ranges], tensor.dtype)
    is_whole = [(0, n) == r for n, r in zip(shape[1:], ranges[1:], strict=True)]
    if not all(is_whole):
        view = np.memmap(
            tensor.file, tensor.dtype, "r", offset=tensor.offset, shape=tuple(shape)
        )
        out[...] = view[tuple(slice(*r) for r in ranges)]
        return out
    first = ranges[0][0] if ranges else 0
    row_bytes = math.prod(shape[1:]) * tensor.dtype.itemsize
    target = memoryview(out.reshape(-1).view(np.uint8))
    with open(tensor.file, "rb", buffering=0) as file:
        offset = tensor.offset + first * row_bytes
        while target:
            # One call reads at most 2 GiB.
            count = os.preadv(file.fileno(), [target], offset)
            if not count:
                raise ValueError(
                    f"{tensor.file} became shorter while it was being read"
                )
            target, offset = target[count:], offset + count
    return out


def _aligned(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    nbytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def _indexed(index: Path) -> dict[str, Tensor]:
    try:
        weight_map = read_json(index)["weight_map"]
        names = sorted(set(weight_map.values()))
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise ValueError(
            f"{index}: expected a JSON object whose weight_map names the file of each "
            f"tensor ({error!r:.200})"
        ) from None
    # All names are checked before any file is opened.
    files = {name: file_inside(index.parent, name, str(index)) for name in names}
    headers = {}
    for file in sorted(set(files.values())):
        if not file.is_file():
            held = [name for name, given in weight_map.items() if files[given] == file]
            raise ValueError(
                f"{file} does not exist; {index.name} says that it holds "
                f"{held[0]:.200} (and {len(held) - 1} more)"
            )
        headers[file] = _header(file)
    tensors = {}
    for name, given in weight_map.items():
        file = files[given]
        if name not in headers[file]:
            raise ValueError(f"{file} has no tensor {name:.200}; {index.name} says so")
        tensors[name] = headers[file][name]
    return tensors


def _header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file; they must fill it to its last byte."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            header_len = int.from_bytes(file.read(8), "little")
            if size < 8 or header_len > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError(
                    f"{path} is truncated or not a safetensors file: its header should "
                    f"have {header_len} bytes, the file has {size}"
                )
            header = parse_json(file.read(header_len), f"{path}: damaged header")
            if not isinstance(header, dict):
                raise ValueError(f"{path}: damaged header, not a JSON object")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    start = 8 + header_len
    tensors, expected_size = {}, start
    for name, fields in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape = str(fields["dtype"]), tuple(map(int, fields["shape"]))
            begin, end = map(int, fields["data_offsets"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{path}: damaged header of tensor {name:.200} ({error!r:.200})"
            ) from None
        if dtype not in _DTYPES:
            raise ValueError(
                f"{path}: tensor {name:.200} has dtype {dtype:.40}; supported: "
                f"{list(_DTYPES)}"
            )
        tensor = Tensor(path, shape, _DTYPES[dtype], start + begin)
        if end - begin != tensor.nbytes or begin < 0:
            raise ValueError(
                f"{path}: damaged header of tensor {name:.200}: {shape!s:.80} of "
                f"{dtype} are {tensor.nbytes} bytes, not {end - begin}"
            )
        if start + end > size:
            raise ValueError(
                f"{path} is truncated: tensor {name:.200} ends at byte "
                f"{start + end}, the file has {size}"
            )
        expected_size = max(expected_size, start + end)
        tensors[name] = tensor
    if expected_size != size:
        raise ValueError(
            f"{path} is damaged: its tensors end at byte {expected_size}, the file has "
            f"{size}"
        )
    return tensors
