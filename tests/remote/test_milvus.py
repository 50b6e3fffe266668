"""An index in Milvus Lite, which is embedded: pushed, cut, searched."""

import functools
import re

import pytest

from jaxsearch.api.retrieval import load_retriever
from jaxsearch.commands.main import main
from jaxsearch.config import RetrievalConfig
from jaxsearch.remote import milvus_push
from jaxsearch.remote.milvus import MilvusRetriever
from jaxsearch.remote.milvus_client import MilvusAddress
from jaxsearch.remote.milvus_push import push_index
from jaxsearch.run.remote_retrievers import open_remote_retrievers
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.passages import Passage
from jaxsearch.search.tfidf_encoder import TfidfEncoder

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def pushed(exact, tmp_path_factory):
    """(folder of the index, its collection)."""
    folder = tmp_path_factory.mktemp("milvus")
    exact.save(folder / "index")
    url = f"milvus://{folder}/wiki.db/wiki"
    assert push_index(folder / "index", url)["num_written"] == 600
    return folder / "index", url


@pytest.mark.slow
@pytest.mark.parametrize("index_type", ["HNSW", "SCANN"])
def test_answers_are_those_of_the_index(pushed, exact, queries, index_type):
    """Recall at 5 is at least 0.99, and scores are equal to six decimals."""
    folder, url = pushed
    url = url.replace("wiki.db/wiki", f"wiki.db/{index_type}")
    push_index(folder, url, index_type=index_type)
    index = MilvusRetriever(url, encoder=str(folder / "encoder"))
    asked = [*queries, "", "unheardof"]
    found, expected = index.search(asked, 5), exact.search(asked, 5)
    assert found[-2:] == [[], []]
    num_equal = num_all = 0
    for hits, wanted in zip(found, expected, strict=True):
        assert len(hits) == len(wanted)
        scores = {hit.passage: hit.score for hit in wanted}
        for hit in hits:
            if hit.passage in scores:
                num_equal += 1
                assert hit.score == pytest.approx(scores[hit.passage], abs=2e-6)
        num_all += len(wanted)
    assert num_equal / num_all >= 0.99


def test_the_address_serves_a_run_and_the_api(pushed, exact, queries):
    folder, url = pushed
    encoder = str(folder / "encoder")
    retrieval = RetrievalConfig(url=url, encoder=encoder)
    opened = open_remote_retrievers(retrieval)
    assert opened.searched["train"]["fingerprints"] == {
        "corpus": exact.corpus_fingerprint,
        "encoder": exact.encoder.fingerprint,
    }
    wanted = exact.search(queries[:1], 1)[0][0].passage
    made = functools.partial(MilvusRetriever, url=url, encoder=encoder)
    for index in (opened.train, load_retriever(url, encoder=encoder), made()):
        assert index.search(queries[:1], 1)[0][0].passage == wanted


def test_a_push_that_was_cut_goes_on(pushed, exact, monkeypatch):
    folder, url = pushed
    url = url.replace("wiki.db/wiki", "wiki.db/cut")
    monkeypatch.setattr(milvus_push, "_BATCH", 100)
    seen = []

    def cut(num_done, num_passages):
        seen.append(num_done)
        if num_done == 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push_index(folder, url, report=cut)
    with pytest.raises(ValueError, match=f"{url} has 300 of 600 passages"):
        MilvusRetriever(url, encoder=str(folder / "encoder"))
    seen.clear()
    found = push_index(folder, url, report=lambda done, _: seen.append(done))
    assert (found["num_written"], seen) == (300, [300, 400, 500, 600])
    assert push_index(folder, url)["num_written"] == 0
    MilvusRetriever(url, encoder=exact.encoder)


def test_what_does_not_belong_together_is_refused(pushed, passages, tmp_path, capfd):
    folder, url = pushed
    other = ExactIndex(passages[:50], TfidfEncoder.fit(passages[:50], dims=64))
    other.save(tmp_path / "other")
    assert main(["index", "push", str(tmp_path / "other"), url]) == 2
    assert "has another index (corpus" in capfd.readouterr().err
    with pytest.raises(ValueError, match="has vectors of the encoder tfidf"):
        MilvusRetriever(url, encoder=other.encoder)
    with pytest.raises(ValueError, match="with --retrieval.encoder INDEX/encoder"):
        MilvusRetriever(url, encoder="tfidf")
    with pytest.raises(ValueError, match="no such collection.*index push DIR"):
        MilvusRetriever(f"{url}x", encoder=other.encoder)
    long = ExactIndex([Passage(id="a", contents="smith " * 20_000)], other.encoder)
    long.save(tmp_path / "long")
    with pytest.raises(ValueError, match="passage 'a' has 120,000 bytes"):
        push_index(tmp_path / "long", url)


def test_addresses():
    for text, uri, collection in (
        ("milvus://host:19530/wiki", "http://host:19530", "wiki"),
        ("milvus://host:19530", "http://host:19530", "passages"),
        ("milvus:///data/wiki.db/wiki", "/data/wiki.db", "wiki"),
        ("milvus://./wiki.db", "./wiki.db", "passages"),
    ):
        assert MilvusAddress.parse(text) == MilvusAddress(
            uri=uri, collection=collection
        )
    for text in (
        "milvus://",
        "milvus:///data/wiki",
        "milvus://a:b@h/c",
        "milvus://h/1",
    ):
        with pytest.raises(ValueError, match=re.escape("milvus://HOST:PORT/COLLECT")):
            MilvusAddress.parse(text)
