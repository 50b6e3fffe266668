"""Searches fail in every way that a program can; the run continues and counts them."""

import dataclasses
import http.client
import time
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import normalizers

from jaxsearch.config import RetrievalConfig
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.answer_checks import FAILURE_KINDS
from jaxsearch.env.environment import RolloutId
from jaxsearch.env.retries import RetryingRetriever
from jaxsearch.env.search import SearchEnvironment, observation_of, search_only
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.protocol import QUICKSTART, RESEARCH
from jaxsearch.search.index import Hit, SearchError
from jaxsearch.search.passages import Passage
from jaxsearch.train import train
from tests.env.sums import sums_config
from tests.tokenizer_folders import write_tokenizer


class OwnError(Exception):
    """An error of some library, which this package has never heard of."""


def hit_of(**fields):
    """A hit whose passage has wrong fields, as a retriever without checks makes it."""
    passage = Passage(id="p", contents="a passage")
    for name, value in fields.items():
        object.__setattr__(passage, name, value)
    return Hit(passage=passage, score=1.0)


def hit_without_passage():
    hit = hit_of()
    object.__setattr__(hit, "passage", None)
    return hit


ERRORS = {
    "unavailable": [SearchError("down")],
    "connection": [
        ConnectionResetError("reset"),
        http.client.IncompleteRead(b""),
        OSError(28, "disk"),
    ],
    "timeout": [TimeoutError("late")],
    "defect": [
        OwnError("what"),
        KeyError("title"),
        RecursionError("deep"),
        MemoryError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(),
        AssertionError(),
        RuntimeError("\x1b[2J\ud800"),
    ],
}
MALFORMED = [
    None,
    7,
    "text",
    b"bytes",
    {"a": []},
    [],
    [[], []],
    [None],
    ["text"],
    [[None]],
    [["text"]],
    [[{"id": "p", "contents": "a"}]],
    [[hit_of(id=3)]],
    [[hit_of(id=None)]],
    [[hit_of(contents=None)]],
    [[hit_of(contents=b"bytes")]],
    [[hit_of(contents="half \ud800 pair")]],
    [[hit_of(id="\udfff")]],
    [[hit_without_passage()]],
    [[hit_of()] * 4],
    iter([[]]),
]


class Faulty:
    """Raises an error, or returns it if it is none."""

    def __init__(self, fault):
        self.fault = fault

    def search(self, queries, k):
        if isinstance(self.fault, Exception):
            raise self.fault
        return self.fault


def faults():
    for kind, errors in ERRORS.items():
        yield from ((kind, error) for error in errors)
    yield from (("malformed", answer) for answer in MALFORMED)


# Numbered: the text of some answers holds an address of memory.
@pytest.mark.parametrize(
    ("kind", "fault"),
    [*faults()],
    ids=[f"{kind}-{number}" for number, (kind, _) in enumerate(faults())],
)
def test_every_fault_of_a_retriever_is_a_counted_attempt(kind, fault):
    index = RetryingRetriever(Faulty(fault), attempts=1, timeout_s=10.0)
    with pytest.raises(SearchError, match="no answer to 1 queries in 1 try"):
        index.search(["a"], 3)
    assert index.num_failures == {k: int(k == kind) for k in FAILURE_KINDS}
    # An environment without retries, as a tool of a user's may have it.
    environment = SearchEnvironment(
        retriever=Faulty(fault),
        protocol=QUICKSTART,
        num_passages=3,
        on_search_failure="drop",
    )
    [done] = environment.step([(RolloutId(0, 0, 0), "<search> a </search>")])
    assert done.call.has_failed and done.call.failure


@dataclasses.dataclass(frozen=True)
class Sometimes:
    """Finds nothing, or fails in one of several ways, in turn."""

    counts: Counter = dataclasses.field(default_factory=Counter, compare=False)

    def search(self, queries, k):
        self.counts["calls"] += 1
        kind = [*FAILURE_KINDS, ""][self.counts["calls"] % 6]
        self.counts[kind] += 1
        if kind == "malformed":
            return [[hit_of(contents=None)]] * len(queries)
        if kind:
            raise {
                "unavailable": SearchError("down"),
                "connection": ConnectionResetError("reset"),
                "timeout": TimeoutError("late"),
                "defect": OwnError("what"),
            }[kind]
        return [[] for _ in queries]


SOMETIMES = Sometimes()


@pytest.mark.slow
def test_a_run_whose_searches_fail_in_every_way_goes_on_and_counts(tmp_path):
    # A tiny vocabulary, so that it searches without a warm-up.
    config = sums_config(tmp_path / "run", has_search=True)
    config = dataclasses.replace(
        config,
        environment=search_only,
        retrieval=RetrievalConfig(retriever=SOMETIMES, num_passages=1, attempts=1),
        rollout=dataclasses.replace(config.rollout, on_search_failure="observe"),
        stages=config.stages[1:],
        steps=2,
    )
    SOMETIMES.counts.clear()
    train(config)
    lines = read_metrics(Path(config.out) / "metrics.jsonl")
    counted = {
        kind: sum(line.get(f"searches/failed_tries_{kind}", 0) for line in lines)
        for kind in FAILURE_KINDS
    }
    assert sum(counted.values()) > 0
    # Those of evaluations are not metrics of a step.
    assert all(counted[kind] <= SOMETIMES.counts[kind] for kind in FAILURE_KINDS)


def test_enormous_passages_take_no_time(tmp_path):
    """They are cut before they are encoded; two of 10 MB took 27 s."""
    tokenizer = Tokenizer.load(
        write_tokenizer(tmp_path / "t", normalizer=normalizers.NFKC())
    )
    environment = TokenEnvironment(
        environment=SearchEnvironment(
            retriever=Faulty([]),
            protocol=RESEARCH,
            num_passages=2,
            on_search_failure="drop",
        ),
        protocol=RESEARCH,
        tokenizer=tokenizer,
        max_observation_len=512,
    )
    text = "<se<search>arch> some words " * 400_000
    passages = [Passage(id=name, contents=text) for name in "ab"]
    started = time.monotonic()
    ids, call = environment.encode(observation_of(RESEARCH, "q", passages))
    assert time.monotonic() - started < 2.0
    assert len(ids) <= 512 and call.is_truncated
    found = tokenizer.decode(ids)
    assert "<search>" not in found and found.count("some words") > 10
    # A text that fits is not cut, however long its words are.
    words = Passage(id="c", contents="x" * 400)
    ids, call = environment.encode(observation_of(RESEARCH, "q", [words]))
    assert not call.is_truncated and "x" * 400 in tokenizer.decode(ids)
