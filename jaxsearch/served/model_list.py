"""The models that a server lists."""

from typing import Any, NamedTuple

from jaxsearch.remote.connection import RefusedRequestError
from jaxsearch.search.index import SearchError
from jaxsearch.served.client import ModelClient
from jaxsearch.served.server_errors import unusable


class Card(NamedTuple):
    """A model in the list of a server.

    Attributes:
      name: its name.
      max_len: limit of tokens of prompt and answer together; None if unknown.
    """

    name: str
    max_len: int | None


def find_model(client: ModelClient, name: str) -> Card:
    """Finds a model in a server's list.

    Args:
      client: the client of the server.
      name: name of the model; "" for the server's only model.

    Raises:
      ValueError: if the server cannot be reached, or does not have this model.
    """
    try:
        found = client.models()
    except RefusedRequestError as error:
        if name:
            return Card(name, None)  # no list
        raise ValueError(
            f"{client.url} does not list its models ({error}); give a name with "
            "--model-name"
        ) from None
    except SearchError as error:
        raise unusable(client.url, error) from None
    cards = found.get("data") if isinstance(found, dict) else None
    cards = (
        [card for card in cards if _is_card(card)] if isinstance(cards, list) else []
    )
    # In SGLang, an adapter is named MODEL:ADAPTER.
    names = {name, name.partition(":")[0]}
    mine = [card for card in cards if card["id"] in names]
    if not name and len(cards) == 1:
        mine = cards
    if not cards and not name:
        raise ValueError(f"{client.url} lists no model; give a name with --model-name")
    if not mine and cards:
        served = ", ".join(f"{card['id']!r:.100}" for card in cards[:5])
        asked = f"no model {name!r}: it serves" if name else "several models:"
        raise ValueError(
            f"{client.url} has {asked} {served}; give one with --model-name"
        )
    max_len = mine[0].get("max_model_len") if mine else None
    # In Python, a bool is an int.
    is_known = isinstance(max_len, int) and max_len > 1
    return Card(name or mine[0]["id"], max_len if is_known else None)


def _is_card(card: Any) -> bool:
    return isinstance(card, dict) and isinstance(card.get("id"), str)
