"""An index in another process, with real connections and failures."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index import SearchError
from jaxsearch.search.shared_index import ServerAddress, SharedIndex, serve

# A defect ends its thread with a traceback, which is what a user should see.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)


class Failing:
    def search(self, queries, k):
        raise SearchError("the disk is gone")


class Defective:
    def search(self, queries, k):
        raise KeyError("a defect")


@pytest.fixture(scope="module")
def exact(passages, encoder):
    return ExactIndex(passages, encoder)


@pytest.fixture(scope="module")
def shared(exact):
    return SharedIndex(serve([Failing(), exact]), 1)


def test_answers_are_those_of_the_index(exact, shared, queries):
    assert shared.search(queries, 5) == exact.search(queries, 5)
    assert shared.search([], 5) == []
    assert shared.search([" "], 3) == [[]]


def test_many_ask_at_once(exact, shared, queries):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda q: shared.search([q], 3), queries * 4))
    assert answers == [[hits] for hits in exact.search(queries, 3)] * 4


def test_the_failure_of_an_index_is_told():
    failing = SharedIndex(serve([Failing()]), 0)
    with pytest.raises(SearchError, match="the disk is gone"):
        failing.search(["a"], 1)


def test_a_defect_there_breaks_off_here():
    with pytest.raises(SearchError, match="closed the connection"):
        SharedIndex(serve([Defective()]), 0).search(["a"], 1)


def test_nobody_else_may_ask(exact):
    door = serve([exact])
    stranger = SharedIndex(ServerAddress(port=door.port, key=b"guessed"), 0)
    with pytest.raises(SearchError, match="refused"):
        stranger.search(["a"], 1)
    # Clients with the right key can still connect.
    assert SharedIndex(door, 0).search([" "], 1) == [[]]
