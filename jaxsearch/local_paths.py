"""Paths that must be on this machine: addresses of buckets are refused.

`Path` would take gs://bucket/run for the folder `gs:` here, and lose it with the
machine. A run's folder needs what buckets lack: a lock, lines appended one by one, and
files and folders that are replaced at once.
"""

import re
from pathlib import Path

# As it was given, or as `Path` shortens it; one letter is a drive of Windows.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):(/+)(?=.)", re.I)


def check_local(path: str | Path, what: str) -> None:
    """Checks that a path is none of a bucket, such as gs://... or s3://...

    Args:
      path: the path.
      what: what it names, such as "the run's folder"; it begins the error.

    Raises:
      ValueError: if it is the address of something.
    """
    if found := _ADDRESS.match(str(path)):
        given = f"{found[1]}://{str(path)[found.end() :]}"
        raise ValueError(
            f"{what} must be on a file system of this machine, got {given!r:.120}; "
            "give a local or shared folder, and mount the bucket there (gcsfuse, "
            "mountpoint-s3, or launch/skypilot.yaml, which does it), or copy the "
            "finished folder to it"
        )
