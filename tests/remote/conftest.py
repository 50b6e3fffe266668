"""Fixtures: the recorded exchanges, servers of three systems, and an index."""

import json

import pytest

from jaxsearch.search.exact_index import ExactIndex
from tests.remote import servers
from tests.search.conftest import encoder, passages, queries

__all__ = ["encoder", "passages", "queries"]


@pytest.fixture(scope="session")
def recorded():
    """Exchanges of the servers of ReSearch, R1-Searcher and Search-R1."""
    path = servers.RECORDED / "servers.json"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return json.loads(path.read_text())


@pytest.fixture(scope="session")
def table(recorded):
    return servers.Table(recorded)


@pytest.fixture(scope="session")
def exact(passages, encoder):
    return ExactIndex(passages, encoder)


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("JAXSEARCH_SEARCH_TOKEN", raising=False)
