"""The text contracts between policy, search and reward, one module per system."""

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.research import EMPTY_RESULT, QUICKSTART, RESEARCH
from jaxsearch.protocol.spans import answer_in, policy_runs, policy_text

__all__ = [
    "EMPTY_RESULT",
    "QUICKSTART",
    "RESEARCH",
    "Protocol",
    "answer_in",
    "policy_runs",
    "policy_text",
]
