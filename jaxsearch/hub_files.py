"""Files of data sets on the Hugging Face Hub: `hf://OWNER/NAME[/FILE][@REVISION]`."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxsearch.local_paths import check_local

SCHEME = "hf://"
_FORM = "hf://OWNER/NAME[/FILE][@REVISION]"
# Also as libraries of the Hub write it: hf://datasets/OWNER/NAME@REVISION/FILE.
_ADDRESS = re.compile(
    r"hf://(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<early>[^@/]+))?"
    r"(?:/(?P<file>[^@]+))?(?:@(?P<late>[^@]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a data set.

    Attributes:
      repo: OWNER/NAME.
      file: path of the file in the data set; "" for its only data file.
      revision: a commit, branch or tag; "" for the newest commit.
    """

    repo: str
    file: str = ""
    revision: str = ""

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"{SCHEME}{self.repo}{file}{'@' if self.revision else ''}{self.revision}"

    @property
    def is_pinned(self) -> bool:
        """Whether this is a file of one commit, the same at every time."""
        return bool(self.file and _COMMIT.fullmatch(self.revision))

    def may_be(self, pinned: "HubFile") -> bool:
        """Whether an address without a revision could stand for a pinned one."""
        is_same = self.repo == pinned.repo and self.file in ("", pinned.file)
        return is_same and not self.revision


def is_hub_file(path: str | Path) -> bool:
    """Whether a path is the address of a file on the Hub."""
    return str(path).startswith(SCHEME)


def hub_file(address: str) -> HubFile:
    """The file with an address.

    Raises:
      ValueError: if the address has another form.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or (found["early"] and found["late"]):
        raise ValueError(f"{address}: expected {_FORM}")
    return HubFile(
        repo=found["repo"],
        file=found["file"] or "",
        revision=found["early"] or found["late"] or "",
    )


def fetched(path: str | Path, suffixes: Sequence[str]) -> Path:
    """A local path unchanged, or the cached copy of a file on the Hub.

    Args:
      path: a path, or an address of the form `hf://OWNER/NAME[/FILE][@REVISION]`.
      suffixes: how the names of data files end, for an address without FILE.

    Raises:
      ValueError: if the file cannot be fetched and is not in the cache, or the address
        has no FILE and the data set several data files.
    """
    if not is_hub_file(path):
        check_local(path, "a file of data")
        return Path(path)
    return _download(hub_file(str(path)), suffixes)[0]


def pinned(path: str, suffixes: Sequence[str]) -> str:
    """The address of the commit that a path stands for now, once it is fetched.

    A local path, and an address with FILE and a commit, are unchanged.

    Raises:
      ValueError: as `fetched` does.
    """
    if not is_hub_file(path) or hub_file(path).is_pinned:
        return path
    return str(_download(hub_file(path), suffixes)[1])


def _download(file: HubFile, suffixes: Sequence[str]) -> tuple[Path, HubFile]:
    """The cached copy of a file, and its address with the commit."""
    from huggingface_hub import hf_hub_download

    name = file.file or _only_data_file(file, suffixes)
    with _one_line(file):
        path = hf_hub_download(
            file.repo, name, repo_type="dataset", revision=file.revision or None
        )
    # The cache has a folder for each commit: .../snapshots/COMMIT/FILE.
    commit = Path(path).parts[-1 - len(Path(name).parts)]
    return Path(path), HubFile(repo=file.repo, file=name, revision=commit)


def _only_data_file(file: HubFile, suffixes: Sequence[str]) -> str:
    """The data file of a data set that has one."""
    from huggingface_hub import HfApi, constants, snapshot_download

    with _one_line(file):
        revision = file.revision or None
        if constants.HF_HUB_OFFLINE:
            folder = Path(
                snapshot_download(
                    file.repo,
                    repo_type="dataset",
                    revision=revision,
                    local_files_only=True,
                )
            )
            names = [str(path.relative_to(folder)) for path in folder.rglob("*.*")]
        else:
            names = HfApi().list_repo_files(
                file.repo, repo_type="dataset", revision=revision
            )
    data = sorted(name for name in names if name.endswith(tuple(suffixes)))
    if len(data) == 1:
        return data[0]
    if not data:
        raise ValueError(
            f"{file}: the data set has no file that ends in {', '.join(suffixes)}"
        )
    examples = [str(dataclasses.replace(file, file=name)) for name in data[:5]]
    more = f" and {len(data) - 5} more" if len(data) > 5 else ""
    raise ValueError(
        f"{file}: the data set has {len(data)} data files; give one: "
        f"{', '.join(examples)}{more}"
    )


@contextlib.contextmanager
def _one_line(file: HubFile) -> Iterator[None]:
    """Turns what the library of the Hub raises into one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        XetDownloadError,
    )

    try:
        yield
    except GatedRepoError:
        raise ValueError(
            f"{file}: the data set is gated: ask for access on its page of the Hub, "
            "then set HF_TOKEN or run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(
            f"{file}: the Hub has no data set {file.repo}, unless it is private (then "
            "set HF_TOKEN or run `hf auth login`)"
        ) from None
    except RevisionNotFoundError:
        raise ValueError(
            f"{file}: {file.repo} has no revision {file.revision!r}; give a commit, "
            "branch or tag"
        ) from None
    except RemoteEntryNotFoundError:
        raise ValueError(
            f"{file}: {file.repo} has no file {file.file!r} there; look at "
            f"the files on its page of the Hub"
        ) from None
    except (OSError, HTTPError, HFValidationError, XetDownloadError) as error:
        # Its last lines give advice that is not about this command.
        reason = str(error).strip().partition("\n")[0] or repr(error)
        raise ValueError(f"{file} cannot be fetched: {reason}") from None
