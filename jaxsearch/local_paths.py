"""Paths on this machine: the cache folder, and checks of what users give.

`Path` would read gs://bucket/run as a local folder `gs:`, which is lost with the
machine. Folders also need operations that buckets lack: a lock, appending to files, and
atomic replacement of files and folders. `jaxsearch train` keeps a local copy of a run's
folder in a bucket; see `run.bucket_folder`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

# With // or with / as in `Path`; a single letter is a Windows drive.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):(/+)(?=.)", re.I)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of what jaxsearch keeps for later runs of the user."""
    caches = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "jaxsearch"


def is_address(path: str | Path) -> bool:
    """Whether a path is an address such as gs://BUCKET/NAME."""
    return bool(_ADDRESS.match(str(path)))


def check_local(path: str | Path, what: str) -> None:
    """Checks that a path is not a bucket address such as gs://... or s3://...

    Args:
      path: the path.
      what: what it names, such as "the run's folder"; the error begins with it.

    Raises:
      ValueError: if it is an address.
    """
    if found := _ADDRESS.match(str(path)):
        given = f"{found[1]}://{str(path)[found.end() :]}"
        raise ValueError(
            f"{what} must be on a file system of this machine, got {given!r:.120}; "
            "give a local or shared folder, and mount the bucket there (gcsfuse, "
            "mountpoint-s3 or launch/skypilot.yaml), or copy the folder to or from "
            "the bucket (only `jaxsearch train --out` takes its address)"
        )


def check_new_folder(folder: Path) -> None:
    """Checks that a folder is empty or can be made.

    Raises:
      ValueError: if it has files, or its path leads through a file.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        raise ValueError(f"{there} is a file; give a new folder")
    if there is folder and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give a new folder")
