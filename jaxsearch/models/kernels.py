"""Attention kernels as config values, and the selection of one for a target."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """The devices and shapes that a kernel has to support.

    Attributes:
      platform: "cpu", "tpu", "cuda" or "rocm".
      dtype: dtype of queries, keys and values.
      compute_capability: of NVIDIA GPUs, such as 8.0; None for others, or if unknown.
      has_segments: whether rows hold several segments that must not attend to each
        other.
      has_windows: whether some layers have a sliding window.
    """

    platform: str
    dtype: Any
    head_width: int
    compute_capability: float | None = None
    has_segments: bool = False
    has_windows: bool = False

    def __str__(self) -> str:
        options = (
            " and packed rows" if self.has_segments else "",
            " and local layers" if self.has_windows else "",
        )
        return (
            f"{self.platform}, {jnp.dtype(self.dtype)} and heads {self.head_width} "
            f"wide{''.join(options)}"
        )


# Returns a description of the kernel's requirements if the target does not meet them,
# otherwise "".
Missing = Callable[[Target], str]


def runs_anywhere(target: Target) -> str:
    """`missing` of a kernel that supports every target."""
    return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowKernel:
    """Attention over whole rows, in training and in the prefill of prompts.

    Attributes:
      name: for error messages.
      attend: (query [B T N H], key [B T K H], value [B T K H], window=None,
        segments=None) -> [B T N H], differentiable. It is causal and multiplies scores
        by H ** -0.5; query head n reads key/value head n // (N / K). With a window (a
        Python integer) a token attends to itself and the window - 1 tokens before it.
        With segments [B T] it attends only to tokens of the same segment. Padding is at
        the end of a row; its outputs are not used but must be finite.
      missing: what it needs that a target lacks; checked before anything is compiled.
      is_xla: written in XLA operations, which XLA partitions by itself. Other kernels
        are run by each device on its own rows and heads.
    """

    name: str
    attend: Callable[..., Any]
    missing: Missing = runs_anywhere
    is_xla: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeKernel:
    """Attention of one new token per row to the cached tokens of its row.

    Attributes:
      name: for error messages.
      layout: a `PageLayout` class, which decides how pages of keys and values are
        stored.
      attend: (query [R N H], segments, reads, window=None) -> [R N H], where `segments`
        are the cache segments of one layer (a tuple of `layout`) and `reads` is a
        `PageReads`. It multiplies scores by H ** -0.5. The result for a row without
        pages is not used but must be finite.
      missing: what it needs that a target lacks; checked before anything is compiled.
      reads_owned_pages: whether a step reads only pages that rows own. If so, the cache
        is one segment; other kernels read all pages of the first few segments.
      copies_pages: whether a step copies the pages of each row, up to the number of
        pages of the longest row. If so, the cache is one segment.
      is_xla: written in XLA operations, which XLA partitions by itself. Other kernels
        are run by each device on its own heads.
    """

    name: str
    layout: type
    attend: Callable[..., Any]
    missing: Missing = runs_anywhere
    reads_owned_pages: bool = False
    copies_pages: bool = False
    is_xla: bool = False


Kernel = TypeVar("Kernel", RowKernel, DecodeKernel)


def chosen_kernel(
    kernel: Kernel | None, known: Mapping[str, Kernel | None], target: Target
) -> Kernel:
    """A kernel that supports the target.

    Args:
      kernel: None for the first known kernel that supports the target.
      known: kernels by short name, the fastest first; None values are ignored.

    Raises:
      ValueError: if the given kernel does not support the target.
    """
    options = [option for option in known.values() if option is not None]
    if kernel is None:
        return next(option for option in options if not option.missing(target))
    if missing := kernel.missing(target):
        possible = ["auto", *(o.name for o in options if not o.missing(target))]
        raise ValueError(
            f"attention {kernel.name!r} needs {missing}; got {target}: use "
            f"{' or '.join(map(repr, possible))}"
        )
    return kernel
