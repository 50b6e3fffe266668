"""Protocols: the text formats of policy, search and reward, one module per system."""

from jaxsearch.protocol.baselines import DIRECT, ITERATIVE, RETRIEVE_THEN_READ
from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.quickstart import QUICKSTART, QUICKSTART_R1_SEARCHER
from jaxsearch.protocol.r1_searcher import R1_SEARCHER, R1Searcher
from jaxsearch.protocol.research import RESEARCH, ReSearch
from jaxsearch.protocol.search_r1 import SEARCH_R1, SearchR1
from jaxsearch.protocol.tags import TagPair, ToolTags, xml_tags

__all__ = [
    "DIRECT",
    "ITERATIVE",
    "RETRIEVE_THEN_READ",
    "QUICKSTART",
    "QUICKSTART_R1_SEARCHER",
    "R1_SEARCHER",
    "RESEARCH",
    "SEARCH_R1",
    "Protocol",
    "R1Searcher",
    "ReSearch",
    "SearchR1",
    "TagPair",
    "ToolTags",
    "xml_tags",
]
