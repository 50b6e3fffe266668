"""A Milvus database: its address, and what a collection says about its index."""

import dataclasses
import json
import logging
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

from jaxsearch.json_files import json_value
from jaxsearch.json_types import typed
from jaxsearch.remote.bearer import bearer_token
from jaxsearch.search.index import SearchError

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_DEFAULT_COLLECTION = "passages"
_ABOUT = "_about"  # end of the name of the collection with the description
_MAX_ABOUT_LEN = 4096
INDEX_TYPES = ("HNSW", "SCANN")
# Fields of the collection of passages.
NUMBER, ID, CONTENTS, VECTOR = "number", "id", "contents", "vector"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MilvusAddress:
    """A collection.

    Attributes:
      uri: address of a cluster, or path of a file of Milvus Lite.
      collection: name of the collection of passages.
    """

    uri: str
    collection: str

    @property
    def token(self) -> str:
        """The user's token, if the address may have it; a file has none."""
        return bearer_token(self.uri.replace("http://", "milvus://"))

    @classmethod
    def parse(cls, url: str) -> "MilvusAddress":
        """Reads milvus://HOST:PORT/COLLECTION or milvus:///PATH/FILE.db/COLLECTION.

        Raises:
          ValueError: if the address has another form.
        """
        parts = urllib.parse.urlsplit(url)
        host, path = parts.netloc, parts.path
        if host in ("", ".", ".."):
            file, _, collection = f"{host}{path}".rpartition("/")
            if collection.endswith(".db"):
                file, collection = f"{host}{path}", ""
            uri, is_good = file, file.endswith(".db")
        else:
            uri, collection = f"http://{host}", path.strip("/")
            is_good = "@" not in host and bool(re.fullmatch(r"[^:]+(:\d+)?", host))
        collection = collection or _DEFAULT_COLLECTION
        if not is_good or not re.fullmatch(r"[A-Za-z_]\w{0,200}", collection):
            raise ValueError(
                "expected milvus://HOST:PORT/COLLECTION, or for Milvus Lite "
                "milvus:///PATH/FILE.db/COLLECTION, without user name and password "
                "(a token belongs in the environment variable JAXSEARCH_SEARCH_TOKEN)"
            )
        return cls(uri=uri, collection=collection)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectionAbout:
    """The contents of a collection, stored as a row of another collection."""

    corpus: str
    encoder: str
    encoder_name: str
    num_passages: int
    dims: int
    index_type: str
    is_complete: bool


def connect(address: MilvusAddress, timeout_s: float) -> "MilvusClient":
    """A client of the database.

    Raises:
      ValueError: if pymilvus is missing, or the database does not answer.
    """
    try:
        from pymilvus import MilvusClient, MilvusException
    except ImportError:
        raise ValueError(
            "Milvus needs the extra `milvus`: pip install 'jaxsearch[milvus]'"
        ) from None
    # It logs each error with a traceback before it raises it.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    try:
        return MilvusClient(address.uri, token=address.token, timeout=timeout_s)
    except MilvusException as error:
        raise ValueError(f"{address.uri}: cannot connect ({one_line(error)})") from None


def one_line(error: Exception) -> str:
    """An error of the database on one short line."""
    return " ".join(str(error).split())[:160]


def create_about(client: "MilvusClient", name: str) -> None:
    """Makes the collection of the description; nothing if it exists."""
    if client.has_collection(name + _ABOUT):
        return
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(NUMBER, DataType.INT64, is_primary=True)
    schema.add_field("about", DataType.VARCHAR, max_length=_MAX_ABOUT_LEN)
    # Every collection must have vectors.
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index(field_name=VECTOR, index_type="FLAT", metric_type="IP")
    client.create_collection(name + _ABOUT, schema=schema, index_params=index)


def write_about(client: "MilvusClient", name: str, about: CollectionAbout) -> None:
    """Writes the description of a collection."""
    text = json.dumps(dataclasses.asdict(about))
    row = {NUMBER: 0, "about": text, VECTOR: [1.0, 0.0]}
    client.upsert(name + _ABOUT, [row])
    client.flush(name + _ABOUT)


def read_about(client: "MilvusClient", name: str) -> CollectionAbout | None:
    """The description of a collection; None if it has none.

    Raises:
      ValueError: if the description is malformed.
    """
    if not client.has_collection(name + _ABOUT):
        return None
    client.load_collection(name + _ABOUT)
    rows: list[dict[str, Any]] = client.query(
        name + _ABOUT,
        filter=f"{NUMBER} == 0",
        output_fields=["about"],
        consistency_level="Strong",
    )
    if not rows:
        return None
    return parse_about(rows[0].get("about"), name)


def parse_about(text: Any, name: str) -> CollectionAbout:
    """The description of a collection, from its row.

    Raises:
      ValueError: if it is malformed.
    """
    try:
        found = json_value(typed(text, str, "it"))
        about = typed(found, CollectionAbout, "it")
        if about.index_type not in INDEX_TYPES:
            raise ValueError(f"it has the unknown index {about.index_type!r:.40}")
    except ValueError as error:
        raise ValueError(
            f"collection {name!r} has no description of this version of jaxsearch "
            f"({error!s:.160}); push the index again to a collection of another name"
        ) from None
    return about


def num_rows(client: "MilvusClient", name: str) -> int:
    """Passages in a collection, including those that were just written."""
    [row] = client.query(name, output_fields=["count(*)"], consistency_level="Strong")
    return int(row["count(*)"])


def search_error(name: str, error: Exception) -> SearchError:
    """The error of a search in a collection."""
    return SearchError(f"collection {name!r}: {one_line(error)}")
