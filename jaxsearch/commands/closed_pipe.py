"""Standard output that cannot be written any more.

Its reader has ended, as in `jaxsearch data sample nq | head`, or its disk is full.
"""

import os
import select
import signal
import sys

# Exit status that shells show for a process ended by SIGPIPE.
STATUS = 128 + signal.SIGPIPE


def reader_is_gone() -> bool:
    """Whether standard output is a pipe without a reader."""
    output = select.poll()
    output.register(sys.stdout, 0)  # errors alone, which a closed pipe is
    return bool(output.poll(0))


def discard_output() -> None:
    """Discards what is printed from now on, with what is not written yet."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
