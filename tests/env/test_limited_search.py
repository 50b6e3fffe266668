"""Searches beyond a limit, in rollouts that run at the same time."""

from jaxsearch.data.question import Question
from jaxsearch.env.environment import Done, RolloutId
from jaxsearch.env.limited_search import LimitedSearch
from jaxsearch.env.search import SearchEnvironment
from jaxsearch.protocol import DIRECT, RETRIEVE_THEN_READ, SEARCH_R1
from jaxsearch.run.environments import make_environment
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from tests.tiny import tiny_config

ENOUGH = "answer now"


class Echo:
    """Finds the query itself, and records what it was asked."""

    def __init__(self):
        self.queries = []

    def search(self, queries, k):
        self.queries += queries
        return [[Hit(passage=Passage(id=q, contents=q), score=1.0)] for q in queries]


def limited(max_searches):
    index = Echo()
    search = SearchEnvironment(
        retriever=index, protocol=SEARCH_R1, num_passages=1, on_search_failure="drop"
    )
    return index, LimitedSearch(search, max_searches, ENOUGH)


def turns(*rollouts):
    return [(RolloutId(0, i, 0), f"<search> q{i} </search>") for i in rollouts]


def begun(*rollouts):
    question = Question(id="q", question="q", golden_answers=("a",))
    return [(one, question) for one, _ in turns(*rollouts)]


def test_a_rollout_is_told_to_answer_once_and_then_ended():
    index, environment = limited(1)
    environment.start(begun(0, 1))
    [first] = environment.step(turns(0))
    assert first.call.passage_ids == ("q0",)
    # Rollout 1 has its own count.
    second, other = environment.step(turns(0, 1))
    assert second.text(()) == ENOUGH and second.call.query == ""
    assert other.call.passage_ids == ("q1",)
    third, again = environment.step(turns(0, 1))
    assert third == Done() and again.text(()) == ENOUGH
    assert index.queries == ["q0", "q1"]
    # A restarted rollout makes the same turns again.
    environment.close([turns(0)[0][0]])
    environment.start(begun(0))
    assert environment.step(turns(0))[0].call.passage_ids == ("q0",)


def test_only_a_protocol_that_searches_opens_the_index(tmp_path):
    opened = []

    def retriever():
        opened.append(True)
        return Echo()

    config = tiny_config(tmp_path / "run")
    for protocol in (DIRECT, RETRIEVE_THEN_READ):
        environment = make_environment(config, protocol, retriever)
        assert isinstance(environment, LimitedSearch)
        environment.start(begun(0))
        [answer] = environment.step(turns(0))
        assert (answer.text(()) == protocol.enough) is (protocol is DIRECT)
    assert len(opened) == 1


def test_without_any_search_the_index_is_not_asked():
    index, environment = limited(0)
    environment.start(begun(0))
    assert environment.step(turns(0))[0].text(()) == ENOUGH
    assert environment.step(turns(0)) == [Done()]
    assert not index.queries
    assert environment.stop_tags == SEARCH_R1.own_stop_tags
    texts = [one.text(()) for one in environment.shortest_observations()]
    assert ENOUGH in texts and len(texts) == 2
