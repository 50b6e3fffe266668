"""Arrays in .npy files of other people: no pickle, and no more than the file holds."""

import math
import os
import tokenize
from pathlib import Path

import numpy as np


def read_array(path: Path) -> np.ndarray:
    """The array in a .npy file.

    `np.load` would also open archives, and would reserve memory for whatever shape the
    header states.

    Raises:
      ValueError: if the file cannot be read, is damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"expected format 1.0, found {version}")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            left = os.fstat(file.fileno()).st_size - file.tell()
            if dtype.hasobject or math.prod(shape) * dtype.itemsize != left:
                raise ValueError(
                    f"{shape} values of {dtype} should follow the header, found {left} "
                    "bytes"
                )
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    # The header is a Python literal, which numpy tokenizes if it is not one.
    except (OSError, EOFError, ValueError, SyntaxError, tokenize.TokenError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({reason:.200})") from error
