"""`jaxsearch bench retrieval` against small servers."""

import json

import pytest

from jaxsearch.bench.retrieval_limit import needed
from jaxsearch.commands.main import main
from jaxsearch.search.bert_encoder_folder import read_bert_encoder
from jaxsearch.search.encoder_options import EncoderOptions
from jaxsearch.search.exact_index import ExactIndex
from tests.remote import servers
from tests.search.bert_folder import write_folder
from tests.search.conftest import encoder, passages, queries

__all__ = ["encoder", "passages", "queries"]


def bench(capfd, *words):
    status = main(["bench", "retrieval", *words, "--json"])
    written = capfd.readouterr()
    return status, written.out.splitlines()[-1:] or written.err


@pytest.mark.slow
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
    assert found["in_process_queries_per_s"] > 0


def test_a_limit_has_the_encoders_products(passages, tmp_path):
    write_folder(tmp_path / "bert", ["who", "is"])
    encoder = read_bert_encoder(str(tmp_path / "bert"), EncoderOptions())
    index = ExactIndex(passages[:20], encoder)
    # A prefix of two tokens, [CLS], [SEP] and one or two words.
    assert encoder.query_lens(["who", "who is"]) == [5, 6]
    one, two = (needed(index, ["who is"] * n) for n in (1, 2))
    sizes = encoder.architecture
    linear = 2 * 6 * 2 * (4 * 32 * 32 + 2 * 32 * 48)
    attention = 4 * 6 * 6 * 32 * 2
    assert (sizes.width, sizes.mlp_width, sizes.num_layers) == (32, 48, 2)
    assert one.encoder_flops == linear + attention
    assert two.encoder_flops == 2 * one.encoder_flops and two.encoder_s > 0
    # Vectors made in memory are float32, and are read once for both queries.
    assert one.num_bytes == two.num_bytes == 20 * 32 * 4


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
    assert [found[name] for name in ("p50_ms", "p99_ms", "max_ms")] == [None] * 3
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
