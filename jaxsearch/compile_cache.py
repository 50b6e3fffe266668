"""JAX's cache of compiled programs: its folder, and replacement of broken entries.

A killed process or a full disk can leave an incomplete entry. JAX warns about an entry
that it cannot read, and compiles the program. It does not write the entry again,
because a file with that name exists, so the program is compiled at every start. This
module removes the file as soon as JAX warns.
"""

import glob
import hashlib
import platform
import re
import sys
import warnings
from pathlib import Path

from jaxsearch.visible import visible

# JAX's warnings; the groups are the program and the reason.
_WARNINGS = "Error (?:reading|writing) persistent compilation cache"
_READING = re.compile(r"Error reading .* cache entry for '([^']+)': (.*)", re.S)
_WRITING = re.compile(r"Error writing .* cache entry for '[^']+': (.*)", re.S)


def machine_folder() -> str:
    """Name of the folder for programs of this kind of processor.

    CPU programs use the instructions of this processor; another machine with the same
    home folder may lack some of them.
    """
    return f"{platform.machine()}-{hashlib.sha256(_features()).hexdigest()[:8]}"


def _features() -> bytes:
    """The processor's features in `/proc/cpuinfo`, or its name on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    keys = (b"flags", b"Features", b"model name")
    return b"\n".join(sorted({line for line in lines if line.startswith(keys)}))


def mend_entries(folder: str) -> None:
    """Removes broken entries from now on, and prints one line for each.

    Args:
      folder: JAX's cache; if it is in a bucket (gs://...), entries are only reported.
    """
    shown = warnings.showwarning
    said: set[str] = set()

    def show(message, category, filename, lineno, file=None, line=None):
        text = str(message)
        if broken := _READING.match(text):
            name, reason = broken[1], _one_line(broken[2])
            _say(
                f"the compiled program {name} in {folder} is broken ({reason}): it is "
                f"compiled again{_remove(folder, name)}"
            )
        elif failed := _WRITING.match(text):
            reason = _one_line(failed[1])
            if reason not in said:
                said.add(reason)
                _say(
                    f"compiled programs cannot be kept in {folder} ({reason}): the "
                    "next start compiles them again; JAX_COMPILATION_CACHE_DIR names "
                    "another folder"
                )
        else:
            shown(message, category, filename, lineno, file, line)

    # By default, Python shows a warning only once per line of code.
    warnings.filterwarnings("always", message=_WARNINGS)
    warnings.showwarning = show


def _remove(folder: str, name: str) -> str:
    """Removes the entries of a program; returns what was done, for the message."""
    if "://" in folder:
        return "; remove it there, so that it is replaced"
    try:
        for path in Path(folder).glob(f"{glob.escape(name)}-*-cache"):
            path.unlink(missing_ok=True)
    except OSError as error:
        return f", each time, because it cannot be removed: {error.strerror}"
    return " and replaced"


def _one_line(text: str) -> str:
    return f"{' '.join(text.split()):.150}"


def _say(line: str) -> None:
    print(visible(line), file=sys.stderr, flush=True)
