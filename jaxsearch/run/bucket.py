"""The objects below an address such as gs://bucket/runs/one, through fsspec."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

# Packages of the protocols that users have.
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
_MAX_READ = 2**20


class BucketError(Exception):
    """The bucket did not do what it was asked for; it may do it later."""


class Bucket:
    """Reads and writes objects; several threads may use it at once.

    An object appears, or is replaced, when all of its bytes have arrived.

    Args:
      address: protocol, bucket and a name in it.

    Raises:
      ValueError: if the address is of another form, or its package is missing.
    """

    def __init__(self, address: str):
        # Not loaded by runs in a local folder.
        import fsspec

        self.address = address.rstrip("/")
        protocol, _, rest = self.address.partition("://")
        if "/" not in rest.strip("/"):
            raise ValueError(
                f"expected a bucket and a folder, as {protocol}://BUCKET/runs/NAME, "
                f"got {address!r:.120}"
            )
        try:
            self._files, root = fsspec.core.url_to_fs(
                self.address, use_listings_cache=False
            )
        except (ImportError, ValueError) as error:
            extra = _EXTRAS.get(protocol)
            advice = f"; pip install 'jaxsearch[{extra}]'" if extra else ""
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.address}: {reason:.200}{advice}") from None
        self._root = root.rstrip("/")

    def sizes(self) -> dict[str, int]:
        """Sizes of all objects, by their names below the address.

        Without the empty objects that stand for folders, which consoles make.
        """
        with self._named("list"):
            self._files.invalidate_cache()
            found = self._files.find(self._root, detail=True)
        start = len(self._root) + 1
        sizes = {
            path[start:]: int(info["size"] or 0)
            for path, info in found.items()
            if info.get("type") != "directory"
        }
        folders = {str(one) for name in sizes for one in PurePosixPath(name).parents}
        return {
            name: size
            for name, size in sizes.items()
            if size or not (name in folders or name.endswith("/") or not name)
        }

    def read(self, name: str) -> bytes | None:
        """The content of a small object; None if there is none."""
        with self._named(f"read {name}"):
            try:
                return self._files.cat_file(self._path(name), start=0, end=_MAX_READ)
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Writes an object."""
        with self._named(f"write {name}"):
            self._files.pipe_file(self._path(name), data)

    def upload(self, file: Path, name: str) -> None:
        """Writes an object with the content of a file.

        Raises:
          FileNotFoundError: if there is no such file.
        """
        file.stat()
        with self._named(f"write {name}"):
            self._files.put_file(str(file), self._path(name))

    def download(self, name: str, file: Path) -> None:
        """Writes the content of an object to a file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._named(f"read {name}"):
            self._files.get_file(self._path(name), str(file))

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects in this order."""
        for name in names:
            with self._named(f"delete {name}"), contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _named(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store's library raises errors of its own
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise BucketError(
                f"{self.address}: cannot {doing:.200} ({reason:.200})"
            ) from error
