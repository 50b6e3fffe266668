"""The search servers of a run, opened, and what it recorded about them."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxsearch.config import RetrievalConfig
from jaxsearch.processes import say_once
from jaxsearch.remote.detection import fingerprint_text
from jaxsearch.remote.open_url import UrlRetriever, open_url
from jaxsearch.run.folder import read_record


class RemoteRetrievers(NamedTuple):
    """Retrievers of `retrieval.url` and `retrieval.heldout_url`; None if not given."""

    train: UrlRetriever | None = None
    heldout: UrlRetriever | None = None

    @property
    def searched(self) -> dict[str, Any]:
        """What they search, for the record in the run's folder."""
        named = self._asdict().items()
        return {name: one.searched for name, one in named if one is not None}


NO_REMOTE = RemoteRetrievers()


def open_remote_retrievers(retrieval: RetrievalConfig) -> RemoteRetrievers:
    """Opens the servers that the config names; writes nothing.

    Raises:
      ValueError: if none answers, or one is not what the config says.
    """

    def opened(url: str) -> UrlRetriever | None:
        if not url:
            return None
        return open_url(
            url,
            dialect=retrieval.dialect,
            settings=retrieval.client,
            timeout_s=retrieval.timeout_s,
            encoder=retrieval.encoder,
            query_device=retrieval.query_device,
            note=say_once,
        )

    return RemoteRetrievers(opened(retrieval.url), opened(retrieval.heldout_url))


def check_searched(folder: Path, searched: dict[str, Any]) -> None:
    """Checks that servers search what the run in this folder has searched.

    Raises:
      ValueError: if the folder records other fingerprints.
    """
    if not (folder / "config.json").is_file():
        return
    there = read_record(folder).get("searched", {})
    for name in sorted(there.keys() & searched.keys()):
        before, now = there[name]["fingerprints"], searched[name]["fingerprints"]
        if before != now:
            raise ValueError(
                f"{folder} searched another index: {fingerprint_text(before)} there, "
                f"{fingerprint_text(now)} on {searched[name]['url']}; give the address "
                "of a server with the old one, or choose another folder with --out"
            )
