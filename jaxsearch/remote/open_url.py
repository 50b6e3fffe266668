"""Opening the retriever behind an address: search servers, or Milvus."""

from jaxsearch.remote.address import DialectName, is_milvus
from jaxsearch.remote.milvus import MilvusRetriever
from jaxsearch.remote.retriever import Note, RemoteRetriever, open_remote
from jaxsearch.remote.settings import DEFAULT_SETTINGS, ClientSettings
from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.encoder_options import QueryDevice

UrlRetriever = RemoteRetriever | MilvusRetriever


def open_url(
    url: str,
    *,
    dialect: DialectName = "auto",
    settings: ClientSettings = DEFAULT_SETTINGS,
    timeout_s: float = 60.0,
    encoder: Encoder | EncoderFactory | str = "tfidf",
    query_device: QueryDevice = "host",
    note: Note,
) -> UrlRetriever:
    """Opens what is behind an address.

    Args:
      url: a comma-separated list of servers, or a collection of Milvus.
      dialect, settings, timeout_s, note: those of `open_remote`.
      encoder: encoder of a collection of Milvus, as `MilvusRetriever` takes it.
      query_device: where a BERT encoder computes its queries.

    Raises:
      ValueError: if no server answers, or one is not what the arguments say.
    """
    if is_milvus(url):
        if not isinstance(encoder, str | Encoder):
            raise ValueError(
                f"{url} needs an encoder, and not a function that makes one: "
                f"{encoder!r:.80}"
            )
        return MilvusRetriever(
            url, encoder=encoder, timeout_s=timeout_s, query_device=query_device
        )
    return open_remote(
        url, dialect=dialect, settings=settings, timeout_s=timeout_s, note=note
    )
