"""Arrays in .npy files of other people: no pickle, and no more than the file holds."""

import contextlib
import math
import os
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np


def read_array(path: Path) -> np.ndarray:
    """The array in a .npy file.

    `np.load` would also open archives, and would reserve memory for whatever shape the
    header states.

    Raises:
      ValueError: if the file cannot be read, is damaged, or holds Python objects.
    """
    with _readable(path) as file:
        _check_header(file)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def map_array(path: Path) -> np.ndarray:
    """The array in a .npy file, mapped: it is read when it is used.

    Raises:
      ValueError: as `read_array`.
    """
    with _readable(path) as file:
        shape, is_fortran, dtype = _check_header(file)
        if not math.prod(shape):
            return np.zeros(shape, dtype)  # nothing cannot be mapped
        order = "F" if is_fortran else "C"
        mapped = np.memmap(file, dtype, "r", file.tell(), shape, order)
        return np.asarray(mapped)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    """The open file; whatever is wrong with it is a ValueError that names it."""
    try:
        with path.open("rb") as file:
            yield file
    # The header is a Python literal, which numpy tokenizes if it is not one.
    except (OSError, EOFError, ValueError, SyntaxError, tokenize.TokenError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({reason:.200})") from error


def _check_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran's order, and dtype; numbers of this size follow."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"expected format 1.0, found {version}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    left = os.fstat(file.fileno()).st_size - file.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != left:
        raise ValueError(
            f"{shape} values of {dtype} should follow the header, found {left} bytes"
        )
    return shape, is_fortran, dtype
