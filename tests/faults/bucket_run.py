"""A run in a store of folders: bucket_run.py STORE CACHE CONFIG.

STORE is a folder that stands for the bucket, CACHE the user's cache folder of the
machine. The store refuses writes while STORE/down exists.
"""

import os
import sys
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from jaxsearch.commands.main import main
from jaxsearch.run import bucket_folder as folders


class FolderStore(LocalFileSystem):
    """A store whose objects appear whole, as in buckets."""

    protocol = "store"
    root = Path()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("store://"))

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if (self.root / "down").exists():
            raise ConnectionError("status 503")
        self.makedirs(os.path.dirname(path), exist_ok=True)
        part = self.root / f"part-{os.urandom(8).hex()}"
        part.write_bytes(value)
        os.replace(part, path)

    def put_file(self, lpath, rpath, callback=None, **kwargs):
        self.pipe_file(rpath, Path(lpath).read_bytes())


if __name__ == "__main__":
    FolderStore.root = Path(sys.argv[1])
    os.environ["XDG_CACHE_HOME"] = sys.argv[2]
    folders._PAUSE_S = folders._LONGEST_PAUSE_S = 0.05
    fsspec.register_implementation("store", FolderStore)

    address = f"store://{FolderStore.root / 'bucket' / 'run'}"
    sys.exit(main(["train", sys.argv[3], "--out", address]))
