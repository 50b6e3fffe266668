"""Turns per second against a server that takes 200 ms for each."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxsearch.data.question import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.protocol import QUICKSTART
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from jaxsearch.served.client import ModelClient, ServerSettings
from jaxsearch.served.completions import RequestFields
from jaxsearch.served.sampler import ServedSampler
from jaxsearch.trajectory import Status
from tests.environments import search_environment
from tests.served.slow_server import SECONDS

SERVER = Path(__file__).with_name("slow_server.py")
AT_ONCE = 64
# The target is 0.8, on two cores without other work; tests share them.
LEAST_SHARE = 0.5


class OnePassage:
    def search(self, queries, k):
        contents = "Parruk\nParruk was born in Zegbol and married Sevviz."
        return [[Hit(passage=Passage(id="0", contents=contents), score=1.0)]] * len(
            queries
        )


@pytest.fixture
def server():
    """The address of the server, in its own process, and a tokenizer."""
    tokenizer = Tokenizer.load("jaxsearch:quickstart")
    search = tokenizer.encode(" <think> Parruk </think> <search> Parruk </search>")
    answer = tokenizer.encode(" <answer> \\boxed{ Zegbol } </answer>")
    answer.append(tokenizer.end_id)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [json.dumps(word) for word in (port, search, answer)]
    with subprocess.Popen([sys.executable, str(SERVER), *words]) as process:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}/v1", tokenizer
        finally:
            process.terminate()


def _wait_for(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"no server on port {port}")


def test_64_rollouts_at_once_keep_a_server_busy(server):
    url, tokenizer = server
    sampler = ServedSampler(
        ModelClient(url, ServerSettings(concurrency=AT_ONCE)),
        RequestFields(model="policy", stop=QUICKSTART.stop_tags),
        Budgets(
            num_slots=1,
            max_len=200,
            max_prompt_len=40,
            max_turn_len=40,
            max_observation_len=28,
            max_calls=4,
        ),
        QUICKSTART,
        tokenizer,
        seed=0,
        note=print,
    )
    environment = search_environment(
        OnePassage(), QUICKSTART, tokenizer, max_observation_len=28
    )
    asked = Question(id="q", question="Where was Parruk born?", golden_answers=("a",))
    done, timing = sampler.run(
        None,
        [(i, asked) for i in range(4 * AT_ONCE)],
        environment,
        group_size=1,
        stage=0,
        temperature=0.0,
    )
    assert {one.status for one in done} == {Status.ANSWERED}
    assert timing.num_decode_calls >= 3 * len(done)
    possible = AT_ONCE / SECONDS
    assert timing.num_decode_calls / timing.seconds > LEAST_SHARE * possible
