"""Segments of rows that hold one segment each."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def whole_rows(lengths: Sequence[int], row_len: int) -> Int[np.ndarray, "B T"]:
    """Segment 1 for the given number of tokens of each row, then padding."""
    is_token = np.arange(row_len)[None] < np.asarray(lengths)[:, None]
    return is_token.astype(np.int32)
