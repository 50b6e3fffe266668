"""The text contracts between policy, search and reward, one module per system."""

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.quickstart import QUICKSTART, QUICKSTART_R1_SEARCHER
from jaxsearch.protocol.r1_searcher import R1_SEARCHER
from jaxsearch.protocol.research import EMPTY_RESULT, RESEARCH
from jaxsearch.protocol.search_r1 import SEARCH_R1
from jaxsearch.protocol.spans import answer_in, policy_runs, policy_text

__all__ = [
    "EMPTY_RESULT",
    "QUICKSTART",
    "QUICKSTART_R1_SEARCHER",
    "R1_SEARCHER",
    "RESEARCH",
    "SEARCH_R1",
    "Protocol",
    "answer_in",
    "policy_runs",
    "policy_text",
]
