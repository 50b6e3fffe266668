"""The interface by which slow computations announce what they compile.

A function that compiles takes an `Announce`; the console of a run is one, and
`silently` is the default. So no package that computes depends on the console.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

# (title, number of programs) -> context around their compilation, which yields a
# function to be called after each program.
Announce: TypeAlias = Callable[
    [str, int], contextlib.AbstractContextManager[Callable[[], None]]
]


@contextlib.contextmanager
def silently(title: str, num_programs: int) -> Iterator[Callable[[], None]]:
    """Announces nothing."""
    yield lambda: None
