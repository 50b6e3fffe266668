"""Opening the retriever behind an address: search servers, or Milvus."""

from jaxsearch.remote.address import DialectName, is_milvus
from jaxsearch.remote.retriever import Note, RemoteRetriever, open_remote
from jaxsearch.remote.settings import DEFAULT_SETTINGS, ClientSettings

UrlRetriever = RemoteRetriever


def open_url(
    url: str,
    *,
    dialect: DialectName = "auto",
    settings: ClientSettings = DEFAULT_SETTINGS,
    timeout_s: float = 60.0,
    note: Note,
) -> UrlRetriever:
    """Opens the servers of a comma-separated list; the arguments are `open_remote`'s.

    Raises:
      ValueError: if no server answers, or one is not what the arguments say.
    """
    if is_milvus(url):
        raise ValueError("milvus")
    return open_remote(
        url, dialect=dialect, settings=settings, timeout_s=timeout_s, note=note
    )
