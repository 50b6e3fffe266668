"""The end of a server: by SIGTERM, by Ctrl-C, and with requests under way."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxsearch.commands.main import main
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from jaxsearch.serve.address import listen
from jaxsearch.serve.app import create_app
from jaxsearch.serve.limits import Limits
from jaxsearch.serve.served_index import ServedIndex
from jaxsearch.serve.server import SearchServer
from tests.serve.running import GatedIndex, TableIndex, few_passages, serving


def test_requests_under_way_are_answered_and_no_new_ones():
    index = GatedIndex(few_passages())
    with concurrent.futures.ThreadPoolExecutor() as pool, serving(index) as server:
        idle = server.connect()
        idle.request("GET", "/health")
        assert idle.getresponse().read()
        under_way = pool.submit(server.ask, "/search", {"query": "a"})
        assert index.is_searching.wait(20)
        server.server.stop()
        end = time.monotonic() + 10
        while True:
            try:
                with contextlib.closing(server.connect()) as late:
                    late.connect()
            except ConnectionError:
                break
            assert time.monotonic() < end
            time.sleep(0.02)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            idle.request("GET", "/health")
            idle.getresponse()
        # Longer than the server takes to end without anything under way.
        time.sleep(0.4)
        index.gate.set()
        assert under_way.result().status == 200
        server.server.wait()
        idle.close()


def test_what_cannot_be_answered_in_time_is_refused():
    index = GatedIndex(few_passages())
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        serving(index, stop_s=0.3) as server,
    ):
        searched = pool.submit(server.ask, "/search", {"query": "a"})
        assert index.is_searching.wait(20)
        waits = pool.submit(server.ask, "/search", {"query": "b"})
        [batcher] = server.app.batchers.values()
        while not batcher.num_waiting:
            time.sleep(0.01)
        server.server.stop()
        for reply in (searched.result(), waits.result()):
            assert (reply.status, reply.detail) == (503, "the server is stopping")
        index.gate.set()


def test_a_server_whose_event_loop_is_late_is_ended(monkeypatch):
    monkeypatch.setattr("jaxsearch.serve.server._LATE_S", 0.2)
    released = threading.Event()

    class Late(SearchServer):
        async def shutdown(self, sockets=None):
            # The event loop is held up, as on a machine that is busy with other work.
            assert released.wait(20)
            await super().shutdown(sockets)

    index = ServedIndex(retriever=TableIndex(few_passages()))
    app = create_app({"i": index}, limits=Limits(stop_s=0.1))
    with listen("127.0.0.1", 0) as listener:
        server = Late(app, listener, at_deadline=released.set)
        thread = threading.Thread(target=server.serve_until_stopped)
        thread.start()
        start = time.monotonic()
        server.stop()
        server.stop()
        thread.join(20)
    assert released.is_set() and 0.3 <= time.monotonic() - start < 10


def test_a_server_that_ends_in_time_is_not_ended(monkeypatch):
    monkeypatch.setattr("jaxsearch.serve.server._LATE_S", 0.2)
    with serving(TableIndex(few_passages()), stop_s=0.1) as server:
        called = []
        server.server._at_deadline = lambda: called.append(1)
        server.server.stop()
        server.server.wait()
    time.sleep(0.4)
    assert not called


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "index"
    passages = few_passages(9)
    ExactIndex(passages, TfidfEncoder.fit(passages, dims=32)).save(folder)
    return folder


@contextlib.contextmanager
def killed_at_the_end(process):
    """Ends a process that a failed test leaves, which Popen would wait for."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_the_command_serves_until_a_signal(folder, number, status):
    command = [sys.executable, "-m", "jaxsearch", "serve", "--port", "0", "--json"]
    with (
        subprocess.Popen(
            [*command, "--index", f"pages={folder}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        ) as process,
        killed_at_the_end(process),
    ):
        line = process.stdout.readline()
        [port] = re.findall(
            r"^http://127.0.0.1:(\d+) serves pages \(9 passages\)$", line
        )
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        connection.request(
            "POST",
            "/search",
            json.dumps({"query": "Page 3", "top_n": 1}),
            {"content-type": "application/json"},
        )
        [found] = json.load(connection.getresponse())
        assert found["id"] == "3"
        process.send_signal(number)
        start = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert process.returncode == status
        assert time.monotonic() - start < 10
        connection.close()
    if status == 0:
        assert json.loads(out) == {"requests": 1}
        assert err == ""
    else:
        assert err == "interrupted; the same command starts again\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--index", "{folder}", "--host", "0.0.0.0"], "can be reached from other"),
        (["--index", "{folder}", "--port", "65536"], "from 0 to 65535, got 65536"),
        (["--index", "{folder}", "--host", "no such host"], "has no address"),
        (["--index", "{folder}/nothing"], "is no index"),
        (["--index", "a=x", "--index", "a=y"], "two indexes are named 'a'"),
        (["--index", "x", "--index", "y"], "2 indexes have no name"),
        (["--index", "metrics=x"], "is no path of the server"),
        (["--index", "{folder}", "--max-k", "0"], "max_k must be > 0, got 0"),
        (["--index", "{folder}", "--encoder", "tfidf"], "expected package.module:NAME"),
        (["--index", "{folder}", "--token-file", "{folder}/index.json"], "a token of"),
        (["--index", "{folder}", "--token-file", "nothing"], "nothing"),
        (["--index", "{folder}", "--token-file", "{folder}/index.json/x"], "Not a dir"),
    ],
)
def test_bad_arguments_are_one_line(folder, capsys, arguments, error):
    words = [word.format(folder=folder) for word in arguments]
    port = [] if "--port" in words else ["--port", "0"]
    assert main(["serve", *port, *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxsearch serve: ")
    assert error in line


def test_a_taken_port_is_named(folder, capsys):
    with serving(GatedIndex(few_passages())) as server:
        assert main(["serve", "--index", str(folder), "--port", str(server.port)]) == 2
    assert f"port {server.port} (Address already in use)" in capsys.readouterr().err


def test_a_token_file_that_is_no_text_is_one_line(folder, capsys, tmp_path):
    file = tmp_path / "token"
    file.write_bytes(b"secret \xff\xfe")
    assert main(["serve", "--index", str(folder), "--token-file", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{file}: expected a token of visible ASCII" in line and "secret" not in line


def test_the_token_of_the_environment_is_not_shown(folder, capsys, monkeypatch):
    monkeypatch.setenv("JAXSEARCH_SERVE_TOKEN", "secret words")
    assert main(["serve", "--index", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "JAXSEARCH_SERVE_TOKEN: expected a token of visible ASCII" in error
    assert "secret" not in error
    monkeypatch.setenv("JAXSEARCH_SERVE_TOKEN", "secret")
    assert main(["serve", "--index", str(folder), "--no-auth"]) == 2
    assert "--no-auth and a token were given" in capsys.readouterr().err
