"""Deletes control tags from text, so that passages cannot imitate the policy."""

import functools
from collections.abc import Sequence


def strip_tags(text: str, control_tags: Sequence[str]) -> tuple[str, int]:
    """Returns the text without control tags, and the number of deleted tags.

    Tags are literal and case-sensitive. Text that a deletion joins is checked again:
    `<a<ask>sk>` loses two tags `<ask>`. Among tags that overlap, the one that ends
    first is deleted; among those that end together, the longest.

    The time is linear in the length of the text: an automaton reads it once and stores
    its state after each character, so that after a deletion it continues from the
    state before the tag.

    Raises:
      ValueError: for an empty tag, or a string in place of a sequence of tags.
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


def strip_all(
    texts: Sequence[str], control_tags: Sequence[str]
) -> tuple[list[str], int]:
    """Returns the texts without control tags, and the number of deleted tags.

    If the texts are joined afterwards, apply `strip_tags` again, because two of them
    may contain half a tag each.
    """
    stripped = [strip_tags(text, control_tags) for text in texts]
    return [text for text, _ in stripped], sum(num for _, num in stripped)


@functools.lru_cache(maxsize=16)
def _automaton(
    tags: tuple[str, ...],
) -> tuple[list[dict[str, int]], list[int]]:
    """The automaton of Aho and Corasick, with failure links already followed.

    Returns:
      The moves of each state (a character without a move leads to state 0), and the
      length of the longest tag that ends in each state (0: none).
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
    # Breadth first, because a failure link leads to a state nearer the root, which must
    # be complete.
    queue = [(child, 0) for child in moves[0].values()]
    for state, fallback in queue:
        ending_len[state] = ending_len[state] or ending_len[fallback]
        queue += [
            (child, moves[fallback].get(character, 0))
            for character, child in moves[state].items()
        ]
        moves[state] = moves[fallback] | moves[state]
    return moves, ending_len
