"""Stop tags as a state table over token ids, to match them on the device."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def stop_table(
    id_bytes: Sequence[bytes], stop_tags: Sequence[str], vocab_size: int
) -> Int[np.ndarray, "states V"]:
    """The automaton `state = table[state, token]` that finds tags in sampled bytes.

    State 0 is the start. A state represents the longest suffix of the sampled bytes
    that is a prefix of a tag (Aho and Corasick 1975); the last state means that a tag
    is complete, and is never left. A token may contain bytes before, inside and after a
    tag, or a whole tag. All of its bytes are processed, so it does not matter which ids
    spell the tag.

    Args:
      id_bytes: exact bytes of every id; larger ids have no bytes.
      stop_tags: non-empty strings.
      vocab_size: columns of the table, at least len(id_bytes).

    Raises:
      ValueError: if there are no tags, an empty tag, or more ids than columns.
    """
    tags = [tag.encode() for tag in stop_tags]
    if not tags or not all(tags):
        raise ValueError(f"stop tags must be non-empty strings, got {list(stop_tags)}")
    if len(id_bytes) > vocab_size:
        raise ValueError(
            f"the tokenizer has {len(id_bytes)} ids, but the model has only "
            f"{vocab_size}; use the tokenizer of the model"
        )
    step = _byte_automaton(tags)
    by_len: dict[int, list[int]] = {}
    for i, piece in enumerate(id_bytes):
        by_len.setdefault(len(piece), []).append(i)
    num_states = len(step)
    table = np.tile(np.arange(num_states, dtype=np.int32)[:, None], (1, vocab_size))
    for num_bytes, ids in by_len.items():
        if num_bytes == 0:
            continue
        pieces = np.frombuffer(b"".join(id_bytes[i] for i in ids), np.uint8)
        pieces = pieces.reshape(len(ids), num_bytes)
        states = np.tile(np.arange(num_states, dtype=np.int32)[:, None], (1, len(ids)))
        for column in range(num_bytes):
            states = step[states, pieces[None, :, column]]
        table[:, ids] = states
    return table


def num_stop_states(stop_tags: Sequence[str]) -> int:
    """Number of rows of the `stop_table` of these tags, for any tokenizer."""
    return len(_byte_automaton([tag.encode() for tag in stop_tags]))


def stop_states(stop_tags: Sequence[str]) -> list[str]:
    """What each state of the `stop_table` but the last has seen: the start of a tag.

    Example:
      >>> stop_states(["<a>", "<bc>"])
      ['', '<', '<a', '<b', '<bc']
    """
    prefixes = _prefixes([tag.encode() for tag in stop_tags])
    return [prefix.decode(errors="replace") for prefix in prefixes]


def _prefixes(tags: list[bytes]) -> list[bytes]:
    prefixes = {b""}
    for tag in tags:
        prefixes |= {tag[:i] for i in range(len(tag))}
    # A prefix that contains another whole tag is never reached.
    prefixes = {p for p in prefixes if not any(tag in p for tag in tags)}
    return sorted(prefixes, key=lambda p: (len(p), p))


def _byte_automaton(tags: list[bytes]) -> Int[np.ndarray, "states 256"]:
    order = _prefixes(tags)
    number = {prefix: i for i, prefix in enumerate(order)}
    complete = len(order)
    step = np.zeros((complete + 1, 256), np.int32)
    step[complete] = complete
    for prefix, state in number.items():
        for byte in range(256):
            text = prefix + bytes([byte])
            if any(text.endswith(tag) for tag in tags):
                step[state, byte] = complete
                continue
            step[state, byte] = next(
                number[text[i:]] for i in range(len(text) + 1) if text[i:] in number
            )
    return step
