"""Control tags out of retrieved text, so that no passage can speak for the policy."""

import dataclasses
import functools
from collections.abc import Sequence

from jaxsearch.search.passages import Passage


def strip_tags(text: str, control_tags: Sequence[str]) -> tuple[str, int]:
    """The text without any control tag, and how many were deleted.

    Tags are literal and case-sensitive. What a deletion brings together is looked at
    again: `<a<ask>sk>` loses two tags `<ask>`. Of tags that overlap, the one that ends
    first is deleted; of those that end together, the longest.

    Takes time linear in the text: it is read once by an automaton whose state after
    each kept character is remembered, so that after a deletion it goes on from where
    the tag began.
    """
    tags = tuple(control_tags)
    if isinstance(control_tags, str) or not all(tags):
        raise ValueError(
            f"control_tags must be a sequence of non-empty strings, got "
            f"{control_tags!r}"
        )
    if not any(tag in text for tag in tags):
        return text, 0
    moves, ending_len = _automaton(tags)
    kept: list[str] = []
    states = [0]
    num_deleted = 0
    for character in text:
        state = moves[states[-1]].get(character, 0)
        kept.append(character)
        states.append(state)
        if ending_len[state]:
            del kept[-ending_len[state] :]
            del states[-ending_len[state] :]
            num_deleted += 1
    return "".join(kept), num_deleted


def clean_passages(
    passages: Sequence[Passage], control_tags: Sequence[str]
) -> tuple[list[Passage], int]:
    """The passages with their contents stripped, and how many tags were deleted.

    Passages that are joined need `strip_tags` again: two may hold a half each.
    """
    cleaned = []
    total = 0
    for passage in passages:
        contents, num_deleted = strip_tags(passage.contents, control_tags)
        cleaned.append(dataclasses.replace(passage, contents=contents))
        total += num_deleted
    return cleaned, total


@functools.lru_cache(maxsize=16)
def _automaton(
    tags: tuple[str, ...],
) -> tuple[list[dict[str, int]], list[int]]:
    """Aho and Corasick's automaton, with failures already followed.

    Returns each state's moves (a character without one leads to state 0), and the
    length of the longest tag that ends in it (0: none).
    """
    moves: list[dict[str, int]] = [{}]
    ending_len = [0]
    for tag in tags:
        state = 0
        for character in tag:
            if character not in moves[state]:
                moves[state][character] = len(moves)
                moves.append({})
                ending_len.append(0)
            state = moves[state][character]
        ending_len[state] = len(tag)
    # Breadth first: the state behind a failure is nearer the root, so it is complete.
    queue = [(child, 0) for child in moves[0].values()]
    for state, fallback in queue:
        ending_len[state] = ending_len[state] or ending_len[fallback]
        queue += [
            (child, moves[fallback].get(character, 0))
            for character, child in moves[state].items()
        ]
        moves[state] = moves[fallback] | moves[state]
    return moves, ending_len
