"""Arrays in .npy files of other people: no pickle, and no more than the file holds."""

import math
import os
import tokenize
from pathlib import Path
from typing import BinaryIO

import numpy as np

# The header is a Python literal, which numpy tokenizes if it is not one.
_FAULTS = (OSError, EOFError, ValueError, SyntaxError, tokenize.TokenError)


def map_array(path: Path) -> np.ndarray:
    """The array in a .npy file, mapped into memory and read-only.

    Raises:
      ValueError: if the file cannot be read, is damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            shape, dtype = _checked_header(file)
            offset = file.tell()
        if math.prod(shape) == 0:
            return np.zeros(shape, dtype)  # an empty file cannot be mapped
        # Not as a memmap, whose every slice would make another one.
        return np.memmap(path, dtype, "r", offset=offset, shape=shape).view(np.ndarray)
    except _FAULTS as error:
        raise _damaged(path, error) from error


def read_array(path: Path) -> np.ndarray:
    """The array in a .npy file.

    `np.load` would also open archives, and would reserve memory for whatever shape the
    header states.

    Raises:
      ValueError: if the file cannot be read, is damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            _checked_header(file)
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except _FAULTS as error:
        raise _damaged(path, error) from error


def _checked_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy file, whose size fits them.

    Raises:
      ValueError: or another of _FAULTS, if it does not.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"expected format 1.0, found {version}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    left = os.fstat(file.fileno()).st_size - file.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != left:
        raise ValueError(
            f"{shape} values of {dtype} should follow the header, found {left} bytes"
        )
    if is_fortran and len(shape) > 1:
        raise ValueError("expected rows one after another, found columns (Fortran)")
    return shape, dtype


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())
    return ValueError(f"{path} is damaged ({reason:.200})")
