"""Fixtures: an invented corpus, and a real one where it is available."""

from pathlib import Path

import numpy as np
import pytest

from jaxsearch.search.passages import Passage, read_passages, write_passages
from jaxsearch.search.tfidf_encoder import TfidfEncoder

SYLLABLES = np.array(["ka", "mo", "ri", "ten", "sul", "ba", "vor", "ny", "el", "os"])


@pytest.fixture(scope="session")
def passages() -> list[Passage]:
    """600 passages about invented names, with common words between rare ones."""
    rng = np.random.default_rng(0)

    def names(num: int) -> list[str]:
        return ["".join(row) for row in rng.choice(SYLLABLES, size=(num, 4))]

    words = np.array(names(300))
    return [
        Passage(
            id=f"p{i}",
            contents=f'"{name.title()}"\n{name.title()} is the smith of {town}. It '
            f"likes {' '.join(words[rng.integers(len(words), size=12)])}.",
        )
        for i, (name, town) in enumerate(zip(names(600), names(600), strict=True))
    ]


@pytest.fixture(scope="session")
def encoder(passages) -> TfidfEncoder:
    return TfidfEncoder.fit(passages, dims=256, seed=3)


@pytest.fixture(scope="session")
def queries(passages) -> list[str]:
    """Titles, and words from the middle of passages."""
    titles = [passage.title for passage in passages[::7]]
    return titles + [" ".join(p.text.split()[4:9]) for p in passages[3::11]]


@pytest.fixture(scope="session")
def wiki() -> list[Passage]:
    """6,000 real passages."""
    shared = Path(__file__).resolve().parents[2].parent / "shared"
    path = shared / "data" / "corpus" / "multihop_wiki.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return read_passages(path)[:6000]


@pytest.fixture(scope="module")
def corpus(passages, tmp_path_factory) -> Path:
    """The passages as a file."""
    path = tmp_path_factory.mktemp("corpus") / "c.jsonl"
    write_passages(passages, path)
    return path
