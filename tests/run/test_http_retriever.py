"""An HTTP retriever given by value in a config: used in training and restored."""

import dataclasses
import functools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jaxsearch.config import RetrievalConfig
from jaxsearch.env.search import search_only
from jaxsearch.evaluation.options import AnswerOptions
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.config_record import resolved, restored
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.loading import load_run
from jaxsearch.run.options import RunOptions
from jaxsearch.run.overrides import overridden
from jaxsearch.run.retrievers import open_retrievers
from jaxsearch.train import train
from tests.env.sums import sums_config
from tests.search.http_retriever import LOCAL, HttpRetriever


@pytest.fixture
def server():
    """A server on loopback: its address, the queries it received, and its failures."""
    state = {"queries": [], "num_failing": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state["queries"] += asked["queries"]
            if state["num_failing"]:
                state["num_failing"] -= 1
                self.send_error(503, "overloaded")
                return
            answers = [
                [{"id": f"p-{query}", "contents": f"t\n{query} is old .", "score": 1.0}]
                for query in asked["queries"]
            ]
            body = json.dumps(answers).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        state["url"] = f"http://127.0.0.1:{http.server_port}/retrieve"
        yield state
        http.shutdown()


def config_with(out, retriever):
    """A run with a tiny vocabulary, so that it searches without a warm-up."""
    config = sums_config(out, has_search=True)
    return dataclasses.replace(
        config,
        environment=search_only,
        retrieval=RetrievalConfig(retriever=retriever, num_passages=1, attempts=2),
        stages=config.stages[1:],
    )


@pytest.mark.parametrize("is_object", [True, False])
def test_a_run_searches_over_http_and_finds_it_again(server, tmp_path, is_object):
    if is_object:
        retriever = HttpRetriever(url=server["url"])
    else:
        retriever = functools.partial(HttpRetriever, url=server["url"])
    config = config_with(tmp_path / "run", retriever)
    server["num_failing"] = 1
    train(config)
    lines = read_metrics(Path(config.out) / "metrics.jsonl")
    assert lines[0]["searches/mean"] > 0.0
    assert all(line["searches/failed"] == 0.0 for line in lines)
    assert not (Path(config.out) / "indexes").exists()
    [first, *_] = rollout_files(Path(config.out)).values()
    calls = [call for one in read_rollouts(first) for call in one.tool_calls]
    assert calls
    for call in calls:
        assert call.query in server["queries"]
        assert call.passage_ids == (f"p-{call.query}",)
    # The run's record is sufficient to evaluate it with the same retriever.
    loaded, _ = load_run(config.out)
    assert loaded.config.retrieval == config.retrieval or not is_object
    server["queries"].clear()
    evaluate_to(
        tmp_path / "eval",
        model=config.out,
        options=RunOptions(limit=2),
        answers=AnswerOptions(temperature=1.0),
    )
    assert server["queries"]


def test_a_server_that_stays_away_is_a_failed_search(server, tmp_path):
    config = config_with(tmp_path / "run", HttpRetriever(url=server["url"]))
    server["num_failing"] = 10**9
    config = dataclasses.replace(
        config, rollout=dataclasses.replace(config.rollout, on_search_failure="observe")
    )
    train(dataclasses.replace(config, steps=1))
    [line] = read_metrics(Path(config.out) / "metrics.jsonl")
    assert line["searches/failed"] == 1.0 and line["searches/retries"] > 0.0
    [path] = rollout_files(Path(config.out)).values()
    calls = [call for one in read_rollouts(path) for call in one.tool_calls]
    assert all("HTTP Error 503: overloaded" in call.failure for call in calls)


def test_the_record_restores_the_retriever():
    for retriever in (
        HttpRetriever(url="http://host:8000", timeout_s=2.0),
        functools.partial(HttpRetriever, url="http://host:8000"),
        HttpRetriever,
    ):
        config = config_with(Path("run"), retriever)
        again = restored(json.loads(json.dumps(resolved(config)))).retrieval.retriever
        if isinstance(retriever, functools.partial):
            assert (again.func, again.keywords) == (retriever.func, retriever.keywords)
        else:
            assert again == retriever


def test_a_retriever_on_the_command_line():
    config = config_with(Path("run"), None)
    name = "tests.search.http_retriever:LOCAL"
    found = overridden(config, ["--retrieval.retriever", name], "run.py")
    assert found.retrieval.retriever == LOCAL
    assert resolved(found)["retrieval"]["retriever"] == name


class Nothing:
    """A retriever whose class is given instead of an instance."""

    def search(self, queries, k):
        return [[] for _ in queries]


def test_a_retriever_is_opened_or_taken_as_it_is():
    def opened(retriever):
        config = config_with(Path("run"), retriever)
        return open_retrievers(config, load_inputs(config))

    there = HttpRetriever(url="http://host")
    assert opened(there) == (there, there)
    made = functools.partial(HttpRetriever, url="http://host")
    assert opened(made) == (there, there)
    assert isinstance(opened(Nothing)[0], Nothing)
    with pytest.raises(ValueError, match="must return an object with a method search"):
        opened(functools.partial(dict, url="http://host"))


@pytest.mark.parametrize("name", ["corpus", "index"])
def test_a_retriever_excludes_passages_and_an_index(name):
    with pytest.raises(ValueError, match=f"retriever and retrieval.{name} exclude"):
        RetrievalConfig(retriever=HttpRetriever(url="http://host"), **{name: "a"})
