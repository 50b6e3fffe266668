"""Runs that search on a server: their records, resuming, and servers that go away."""

import dataclasses
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from configs.quickstart import config as quickstart
from jaxsearch.config import RetrievalConfig
from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.remote.settings import ClientSettings
from jaxsearch.run.config_record import identity
from jaxsearch.run.folder import read_record
from jaxsearch.run.options import with_index
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from jaxsearch.train import train
from tests.remote import servers


class EchoIndex:
    """Finds a passage for every query."""

    def search(self, queries, k):
        found = [Passage(id=f"p-{one}", contents=f"t\n{one} .") for one in queries]
        return [[Hit(passage=passage, score=1.0)] for passage in found]


ECHO = servers.ours(EchoIndex())
UNCACHED = ClientSettings(cached_queries=0)


def small(out, steps=3, **retrieval):
    """The quickstart with few rollouts per step."""
    [stage] = quickstart.stages
    return dataclasses.replace(
        quickstart,
        out=str(out),
        steps=steps,
        stages=(dataclasses.replace(stage, questions_per_step=4, group_size=4),),
        rollout=dataclasses.replace(quickstart.rollout, num_slots=16),
        retrieval=dataclasses.replace(quickstart.retrieval, **retrieval),
        eval=dataclasses.replace(quickstart.eval, every=0, limit=4),
        logging=dataclasses.replace(quickstart.logging, rollouts_every=1),
    )


def calls_of(out):
    return [
        call
        for path in rollout_files(Path(out)).values()
        for one in read_rollouts(path)
        for call in one.tool_calls
    ]


@pytest.mark.slow
def test_a_server_goes_away_and_the_run_goes_on_elsewhere(tmp_path, capfd):
    """It is killed in step 2, which counts it; step 3 has a server on another port.

    A server of another corpus stops the run before it writes.
    """
    out = tmp_path / "run"

    def dying(exchange, method, path, asked):
        if method == "POST" and (out / "metrics.jsonl").exists():
            threading.Thread(target=first.stop).start()
            exchange.hang()
        else:
            ECHO(exchange, method, path, asked)

    first = servers.SearchServer(dying)
    held = servers.ours(EchoIndex(), {"corpus": "heldout"})
    with servers.serving(ECHO, held) as [second, heldout]:
        options = {"heldout_url": heldout.url, "attempts": 2, "client": UNCACHED}
        options["min_kept"] = 0.0
        train(small(out, 2, url=first.url, **options))
        assert f"{first.url}: dialect search_r1" in capfd.readouterr().err
        searched = read_record(out)["searched"]
        assert searched["train"] == {
            "url": first.url,
            "dialect": "search_r1",
            "num_passages": 600,
            "fingerprints": servers.FINGERPRINTS,
        }
        assert searched["heldout"]["fingerprints"] == {"corpus": "heldout"}
        train(small(out, 3, url=second.url, **options))
        assert read_record(out)["searched"]["train"]["url"] == second.url
        assert heldout.posts and not (out / "indexes").exists()
    one, two, three = read_metrics(out / "metrics.jsonl")
    assert one["searches/failed"] == one["searches/retries"] == 0.0
    assert one["servers/0/requests"] > 0.0 == one["servers/0/errors"]
    calls = calls_of(out)
    failed = [call for call in calls if call.has_failed]
    # Searches that fail together have one more attempt.
    assert 0 < two["searches/retries"] <= len(failed)
    assert two["searches/failed"] > 0.0 < two["servers/0/errors"]
    for call in failed:
        reason = rf"in 2 tries: \(1\) .*:{first.port}.*; \(2\) "
        assert re.search(reason, call.failure)
    found = [call for call in calls if call.query and not call.has_failed]
    assert found and all(call.passage_ids == (f"p-{call.query}",) for call in found)
    assert three["searches/failed"] == three["searches/retries"] == 0.0
    assert three["servers/0/requests"] == len(second.posts) > 0
    other = servers.ours(EchoIndex(), {"corpus": "0ther", "encoder": "e5e5e5"})
    with servers.serving(other) as [third]:
        kept = (out / "config.json").read_bytes()
        with pytest.raises(ValueError, match="corpus c0ffee, .* there, corpus 0ther"):
            train(small(out, 4, url=third.url))
        assert (out / "config.json").read_bytes() == kept


def test_an_evaluation_searches_where_it_is_told():
    there = with_index(RetrievalConfig(index="x", dialect="research"), "http://host")
    assert (there.url, there.heldout_url) == ("http://host", "http://host")
    assert (there.index, there.dialect) == ("", "auto")
    again = with_index(there, "indexes/mine")
    assert (again.url, again.heldout_url, again.index) == ("", "", "indexes/mine")


def test_where_servers_are_is_no_part_of_what_a_run_is(tmp_path):
    urls = ("http://127.0.0.1:1", "http://other:8000,http://third:8000")
    one, two = (small(tmp_path, url=url) for url in urls)
    asked = small(tmp_path, url=urls[0], dialect="research", client=UNCACHED)
    assert identity(one) == identity(two) == identity(asked)
    assert identity(small(tmp_path)) != identity(one)
    with pytest.raises(ValueError, match="heldout_url is for runs with retrieval.url"):
        small(tmp_path, heldout_url=urls[0])
    with pytest.raises(ValueError, match="retrieval.url: expected the address"):
        small(tmp_path, url="ftp://host")


@pytest.mark.parametrize("name", ["retriever", "corpus", "index"])
def test_a_server_excludes_other_sources(name):
    value = EchoIndex() if name == "retriever" else "a"
    with pytest.raises(ValueError, match=f"url and retrieval.{name} exclude each"):
        RetrievalConfig(url="http://host", **{name: value})


def started_server(index):
    """(process, address) of `jaxsearch serve` on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxsearch", "serve", "--index", index, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().split()[0]


@pytest.mark.slow
def test_a_run_over_the_wire_is_the_run_with_its_own_index(tmp_path):
    """The files of rollouts are equal; `jaxsearch serve` answers for the index."""
    train(small(tmp_path / "a"))
    process, url = started_server(tmp_path / "a" / "indexes" / "train")
    try:
        train(small(tmp_path / "b", url=url))
    finally:
        process.terminate()
        process.wait(20)
    process.stdout.close()
    ours, theirs = (rollout_files(tmp_path / name) for name in "ab")
    assert list(ours) == list(theirs) == [1, 2, 3]
    for step, path in ours.items():
        assert path.read_bytes() == theirs[step].read_bytes()
    assert any(call.passage_ids for call in calls_of(tmp_path / "b"))
    assert not (tmp_path / "b" / "indexes" / "train").exists()
    assert (tmp_path / "b" / "indexes" / "heldout").exists()
    searched = read_record(tmp_path / "b")["searched"]["train"]
    manifest = json.loads(
        (tmp_path / "a" / "indexes" / "train" / "index.json").read_text()
    )
    assert searched["fingerprints"]["corpus"] == manifest["corpus_fingerprint"]
    evaluations = [read_metrics(tmp_path / name / "eval.jsonl") for name in "ab"]
    assert [one["em"] for one in evaluations[0]] == [
        one["em"] for one in evaluations[1]
    ]
