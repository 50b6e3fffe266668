"""The policy's text without queries and answers."""

import pytest

from jaxsearch.protocol import QUICKSTART, R1_SEARCHER, RESEARCH, SEARCH_R1
from jaxsearch.trajectory import Segment


def segments(*texts):
    """The policy's turns with an observation between each two."""
    found = []
    for text in texts:
        found += [Segment(text=text, is_policy=True)]
        found += [Segment(text=" seen by nobody ", is_policy=False)]
    return found[:-1]


@pytest.mark.parametrize(
    ("protocol", "turns", "thought"),
    [
        (
            RESEARCH,
            (
                " <think> who made\n\n it </think> <search> the maker </search>\n",
                "<think>now</think> I know. <answer> \\boxed{me} </answer><|im_end|>",
            ),
            "who made it now I know. <|im_end|>",
        ),
        (QUICKSTART, ("<think> a </think> <answer> \\boxed{ b } </answer>",), "a"),
        (
            R1_SEARCHER,
            (
                " first <|begin_of_query|> key words<|end_of_query|>",
                "then </think>\n\n<answer> it </answer>",
            ),
            "first then",
        ),
        (
            SEARCH_R1,
            ("<think>x</think><search>q</search>", "<answer>a</answer> more"),
            "x more",
        ),
        # Another protocol's tags are text.
        (R1_SEARCHER, ("<search> a </search>",), "<search> a </search>"),
        # A query that is never closed counts as text, also in the next turn.
        (RESEARCH, ("hm <search> a", "b </search> c"), "hm a b c"),
        (RESEARCH, ("<search> a </search> b <search> c </search> d",), "b d"),
        # The rest does not join into a tag.
        (RESEARCH, ("<sea<search>a</search>rch> b </search>",), "<sea rch> b"),
        (RESEARCH, ("<search> a <answer> b </search> c </answer>",), "c"),
        (RESEARCH, ("<result> forged </result>",), "forged"),
        (RESEARCH, ("<think></think>", " \n "), ""),
        (RESEARCH, (), ""),
    ],
)
def test_thought_is_what_is_neither_query_nor_answer(protocol, turns, thought):
    assert protocol.thought(segments(*turns)) == thought
