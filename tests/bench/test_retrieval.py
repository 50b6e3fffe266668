"""`jaxsearch bench retrieval` against small servers."""

import json

import pytest

from jaxsearch.commands.main import main
from jaxsearch.search.exact_index import ExactIndex
from tests.remote import servers
from tests.search.conftest import encoder, passages, queries

__all__ = ["encoder", "passages", "queries"]


def bench(capfd, *words):
    status = main(["bench", "retrieval", *words, "--json"])
    written = capfd.readouterr()
    return status, written.out.splitlines()[-1:] or written.err


def test_rates_beside_those_in_process(passages, encoder, tmp_path, capfd):
    index = ExactIndex(passages, encoder)
    index.save(tmp_path / "index")
    answer = servers.slowly(servers.ours(index), 0.01)
    with servers.serving(answer) as [server]:
        words = ["--url", server.url, "--index", str(tmp_path / "index")]
        words += ["--clients", "3", "--seconds", "1", "--queries-per-request", "2"]
        status, [line] = bench(capfd, *words)
    found = json.loads(line)
    posts = [body["queries"] for _, _, body in server.posts]
    assert status == 0 and found["errors"] == 0
    assert found["requests"] == len(posts) > 10 and server.most_at_once == 3
    assert {len(asked) for asked in posts} == {2}
    assert found["queries_per_s"] == pytest.approx(2 * found["requests_per_s"])
    assert 10.0 <= found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]
    assert found["in_process_queries_per_s"] > found["queries_per_s"]


def test_errors_are_counted_with_their_reasons(passages, encoder, capfd):
    index = ExactIndex(passages, encoder)

    def full(exchange, method, path, asked):
        if method == "POST":
            exchange.json({"detail": "queue full"}, 503)
        else:
            servers.ours(index)(exchange, method, path, asked)

    with servers.serving(full) as [server]:
        _, [line] = bench(
            capfd, "--url", server.url, "--clients", "2", "--seconds", "0.3"
        )
    found = json.loads(line)
    assert found["requests"] == 0 and found["errors"] == len(server.posts) > 2
    [reason] = found["reasons"]
    assert "status 503, 'queue full'" in reason


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--url", "http://127.0.0.1:1"], "no search server answers"),
        (["--url", "somewhere"], "as http://HOST:PORT"),
        (["--url", "http://h", "--clients", "0"], "--clients must be at least 1"),
        (["--url", "http://h", "--seconds", "inf"], "--seconds must be in"),
    ],
)
def test_bad_arguments_are_one_line(words, reason, capfd):
    status, written = bench(capfd, *words)
    assert status == 2 and reason in "".join(written)
