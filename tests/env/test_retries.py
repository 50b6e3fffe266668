"""An index that fails, hangs or miscounts, with real threads and timeouts."""

import http.client
import math
import subprocess
import sys
import threading
import time
import urllib.error

import pytest

from jaxsearch.env.answer_checks import FAILURE_KINDS
from jaxsearch.env.retries import RetryingRetriever, attempt_counts
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index import SearchError


@pytest.fixture(scope="module")
def exact(passages, encoder):
    return ExactIndex(passages, encoder)


class TroubledIndex:
    """A real index whose first calls are replaced by the given functions, in order."""

    def __init__(self, index, *troubles):
        self.index, self.troubles = index, list(troubles)
        self.asked_at = []

    def search(self, queries, k):
        self.asked_at.append(time.monotonic())
        if self.troubles:
            return self.troubles.pop(0)(self.index, queries, k)
        return self.index.search(queries, k)


def raising(error):
    def trouble(index, queries, k):
        raise error

    return trouble


def hanging(release):
    """Returns no hits, but only after the event is set."""

    def trouble(index, queries, k):
        release.wait()
        return [[] for _ in queries]

    return trouble


def one_list_short(index, queries, k):
    return index.search(queries, k)[1:]


def one_list_long(index, queries, k):
    return [*index.search(queries, k), []]


def one_hit_long(index, queries, k):
    first, *rest = index.search(queries, k)
    return [[*first, first[0]], *rest]


def patient(index, attempts=3, timeout_s=30.0):
    return RetryingRetriever(index, attempts=attempts, timeout_s=timeout_s)


@pytest.fixture
def release():
    """An event that is set at the end, so that every thread of a test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_an_index_without_trouble_is_asked_once(exact, queries):
    troubled = TroubledIndex(exact)
    index = patient(troubled)
    assert index.search(queries, 3) == exact.search(queries, 3)
    assert (len(troubled.asked_at), index.num_retries) == (1, 0)


AWAY = [
    SearchError("overloaded"),
    ConnectionRefusedError(111, "refused"),
    TimeoutError("timed out"),
    urllib.error.URLError("no route"),
    http.client.IncompleteRead(b"{"),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
def test_a_retriever_that_comes_back_is_asked_again(exact, queries, error):
    index = patient(TroubledIndex(exact, raising(error), raising(error)))
    assert index.search(queries, 3) == exact.search(queries, 3)
    assert index.num_retries == 2
    assert index.search(queries, 3) == exact.search(queries, 3)
    assert index.num_retries == 2


@pytest.mark.parametrize("trouble", [one_list_short, one_list_long, one_hit_long])
def test_wrong_numbers_of_results_are_no_answer(exact, queries, trouble):
    index = patient(TroubledIndex(exact, trouble))
    assert index.search(queries, 3) == exact.search(queries, 3)
    assert index.num_retries == 1


@pytest.mark.slow
def test_the_last_failure_says_what_happened_each_time(exact, queries, release):
    troubled = TroubledIndex(
        exact,
        raising(ConnectionRefusedError(111, "re-\nfused " * 1000)),
        hanging(release),
        one_list_short,
        one_hit_long,
    )
    index = patient(troubled, attempts=4, timeout_s=0.1)
    with pytest.raises(SearchError) as failed:
        index.search(queries[:3], 3)
    text = str(failed.value)
    assert text.startswith("no answer to 3 queries in 4 tries: (1) ConnectionRefused")
    assert "re- fused" in text and len(text) < 500
    for reason in (
        "; (2) no answer within 0.1 s",
        "; (3) 2 lists of hits for 3 queries",
        "; (4) 4 hits for a query, at most 3 were asked for",
    ):
        assert reason in text
    assert (len(troubled.asked_at), index.num_retries) == (4, 3)


@pytest.mark.parametrize("defect", [TypeError, ValueError, KeyError, RuntimeError])
def test_a_defect_is_a_failed_attempt(exact, queries, defect):
    troubled = TroubledIndex(exact, raising(defect("theirs")))
    index = patient(troubled)
    assert index.search(queries, 3) == exact.search(queries, 3)
    assert (index.num_retries, index.num_failures["defect"]) == (1, 1)
    always = patient(TroubledIndex(exact, *[raising(defect("theirs"))] * 2), attempts=2)
    with pytest.raises(SearchError, match=f"{defect.__name__}: .*theirs"):
        always.search(queries, 3)


def test_a_call_that_hangs_is_given_up(exact, queries, release):
    index = patient(TroubledIndex(exact, hanging(release)), timeout_s=0.3)
    started = time.monotonic()
    assert index.search(queries, 3) == exact.search(queries, 3)
    assert 0.3 < time.monotonic() - started < 10.0
    assert index.num_retries == 1


@pytest.mark.slow
def test_an_answer_that_comes_too_late_is_not_taken(exact, queries, release):
    """It arrives during the second try."""

    def answer_after_the_other(index, queries, k):
        release.set()
        time.sleep(0.3)
        return index.search(queries, k)

    troubled = TroubledIndex(exact, hanging(release), answer_after_the_other)
    found = patient(troubled, timeout_s=2.0).search(queries, 3)
    assert found == exact.search(queries, 3)


@pytest.mark.slow
def test_pauses_between_tries_grow(exact, queries):
    troubled = TroubledIndex(exact, *[raising(SearchError("no"))] * 3)
    patient(troubled, attempts=4).search(queries, 3)
    first, second, third = (
        later - before
        for before, later in zip(troubled.asked_at, troubled.asked_at[1:], strict=False)
    )
    assert 0.2 < first < second < third


@pytest.mark.parametrize(
    ("attempts", "timeout_s"), [(0, 1.0), (1, 0.0), (1, math.inf), (1, math.nan)]
)
def test_settings_that_never_end_or_never_begin_are_refused(exact, attempts, timeout_s):
    with pytest.raises(ValueError, match="at least 1 attempt and a positive"):
        patient(exact, attempts, timeout_s)


PROGRAM = """
import threading
from jaxsearch.env.daemon_executor import DaemonExecutor
from jaxsearch.env.answer_checks import FAILURE_KINDS
from jaxsearch.env.retries import RetryingRetriever, attempt_counts

class Hanging:
    def search(self, queries, k):
        asked.set()
        threading.Event().wait()

asked = threading.Event()
index = RetryingRetriever(Hanging(), attempts=1, timeout_s=600.0)
with DaemonExecutor() as background:
    background.submit(index.search, ["q"], 1)
    asked.wait()
print("over")
"""


def test_a_process_ends_while_a_search_hangs():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


def test_what_a_retriever_counts_is_counted_with_its_attempts():
    class Counting:
        def search(self, queries, k):
            raise ConnectionError("gone")

        def search_counts(self):
            return {"web/queries": 3.0}

    retriever = patient(Counting(), attempts=2)
    with pytest.raises(SearchError):
        retriever.search(["a"], 1)
    none = dict.fromkeys((f"searches/failed_tries_{kind}" for kind in FAILURE_KINDS), 0)
    counts = {"searches/retries": 1.0, "searches/failed_tries_connection": 2.0}
    assert retriever.search_counts() == none | counts | {"web/queries": 3.0}
    assert attempt_counts() == none | {"searches/retries": 0.0}
