"""Standard streams that the shell has closed, as in `jaxsearch train tiny >&-`."""

import os
import sys


def open_missing_streams() -> None:
    """Discards what is written to standard output and error where they are closed.

    Python has None for them, which nothing can be written to. A file that is opened
    later would also get their numbers, and receive what libraries print.
    """
    for name in ("stdout", "stderr"):
        if vars(sys)[name] is None:
            nowhere = open(os.devnull, "w")
            setattr(sys, name, nowhere)
            setattr(sys, f"__{name}__", nowhere)
