"""The token is sent to addresses that the user gave, and to no other."""

import dataclasses
import functools
import json

import pytest

from jaxsearch.api.retrieval import load_retriever
from jaxsearch.bench.retrieval import Load, bench_retrieval
from jaxsearch.config import RetrievalConfig
from jaxsearch.key_addresses import allow_keys, may_have_keys
from jaxsearch.remote.retriever import open_remote
from jaxsearch.rewards.answers import normalise_research
from jaxsearch.run.config_record import identity, resolved, trust_config
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.options import with_index
from jaxsearch.run.remote_retrievers import open_remote_retrievers
from jaxsearch.run.trust import trust
from tests.remote import servers
from tests.remote.test_runs import small

SECRET = "s3cret-token"


@pytest.fixture
def server(exact, monkeypatch):
    """A server that wants a token, which the user has."""
    monkeypatch.setenv("JAXSEARCH_SEARCH_TOKEN", SECRET)
    with servers.serving(servers.ours(exact, token=SECRET)) as [server]:
        yield server


def recorded(folder, config):
    """The config as a run's folder has it, which may come from anybody."""
    folder.mkdir()
    record = resolved(config) | {"identity": identity(config)}
    (folder / "config.json").write_text(json.dumps(record))
    return read_run_config(folder)


def refused(server, call, match="is not sent to an address that a folder names"):
    with pytest.raises(ValueError, match=match):
        call()
    assert "Authorization" not in server.headers


@pytest.mark.parametrize("field", ["url", "heldout_url"])
def test_a_folder_s_address_gets_no_token(field, server, exact, tmp_path):
    with servers.serving(servers.ours(exact)) as [first]:
        urls = {"url": first.url} | {field: server.url}
        mine = small(tmp_path / "run", **urls)
        retrieval = recorded(tmp_path / "run", mine).retrieval
        refused(server, lambda: open_remote_retrievers(retrieval))
        assert not any("Authorization" in one.headers for one in (first, server))
        # Trusting one server is not trusting another.
        trust("http://127.0.0.1:1", f"https://127.0.0.1:{server.port}")
        refused(server, lambda: open_remote_retrievers(retrieval))
        trust(f"{server.url}/")
        open_remote_retrievers(retrieval)
        assert server.headers["Authorization"] == f"Bearer {SECRET}"


def test_a_retriever_that_a_folder_names_gets_no_token(server, tmp_path):
    """`open_remote` is a value of configs, so a folder may call it with its address."""
    made = functools.partial(open_remote, url=server.url, note=normalise_research)
    mine = small(tmp_path / "run")
    retrieval = dataclasses.replace(mine.retrieval, retriever=made)
    mine = dataclasses.replace(mine, retrieval=retrieval)
    refused(server, recorded(tmp_path / "run", mine).retrieval.retriever)


def test_addresses_of_the_user_get_it(server, tmp_path):
    trust_config(small(tmp_path / "run", url=f"http://a:8,{server.url}"))
    assert may_have_keys(server.url) and may_have_keys("http://a:8/retrieve")
    assert not may_have_keys("http://a") and not may_have_keys("https://a:8")


@pytest.mark.parametrize(
    "call",
    [
        lambda url: load_retriever(url).search(["smith"], 1),
        lambda url: bench_retrieval(url, Load(clients=1, seconds=0.1)),
        lambda url: open_remote_retrievers(with_index(RetrievalConfig(), url)),
    ],
    ids=["load_retriever", "bench", "eval --index"],
)
def test_calls_with_an_address_send_it(call, server):
    call(server.url)
    assert server.headers["Authorization"] == f"Bearer {SECRET}"


def test_what_is_no_address_is_ignored():
    allow_keys("module:name", "", "http://[", "/a/b", "milvus:///a.db/b")
    assert not may_have_keys("") and not may_have_keys("milvus:///a.db/b")
