"""JAX's cache of compiled programs: where it is, and how broken entries are replaced.

A process that is killed, or a full disk, can leave half an entry. JAX warns about one
that it cannot read, compiles the program, and does not write it again, because there is
a file of that name: the program is compiled at every start. So the file is removed as
soon as JAX warns.
"""

import glob
import hashlib
import platform
import re
import sys
import warnings
from pathlib import Path

from jaxsearch.visible import visible

# The texts of JAX's warnings, and what they tell: the program, and why.
_WARNINGS = "Error (?:reading|writing) persistent compilation cache"
_READING = re.compile(r"Error reading .* cache entry for '([^']+)': (.*)", re.S)
_WRITING = re.compile(r"Error writing .* cache entry for '[^']+': (.*)", re.S)


def machine_folder() -> str:
    """Name of the folder for programs of this kind of processor.

    Programs for a CPU use the instructions that it has; another machine that mounts the
    same home may lack some.
    """
    return f"{platform.machine()}-{hashlib.sha256(_features()).hexdigest()[:8]}"


def _features() -> bytes:
    """What `/proc/cpuinfo` says that the processor can do, or its name elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    keys = (b"flags", b"Features", b"model name")
    return b"\n".join(sorted({line for line in lines if line.startswith(keys)}))


def mend_entries(folder: str) -> None:
    """Removes broken entries from now on, and says so in one line each.

    Args:
      folder: JAX's cache; entries of one in a bucket (gs://...) are only named.
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

    # Each time: after one warning of a line of JAX's, Python would drop the others.
    warnings.filterwarnings("always", message=_WARNINGS)
    warnings.showwarning = show


def _remove(folder: str, name: str) -> str:
    """Removes the entries of a program's name; says so, or why it is impossible."""
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
