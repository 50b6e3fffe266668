"""Servers and searches on loopback."""

import pytest

from jaxsearch.web.addresses import any_address
from jaxsearch.web.config import WebConfig
from jaxsearch.web.fetch import Fetcher
from jaxsearch.web.open import open_web
from jaxsearch.web.page_text import PageReader
from jaxsearch.web.turns import Turns
from tests.web.loopback import loopback


@pytest.fixture
def server():
    with loopback() as server:
        yield server


@pytest.fixture
def fetcher(tmp_path):
    """Fetches from loopback, without pauses."""
    return Fetcher(Turns(tmp_path / "turns"), timeout_s=5.0, rule=any_address)


@pytest.fixture(scope="session")
def reader():
    reader = PageReader(num_processes=1)
    yield reader
    reader.close()


@pytest.fixture
def opened(tmp_path, reader):
    """Opens web searches that may fetch from loopback."""

    def opened(provider, rule=any_address, folder=tmp_path / "web", **fields):
        config = WebConfig(**({"host_pause_s": 0.0} | fields))
        return open_web(provider, config, folder, rule=rule, reader=reader)

    return opened
