"""Choice of an index: which kind to build on this machine, and reading either kind."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.index_folder import Manifest
from jaxsearch.search.passages import Passage
from jaxsearch.search.scann_index import ScannIndex
from jaxsearch.search.scann_scorer import BruteForce, Scorer


def build_index(
    passages: Sequence[Passage],
    encoder: Encoder,
    *,
    scorer: Scorer | None = None,
    num_threads: int | None = None,
    platform: str = sys.platform,
) -> ScannIndex | ExactIndex:
    """Builds a ScannIndex on Linux, and an ExactIndex where ScaNN has no wheels.

    The `kind` of the result is "scann" or "exact".

    Raises:
      ValueError: if `scorer` asks for a tree on a platform without ScaNN.
    """
    if platform == "linux":
        return ScannIndex.build(
            passages, encoder, scorer=scorer, num_threads=num_threads
        )
    if scorer not in (None, BruteForce()):
        raise ValueError(
            f"ScaNN is not available on {platform}, so {scorer} cannot be built; omit "
            "scorer"
        )
    return ExactIndex(passages, encoder)


def load_index(
    folder: str | Path,
    *,
    corpus_fingerprint: str | None = None,
    encoder: Encoder | EncoderFactory | None = None,
    query_device: QueryDevice = "host",
) -> ScannIndex | ExactIndex:
    """Reads an index of either kind; the arguments are those of `read_index`.

    Raises:
      ValueError: if the folder is damaged, or was built from another corpus or with
        another encoder.
    """
    kinds = {kind.kind: kind for kind in (ScannIndex, ExactIndex)}
    found = Manifest.read(Path(folder)).kind
    if found not in kinds:
        raise ValueError(
            f"index {folder}: expected a kind among {sorted(kinds)}, found {found!r}"
        )
    return kinds[found].load(
        folder,
        corpus_fingerprint=corpus_fingerprint,
        encoder=encoder,
        query_device=query_device,
    )
