"""The fixtures of tests/search, whose indexes the commands use."""

from tests.search.conftest import encoder, passages, queries, wiki

__all__ = ["encoder", "passages", "queries", "wiki"]
