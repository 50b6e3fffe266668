"""A run whose folder is in a bucket: trained in a local copy, which is kept equal.

The copy is below the user's cache folder. A thread writes its changes to the bucket
every few seconds, so training neither knows of the bucket nor waits for it. If the
bucket fails for a while, the run goes on and the thread tries again.
"""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from jaxsearch.json_lines import replace_file
from jaxsearch.local_paths import cache_folder
from jaxsearch.run.bucket import Bucket, BucketError
from jaxsearch.run.bucket_download import download, equal_checkpoints
from jaxsearch.run.bucket_lock import LOCK, BucketLock, Holder
from jaxsearch.run.bucket_upload import Uploads
from jaxsearch.run.folder_lock import locked, release
from jaxsearch.try_again import TryAgainError

Finishing = Callable[[Callable[[], None]], contextlib.AbstractContextManager[None]]

# Between two looks for changes; longer if writing them takes long.
_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 120.0
# For the last changes: of a run that ends, and of one that is asked to end.
_END_S = 900.0
_SIGNAL_S = 20.0
# More than a run that has ended needs: to write, to delete, and to find nothing new.
_LAST_LOOKS = 5
# Keys of holders of the bucket's lock, one per line. The copy is used again if the lock
# is that of one of them. Before the lock is written there are two: whichever of the two
# the bucket has after a kill, no other machine has trained there.
_KEYS = "bucket_key"


@contextlib.contextmanager
def bucket_folder(
    address: str, say: Callable[[str], None], finishing: Finishing
) -> Iterator[Path]:
    """Context with a local copy of a run's folder in a bucket, kept equal to it.

    A copy of an earlier command on this machine is used if no other machine has trained
    in the bucket since; it may have more than the bucket.

    Args:
      address: address of the run's folder.
      say: receives lines for the user.
      finishing: context of a function that is called before the process is ended early.

    Yields:
      The local folder.

    Raises:
      ValueError: if the bucket cannot be used, or the address is not that of a run.
      TryAgainError: if another process trains there, or, at the end, if the bucket
        could not be written.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"a run of {jax.process_count()} processes needs a folder that all of them "
            f"see, got {address!r:.120}; mount the bucket on every host (gcsfuse with "
            "a hierarchical namespace), or give a shared folder with --out"
        )
    bucket = Bucket(address)
    home = copy_home(bucket.address)
    with locked(home, say):
        try:
            lock, uploads = _opened(bucket, home, say)
        except BucketError as error:
            raise ValueError(
                f"{error}; check the name and that this machine may write there"
            ) from None
        mirror = _Mirror(bucket.address, lock, uploads, say)

        def finish() -> None:
            mirror.finish(_SIGNAL_S)
            release(home)

        with finishing(finish):
            try:
                yield home / "run"
            finally:
                is_equal = mirror.finish(_END_S)
        if is_equal:
            say(f"the run is in {bucket.address}")
        else:
            raise TryAgainError(
                f"the run is in {home / 'run'}; the same command writes it to "
                f"{bucket.address}"
            )


def copy_home(address: str) -> Path:
    """The folder of the local copy of a run in a bucket."""
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]
    name = f"{address.rpartition('/')[2]}-{digest}"
    return cache_folder() / "buckets" / name


def _opened(
    bucket: Bucket, home: Path, say: Callable[[str], None]
) -> tuple[BucketLock, Uploads]:
    """Takes the bucket's lock, and makes the local copy."""
    sizes = bucket.sizes()
    if sizes and not {"config.json", LOCK} & sizes.keys():
        raise ValueError(
            f"{bucket.address} is not a run's folder (no config.json), and not empty; "
            "choose another with --out"
        )
    folder, keys, has_copy = home / "run", home / _KEYS, False

    def prepare(before: Holder | None, holder: Holder) -> None:
        nonlocal has_copy
        recorded = keys.read_text().split() if keys.is_file() else []
        has_copy = before is not None and before.key in recorded and folder.is_dir()
        if before is not None and has_copy:
            replace_file(keys, f"{before.key}\n{holder.key}\n".encode())
        else:
            keys.unlink(missing_ok=True)

    lock = BucketLock(bucket, say, prepare)
    sizes = bucket.sizes()
    if has_copy:
        complete = equal_checkpoints(bucket, folder, sizes)
    else:
        num = sum(name != LOCK for name in sizes)
        if num:
            say(f"{bucket.address}: copying {num} files to {folder}")
        complete = download(bucket, folder, sizes)
    replace_file(keys, f"{lock.holder.key}\n".encode())
    return lock, Uploads(bucket, folder, sizes, complete)


class _Mirror:
    """Writes changes of a run's folder to its bucket, in a thread."""

    def __init__(
        self,
        address: str,
        lock: BucketLock,
        uploads: Uploads,
        say: Callable[[str], None],
    ):
        self._address = address
        self._lock = lock
        self._uploads = uploads
        self._say = say
        self._has_failed = False
        self._uploading = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = _PAUSE_S
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                num = self._upload()
            except TryAgainError:
                return  # the lock's own thread ends the process
            if num is None:
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                took = time.monotonic() - began
                pause = min(max(_PAUSE_S, 2 * took), _LONGEST_PAUSE_S)

    def _upload(self) -> int | None:
        """Looks once for changes and writes them; their number, None if that failed.

        Raises:
          TryAgainError: if another process has taken the lock.
        """
        with self._uploading:
            try:
                self._lock.check()
                num = self._uploads.run()
            except (BucketError, ValueError, OSError) as error:
                # OSError: of a file here, such as on a shared file system.
                if not self._has_failed:
                    self._say(f"{error}; the run goes on, and it is tried again")
                self._has_failed = True
                return None
            if self._has_failed:
                self._say(f"{self._address} has all changes again")
                self._has_failed = False
            return num

    def finish(self, limit_s: float) -> bool:
        """Writes the last changes and releases the lock; whether it succeeded.

        Args:
          limit_s: seconds after which a bucket that fails is not tried again, nor one
            whose run changes its files meanwhile.
        """
        self._ended.set()
        give_up, pause, num_looks = time.monotonic() + limit_s, 0.5, 0
        while (num := self._upload()) != 0:
            num_looks += 1
            is_late = time.monotonic() >= give_up
            if is_late and (num is None or num_looks >= _LAST_LOOKS):
                self._say(f"{self._address} lacks the last changes")
                return False
            if num is None:
                time.sleep(pause)
                pause = min(2 * pause, 30.0)
        with contextlib.suppress(
            BucketError, ValueError
        ):  # then others wait for a minute
            self._lock.release()
        return True
