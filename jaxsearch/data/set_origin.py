"""The source file of a prepared set: FlashRAG's files, and the record of a file."""

import re
from pathlib import Path

from jaxsearch.data.known_sets import FLASHRAG, KNOWN_SETS, known_set, near_names
from jaxsearch.data.prepared_set import Origin, open_split, prepared_splits
from jaxsearch.data.records import SUFFIXES
from jaxsearch.data.set_checksums import file_sha256
from jaxsearch.hub_files import fetched, hub_file, is_hub_file, pinned

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "test": "test",
}


def split_in(file: str) -> str:
    """The split in the name of a file; train if there is none."""
    words = re.split(r"[^a-z]+", Path(file).name.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), "train")


def hub_addresses(
    name: str, split: str, revision: str, replace: bool
) -> dict[str, str]:
    """The addresses of FlashRAG's files of a set, by split.

    Raises:
      ValueError: if the set or the split does not exist.
    """
    known = known_set(name)
    if known is None:
        names = [one.name for one in KNOWN_SETS]
        raise ValueError(
            f"unknown set {name!r}{near_names(name, names)}; known: "
            f"{', '.join(names)}; prepare a set of your own with --from FILE"
        )
    if split and split not in known.splits:
        raise ValueError(
            f"{known.title} has no split {split!r} in {FLASHRAG}; it has "
            f"{', '.join(known.splits)}"
        )
    splits = [split] if split else known.splits
    there = prepared_splits(known.name)
    addresses = {}
    for one in splits:
        address = known.address(one)
        if revision:
            address = f"{address}@{revision}"
        elif one in there and not replace:
            before = open_split(known.name, one).record.origin.address
            is_same = is_hub_file(before) and hub_file(address).may_be(hub_file(before))
            address = before if is_same else address
        addresses[one] = address
    return addresses


def origin_of(file: str) -> tuple[Origin, Path]:
    """The origin of a file, and its local copy.

    Raises:
      ValueError: if it is missing or cannot be fetched.
    """
    address = pinned(file, SUFFIXES)
    path = fetched(address, SUFFIXES)
    if not path.is_file():
        raise ValueError(f"{file}: no such file; check the path")
    if not is_hub_file(address):
        address = str(path.absolute())
    origin = Origin(
        address=address, sha256=file_sha256(path), num_bytes=path.stat().st_size
    )
    return origin, path
